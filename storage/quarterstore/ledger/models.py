"""What changes of a model do to it and to its versions."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of, undoable
from quarterstore.records import models


def _changed(state: State, event: models.ModelChanged) -> None:
    former, now = state.models[event.before], event.model
    undoable(state, models.ModelChanged(before=now.name, model=former))
    if now.name != former.name:
        state.models.drop(former.name)
    state.models.put(now)
    if now.removed == former.removed or now.created != former.created:
        return  # a name that is taken again does not bring the versions of the former model back
    for version in [version for version in state.versions if version.model == now.name]:
        removed = version.removed
        if now.removed is not None and removed is None:
            removed = now.removed
        elif now.removed is None and removed == former.removed:
            removed = None  # it went with the model, not before it
        state.versions.put(copy_of(version, removed=removed))


FOLDS: dict[type, Fold] = {models.ModelChanged: _changed}
