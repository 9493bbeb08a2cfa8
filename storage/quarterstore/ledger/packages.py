"""The book of package lists."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State
from quarterstore.records import packages


def _kept(state: State, event: packages.PackagesKept) -> None:
    state.packages.put(event.list)


FOLDS: dict[type, Fold] = {packages.PackagesKept: _kept}
