"""The book of optimisations."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State
from quarterstore.records import compression


def _measured(state: State, event: compression.OptimisationMeasured) -> None:
    state.optimisations.put(event.optimisation)


FOLDS: dict[type, Fold] = {compression.OptimisationMeasured: _measured}
