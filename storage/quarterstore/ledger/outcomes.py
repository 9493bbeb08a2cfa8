"""The book of uploads of outcomes; the outcomes themselves are samples."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State
from quarterstore.records import outcomes

KEPT = 1000
"""Uploads that are remembered; every one stays in the journal."""


def _added(state: State, event: outcomes.OutcomesAdded) -> None:
    state.uploads.put(event.upload)
    while len(state.uploads) > KEPT:
        state.uploads.drop(next(iter(state.uploads.rows)))


FOLDS: dict[type, Fold] = {outcomes.OutcomesAdded: _added}
