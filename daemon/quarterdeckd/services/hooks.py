"""The rules of hooks: what may be called for what, what became of each delivery, what a gate answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.targets import check_address, checked_url
from quarterstore.ledger.finding import model_of, one_of
from quarterstore.ledger.state import State
from quarterstore.records import hooks, monitoring
from quarterstore.records.base import Act, Event
from quarterstore.records.faults import Conflict, Refused, got, missing
from quarterstore.records.names import checked_name, checked_text, drawn
from quarterstore.records.registry import STAGES

MOST = 100
"""Hooks of one deck."""
MOST_ARGS, LONGEST_ARG = 32, 1000
GATED = ("Staging", "Production")
_secret = re.compile(r"hooksecret-[0-9a-z]{16}\Z")


def _add(state: State, act: hooks.AddHook, asking: Asking) -> Decision:
    _check_when(state, act)
    if len(state.hooks) >= MOST:
        raise Refused(f"there are {MOST} hooks already", field="event", next="qd hook rm one of them")
    kind, target = _checked_target(act)
    same = (act.event, target, act.args, act.model, act.stage, act.gate)
    for each in state.hooks:
        if (each.event, each.target, each.args, each.model, each.stage, each.gate) == same:
            raise Conflict(f"{each.id} does the same already", field="target")
    hook = hooks.Hook(
        id=asking.id("hook"),
        event=act.event,
        kind=kind,
        target=target,
        created=asking.now,
        created_by=asking.actor,
        args=act.args,
        model=act.model,
        stage=act.stage,
        gate=act.gate,
        allow_private=act.allow_private,
        allow_http=act.allow_http,
        secret=act.secret if kind == "webhook" else None,
    )
    words = f"{'asks' if hook.gate else 'tells'} {drawn(target, longest=200)} {'before' if hook.gate else 'of'} "
    return Decision([hooks.HookAdded(hook=hook)], words + act.event, lambda after: after.hooks[hook.id])


def _check_when(state: State, act: hooks.AddHook) -> None:
    told = hooks.TABLE.get(act.event)
    if told is None:
        raise missing("event", act.event, hooks.TABLE, next=f"one of {', '.join(hooks.TABLE)}")
    if act.model is not None:
        if not told.of_a_model:
            raise got("model", act.model, f"none: {act.event} belongs to no one model")
        if act.event == "register":
            checked_name("model", act.model)  # it may be told of the first version
        else:
            model_of(state, act.model)
    if act.stage is not None and (act.event != "promote" or act.stage not in STAGES):
        raise got("stage", act.stage, f"one of {', '.join(STAGES)}, and only with promote")
    if act.gate and (act.event != "promote" or act.stage not in GATED):
        raise got("gate", f"{act.event} to {act.stage}", f"promote with --stage {' or '.join(GATED)}")


def _checked_target(act: hooks.AddHook) -> tuple[hooks.HookKind, str]:
    if act.target.startswith("exec:"):
        if act.program is None or not act.program.startswith("/"):
            raise Refused("no program was looked at", field="target", next="ask the daemon with hooks.add")
        if act.allow_private or act.allow_http or act.secret_file:
            raise got("target", act.target, "a URL, where --allow-private, --allow-http or --secret-file is given")
        if len(act.args) > MOST_ARGS:
            raise got("args", f"{len(act.args)} of them", f"at most {MOST_ARGS}")
        for each in act.args:
            checked_text("args", each, longest=LONGEST_ARG)
        return "exec", checked_text("target", act.program, longest=LONGEST_ARG)
    place = checked_url(act.target)
    if act.args:
        raise got("args", act.args[0], "none: only a program takes arguments")
    if place.literal is not None:
        check_address(place.literal, place.scheme, allow_private=act.allow_private, allow_http=act.allow_http)
    if act.secret is None or not _secret.match(act.secret):
        raise Refused("no secret was kept", field="secret", next="ask the daemon with hooks.add")
    return "webhook", act.target


def _found(state: State, text: str) -> hooks.Hook:
    found: hooks.Hook = one_of(state.hooks, "hook", text)
    return found


def _remove(state: State, act: hooks.RemoveHook, asking: Asking) -> Decision:
    hook = _found(state, act.hook)

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        yield from _resolved(after, hook.id, "the hook was removed", asked)

    event = hooks.HookRemoved(hook=hook.id, at=asking.now, secret=hook.secret)
    return Decision([event], f"removed {hook.id} ({hook.event})", lambda after: hook, then)


def _pause(state: State, act: hooks.PauseHook, asking: Asking) -> Decision:
    hook = _found(state, act.hook)
    if hook.paused:
        raise Conflict(f"{hook.id} is paused already", field="hook")
    event = hooks.HookPaused(hook=hook.id, at=asking.now)
    words = f"paused {hook.id}" + (", a gate: moves go on without it" if hook.gate else "")
    return Decision([event], words, lambda after: after.hooks[hook.id])


def _resume(state: State, act: hooks.ResumeHook, asking: Asking) -> Decision:
    hook = _found(state, act.hook)
    if not hook.paused:
        raise Conflict(f"{hook.id} is not paused", field="hook")
    event = hooks.HookResumed(hook=hook.id, at=asking.now)
    return Decision([event], f"resumed {hook.id}", lambda after: after.hooks[hook.id])


def _test(state: State, act: hooks.TestHook, asking: Asking) -> Decision:
    hook = _found(state, act.hook)
    if hook.paused:
        raise Conflict(f"{hook.id} is paused", field="hook", next=f"qd hook resume {hook.id}")
    event = hooks.HookTested(hook=hook.id, at=asking.now)
    own = hooks.delivery_id(asking.seq, 0, hook.id)
    return Decision([event], f"tries {hook.id}", lambda after: after.deliveries[own])


def _redeliver(state: State, act: hooks.Redeliver, asking: Asking) -> Decision:
    delivery: hooks.Delivery = one_of(state.deliveries, "delivery", act.delivery)
    if delivery.state == "WAITING":
        raise Conflict(f"{delivery.id} is on its way", field="delivery")
    if state.hooks[delivery.hook].paused:
        raise Conflict(f"{delivery.hook} is paused", field="delivery", next=f"qd hook resume {delivery.hook}")
    event = hooks.DeliveryAskedAgain(delivery=delivery.id, at=asking.now)
    return Decision([event], f"sends {delivery.id} again", lambda after: after.deliveries[delivery.id])


def _note_delivery(state: State, act: hooks.NoteDelivery, asking: Asking) -> Decision:
    delivery: hooks.Delivery = one_of(state.deliveries, "delivery", act.delivery)
    if delivery.state != "WAITING" or delivery.rounds != act.rounds or not act.attempts:
        raise Conflict(f"{delivery.id} is {delivery.state} in round {delivery.rounds}", field="delivery")
    hook, last = state.hooks[delivery.hook], act.attempts[-1]
    about: dict[str, Any] = {"delivery": delivery.id, "hook": hook.id, "at": asking.now, "attempts": act.attempts}
    event: Event = hooks.DeliveryMade(**about) if last.ok else hooks.DeliveryFailed(**about, error=last.words)

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        if last.ok:
            yield from _resolved(after, hook.id, "it was told again", asked)
        else:
            target = drawn(hook.target, longest=100)
            yield (
                monitoring.RaiseAlert(
                    kind=hooks.ALERT,
                    subject=hook.id,
                    severity="warning",
                    words=f"{target} was not told of {delivery.event} {delivery.subject}: {last.words}",
                    next=f"qd hook deliveries {hook.id}",
                ),
                asked,
            )

    words = f"{hook.id} was {'told' if last.ok else 'not told'} of {delivery.event}, entry {delivery.seq}"
    return Decision([event], words, lambda after: after.deliveries[delivery.id], then)


def _resolved(state: State, hook: str, note: str, asking: Asking) -> Iterator[tuple[Act[Any], Asking]]:
    for alert in list(state.alerts):
        if (alert.kind, alert.subject, alert.resolved) == (hooks.ALERT, hook, None):
            yield monitoring.ResolveAlert(alert=alert.id, note=note), asking


def _note_answer(state: State, act: hooks.NoteAnswer, asking: Asking) -> Decision:
    hook = _found(state, act.hook)
    answer = hooks.GateAnswer(
        hook=hook.id,
        version=act.version,
        stage=act.stage,
        ok=act.ok,
        words=act.words,
        at=asking.now,
        asked_by=act.asked_by,
        environment=act.environment,
    )
    where = "" if act.environment == "default" else f" of {act.environment}"
    move = f"{act.version} in {act.stage}{where}, asked for {act.asked_by}"
    said = f"{hook.id} says {'yes' if act.ok else 'no'} to {move}"
    return Decision([hooks.GateAnswered(answer=answer)], said, lambda after: answer)


def _hooks(state: State, query: hooks.ListHooks, asking: Asking) -> list[hooks.Hook]:
    found = [hook for hook in state.hooks if query.model is None or hook.model in (None, query.model)]
    return sorted(found, key=lambda hook: hook.created)


def _deliveries(state: State, query: hooks.ListDeliveries, asking: Asking) -> list[hooks.Delivery]:
    hook = _found(state, query.hook).id if query.hook is not None else None
    found = [each for each in state.deliveries if hook in (None, each.hook) and query.state in (None, each.state)]
    found.sort(key=lambda each: (each.seq, each.nth, each.hook), reverse=True)
    return found[: max(1, min(query.limit, 10_000))]


def _delivery(state: State, query: hooks.ShowDelivery, asking: Asking) -> hooks.Delivery:
    found: hooks.Delivery = one_of(state.deliveries, "delivery", query.delivery)
    return found


RULES: Rules = {
    hooks.AddHook: _add,
    hooks.RemoveHook: _remove,
    hooks.PauseHook: _pause,
    hooks.ResumeHook: _resume,
    hooks.TestHook: _test,
    hooks.Redeliver: _redeliver,
    hooks.NoteDelivery: _note_delivery,
    hooks.NoteAnswer: _note_answer,
}
ANSWERS: Answerers = {
    hooks.ListHooks: _hooks,
    hooks.ListDeliveries: _deliveries,
    hooks.ShowDelivery: _delivery,
}
