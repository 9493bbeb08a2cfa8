"""The books of how rows of feature views lie: parts, what is forgotten, what is to go from the disk."""

from __future__ import annotations

from msgspec.structs import replace

from quarterstore.ledger.state import Fold, State
from quarterstore.records import feature_files


def _replaced(state: State, event: feature_files.PartsReplaced) -> None:
    for gone in event.gone:
        state.feature_parts.drop(gone)
    for folded in event.folded:
        state.feature_rows.put(replace(state.feature_rows[folded], folded=True))
    for part in event.parts:
        state.feature_parts.put(part)


def _doomed(state: State, event: feature_files.FileDoomed) -> None:
    state.doomed.put(event.file)


def _noted(state: State, event: feature_files.ForgettingNoted) -> None:
    state.forgettings.put(event.forgetting)


FOLDS: dict[type, Fold] = {
    feature_files.PartsReplaced: _replaced,
    feature_files.FileDoomed: _doomed,
    feature_files.ForgettingNoted: _noted,
}
