"""The book of logged models."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, undoable
from quarterstore.records import logged_models


def _changed(state: State, event: logged_models.LoggedModelChanged) -> None:
    former = state.logged_models.get(event.model.id)
    if event.undo and former is not None:
        undoable(state, logged_models.LoggedModelChanged(model=former))
    state.logged_models.put(event.model)


FOLDS: dict[type, Fold] = {logged_models.LoggedModelChanged: _changed}
