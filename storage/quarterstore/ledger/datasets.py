"""The book of datasets."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State
from quarterstore.records import datasets


def _added(state: State, event: datasets.DatasetAdded) -> None:
    state.datasets.put(event.dataset)


FOLDS: dict[type, Fold] = {datasets.DatasetAdded: _added}
