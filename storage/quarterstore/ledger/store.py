"""The book of the store itself: what was undone, what was backed up, which mode it is in."""

from __future__ import annotations

from quarterstore.ledger.state import Cursor, Fold, State, copy_of
from quarterstore.records import store


def _undone(state: State, event: store.ActUndone | store.UndoPassedOver) -> None:
    for key in (f"{event.entry:012d}", f"{state.context.seq:012d}"):
        if key in state.undo:
            state.undo.drop(key)


def _backed_up(state: State, event: store.BackedUp) -> None:
    state.cursors.put(Cursor(name="backup", value=f"{event.seq} {event.digest} {event.at}"))


def _mode(state: State, event: store.ModeChanged) -> None:
    state.cursors.put(Cursor(name="mode", value=f"{event.mode}: {event.why}"))


def _profile(state: State, event: store.ProfileSet) -> None:
    state.cursors.put(Cursor(name="profile", value=event.profile))


def _purged(state: State, event: store.Purged) -> None:
    for run in event.runs:
        state.runs.drop(run)
    for model in event.logged_models:
        state.logged_models.drop(model)
    for version in event.versions:
        state.versions.put(copy_of(state.versions[version], freed=event.at))
    gone = {*event.runs, *event.logged_models, *event.versions}
    for key, step in list(state.undo.rows.items()):
        if any(
            gone.intersection(text for text in inverse.values() if isinstance(text, str)) for inverse in step.inverse
        ):
            state.undo.drop(key)


FOLDS: dict[type, Fold] = {
    store.ActUndone: _undone,
    store.UndoPassedOver: _undone,
    store.BackedUp: _backed_up,
    store.ModeChanged: _mode,
    store.ProfileSet: _profile,
    store.Purged: _purged,
}
