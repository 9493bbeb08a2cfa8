"""The book of tuning studies."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import studies


def _started(state: State, event: studies.StudyStarted) -> None:
    state.studies.put(event.study)


def _ended(state: State, event: studies.StudyEnded) -> None:
    study = state.studies[event.study]
    result = event.result or study.result
    state.studies.put(copy_of(study, state=event.state, ended=event.at, error=event.error, result=result))


def _registered(state: State, event: studies.StudyRegistered) -> None:
    state.studies.put(copy_of(state.studies[event.study], pipeline_run=event.pipeline_run))


def _removed(state: State, event: studies.StudyRemoved) -> None:
    state.studies.drop(event.study)


FOLDS: dict[type, Fold] = {
    studies.StudyStarted: _started,
    studies.StudyEnded: _ended,
    studies.StudyRegistered: _registered,
    studies.StudyRemoved: _removed,
}
