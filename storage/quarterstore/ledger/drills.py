"""The book of drills."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State
from quarterstore.records import drills


def _drilled(state: State, event: drills.RollbackDrilled) -> None:
    state.drills.put(event.drill)


FOLDS: dict[type, Fold] = {drills.RollbackDrilled: _drilled}
