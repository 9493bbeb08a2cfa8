"""The books of hooks, and what is owed to them: a delivery waits from the entry on that caused it, so none is lost with
the daemon that should have made it."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import hooks
from quarterstore.records.base import Event
from quarterstore.records.registry import StageMoved

MOST_WAITING = 1000
"""Deliveries that wait for one hook; what comes beyond them is a dead letter at once."""
KEPT = 200
"""Deliveries of one hook that are kept once they are over; those that were made go first."""


def owe(state: State, event: Event) -> None:
    """Note what an event owes to each hook; called after its own fold, by the writer and by a rebuild alike."""
    if type(event) not in hooks.OWED:
        return
    if isinstance(event, StageMoved):
        for key in [key for key, each in state.gate_answers.rows.items() if each.version == event.version]:
            state.gate_answers.drop(key)  # an answer is good for one move
    for hook in list(state.hooks):
        if not hooks.wants(hook, event):
            continue
        if hook.paused:
            state.hooks.put(copy_of(hook, skipped=hook.skipped + 1))
        else:
            _owe_one(state, hook, event)


def _owe_one(state: State, hook: hooks.Hook, event: Event) -> None:
    seq, nth = state.context.seq, 0
    # the events of an entry are folded in one go by a rebuild and in several by the writer: count what is there
    while (own := hooks.delivery_id(seq, nth, hook.id)) in state.deliveries:
        nth += 1
    full = hook.waiting >= MOST_WAITING
    state.deliveries.put(
        hooks.Delivery(
            id=own,
            hook=hook.id,
            event=hook.event if not isinstance(event, hooks.HookTested) else "test",
            seq=seq,
            nth=nth,
            at=state.context.at,
            state="FAILED" if full else "WAITING",
            subject=hooks.subject_of(event),
            ended=state.context.at if full else None,
            error=f"{MOST_WAITING} deliveries waited already" if full else None,
        )
    )
    state.hooks.put(copy_of(hook, waiting=hook.waiting + (not full), failed=hook.failed + full))
    if full:
        _forget_old(state, hook.id)


def _added(state: State, event: hooks.HookAdded) -> None:
    state.hooks.put(event.hook)


def _removed(state: State, event: hooks.HookRemoved) -> None:
    state.hooks.drop(event.hook)
    for book in (state.deliveries, state.gate_answers):
        for key in [key for key, each in book.rows.items() if each.hook == event.hook]:
            book.drop(key)


def _paused(state: State, event: hooks.HookPaused | hooks.HookResumed) -> None:
    state.hooks.put(copy_of(state.hooks[event.hook], paused=isinstance(event, hooks.HookPaused)))


def _over(state: State, event: hooks.DeliveryMade | hooks.DeliveryFailed) -> None:
    made = isinstance(event, hooks.DeliveryMade)
    error = None if isinstance(event, hooks.DeliveryMade) else event.error
    delivery, hook = state.deliveries[event.delivery], state.hooks[event.hook]
    over = copy_of(delivery, state="MADE" if made else "FAILED", attempts=event.attempts, ended=event.at, error=error)
    state.deliveries.put(over)
    state.hooks.put(
        copy_of(
            hook,
            waiting=hook.waiting - 1,
            made=hook.made + made,
            failed=hook.failed + (not made),
            last=event.at,
            last_error=error,
        )
    )
    _forget_old(state, hook.id)


def _forget_old(state: State, hook: str) -> None:
    over = [each for each in state.deliveries if each.hook == hook and each.state != "WAITING"]
    over.sort(key=lambda each: (each.state == "FAILED", each.seq, each.nth))
    for each in over[: max(0, len(over) - KEPT)]:
        # one of this very entry keeps its place, or the next of the entry would be given its id
        if each.seq != state.context.seq:
            state.deliveries.drop(each.id)


def _again(state: State, event: hooks.DeliveryAskedAgain) -> None:
    delivery = state.deliveries[event.delivery]
    hook = state.hooks[delivery.hook]
    again = copy_of(delivery, state="WAITING", rounds=delivery.rounds + 1, attempts=(), ended=None, error=None)
    state.deliveries.put(again)
    state.hooks.put(copy_of(hook, waiting=hook.waiting + 1))


def _answered(state: State, event: hooks.GateAnswered) -> None:
    state.gate_answers.put(event.answer)


def _tested(state: State, event: hooks.HookTested) -> None:
    """What it owes is noted as for every event."""


FOLDS: dict[type, Fold] = {
    hooks.HookAdded: _added,
    hooks.HookRemoved: _removed,
    hooks.HookPaused: _paused,
    hooks.HookResumed: _paused,
    hooks.HookTested: _tested,
    hooks.DeliveryMade: _over,
    hooks.DeliveryFailed: _over,
    hooks.DeliveryAskedAgain: _again,
    hooks.GateAnswered: _answered,
}
