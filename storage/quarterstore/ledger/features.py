"""The books of feature views, their rows, and training sets; the rows themselves are artefacts."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State
from quarterstore.records import features
from quarterstore.records.faults import missing


def view_of(state: State, text: str) -> features.FeatureView:
    """The newest version of a view by its name, or one version by `name@2`; `NotFound` names the nearest."""
    name, _, number = text.partition("@")
    found = [each for each in state.feature_views if each.name == name]
    if number:
        found = [each for each in found if str(each.version) == number]
    if not found:
        raise missing("view", text, sorted({each.name for each in state.feature_views}))
    return max(found, key=lambda each: each.version)


def rows_of(state: State, view: str) -> list[features.FeatureRows]:
    """The files of a view, in the order in which they were kept."""
    return [each for each in state.feature_rows if each.view == view]


def _defined(state: State, event: features.ViewDefined) -> None:
    state.feature_views.put(event.view)


def _added(state: State, event: features.RowsAdded) -> None:
    state.feature_rows.put(event.rows)


def _made(state: State, event: features.TrainingSetMade) -> None:
    state.training_sets.put(event.set)


FOLDS: dict[type, Fold] = {
    features.ViewDefined: _defined,
    features.RowsAdded: _added,
    features.TrainingSetMade: _made,
}
