"""The book of pipelines and their runs."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import pipelines


def _kept(state: State, event: pipelines.PipelineKept) -> None:
    state.pipelines.put(event.pipeline)


def _started(state: State, event: pipelines.PipelineStarted) -> None:
    state.pipeline_runs.put(event.pipeline_run)


def _noted(state: State, event: pipelines.StepNoted) -> None:
    run = state.pipeline_runs[event.pipeline_run]
    steps = tuple(event.step if step.name == event.step.name else step for step in run.steps)
    state.pipeline_runs.put(copy_of(run, state="RUNNING", steps=steps))


def _ended(state: State, event: pipelines.PipelineEnded) -> None:
    run = state.pipeline_runs[event.pipeline_run]
    state.pipeline_runs.put(copy_of(run, state=event.state, version=event.version, error=event.error))


FOLDS: dict[type, Fold] = {
    pipelines.PipelineKept: _kept,
    pipelines.PipelineStarted: _started,
    pipelines.StepNoted: _noted,
    pipelines.PipelineEnded: _ended,
}
