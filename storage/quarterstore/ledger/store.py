"""The book of the store itself: what was undone, what was backed up, which mode it is in."""

from __future__ import annotations

from quarterstore.ledger.state import Cursor, Fold, State
from quarterstore.records import store


def _undone(state: State, event: store.ActUndone) -> None:
    for key in (f"{event.entry:012d}", f"{state.context.seq:012d}"):
        if key in state.undo:
            state.undo.drop(key)


def _backed_up(state: State, event: store.BackedUp) -> None:
    state.cursors.put(Cursor(name="backup", value=f"{event.seq} {event.digest} {event.at}"))


def _mode(state: State, event: store.ModeChanged) -> None:
    state.cursors.put(Cursor(name="mode", value=f"{event.mode}: {event.why}"))


FOLDS: dict[type, Fold] = {store.ActUndone: _undone, store.BackedUp: _backed_up, store.ModeChanged: _mode}
