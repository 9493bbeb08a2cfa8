"""The books of remotes: where versions are sent to and what became of it; whose bundles are taken, and which were."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import remotes

KEPT = 500
"""Changes that are kept once they are over, and bundles; the last bundle of each sender and model stays whatever comes,
because newer ones are told by it."""


def _added(state: State, event: remotes.RemoteAdded) -> None:
    state.remotes.put(event.remote)


def _removed(state: State, event: remotes.RemoteRemoved) -> None:
    state.remotes.drop(event.name)


def _asked(state: State, event: remotes.ChangeAsked) -> None:
    state.remote_changes.put(event.change)
    over = [each for each in state.remote_changes if each.state != "WAITING"]
    for each in sorted(over, key=lambda each: each.at)[: max(0, len(over) - KEPT)]:
        state.remote_changes.drop(each.id)


def _ended(state: State, event: remotes.ChangeEnded) -> None:
    change = state.remote_changes[event.change]
    state.remote_changes.put(
        copy_of(
            change,
            state="DONE" if event.ok else "FAILED",
            ended=event.at,
            bundle=event.bundle,
            there=event.there,
            fault=event.fault,
            why=event.why,
        )
    )


def _trusted(state: State, event: remotes.SenderTrusted) -> None:
    state.senders.put(event.sender)


def _distrusted(state: State, event: remotes.SenderDistrusted) -> None:
    state.senders.drop(event.name)


def _taken(state: State, event: remotes.BundleTaken) -> None:
    state.bundles.put(event.bundle)
    if len(state.bundles) <= KEPT:
        return
    last = {(each.key, each.model): each.id for each in sorted(state.bundles, key=lambda each: each.serial)}
    past = sorted((each for each in state.bundles if each.id not in last.values()), key=lambda each: each.at)
    if past:
        state.bundles.drop(past[0].id)


FOLDS: dict[type, Fold] = {
    remotes.RemoteAdded: _added,
    remotes.RemoteRemoved: _removed,
    remotes.ChangeAsked: _asked,
    remotes.ChangeEnded: _ended,
    remotes.SenderTrusted: _trusted,
    remotes.SenderDistrusted: _distrusted,
    remotes.BundleTaken: _taken,
}
