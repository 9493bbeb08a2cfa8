"""The book of logged models."""

from __future__ import annotations

from msgspec.structs import replace

from quarterstore.ledger.state import Fold, State, undoable
from quarterstore.records import logged_models

MOST_POINTS = 1000
"""Measurements that are kept with one logged model; the curves are those of its run."""


def _changed(state: State, event: logged_models.LoggedModelChanged) -> None:
    former = state.logged_models.get(event.model.id)
    if event.undo and former is not None:
        undoable(state, logged_models.LoggedModelChanged(model=former))
    state.logged_models.put(event.model)


def _measured(state: State, event: logged_models.LoggedModelMeasured) -> None:
    former = state.logged_models[event.model]
    points = (*former.points, *event.points)[-MOST_POINTS:]
    state.logged_models.put(replace(former, points=points, updated=event.at))


FOLDS: dict[type, Fold] = {
    logged_models.LoggedModelChanged: _changed,
    logged_models.LoggedModelMeasured: _measured,
}
