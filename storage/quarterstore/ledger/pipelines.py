"""The book of pipelines and their runs."""

from __future__ import annotations

import heapq

from msgspec.structs import replace

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import pipelines

KEPT_RUNS = 20
"""Runs of a pipeline whose steps' files are kept: what is cached and what can be resumed."""
OVER = ("SUCCEEDED", "FAILED", "CANCELLED", "LOST")


def _kept(state: State, event: pipelines.PipelineKept) -> None:
    state.pipelines.put(event.pipeline)


def _started(state: State, event: pipelines.PipelineStarted) -> None:
    state.pipeline_runs.put(event.pipeline_run)


def _noted(state: State, event: pipelines.StepNoted) -> None:
    run = state.pipeline_runs[event.pipeline_run]
    steps = tuple(event.step if step.name == event.step.name else step for step in run.steps)
    going = {} if run.state in OVER else {"state": "RUNNING"}  # a step may be told when its run was cancelled meanwhile
    state.pipeline_runs.put(copy_of(run, steps=steps, **going))


def _resumed(state: State, event: pipelines.PipelineResumed) -> None:
    run = state.pipeline_runs[event.pipeline_run]
    about = {"steps": event.steps, "definition": event.definition, "sources": event.sources, "code": event.code}
    changed = copy_of(run, state="QUEUED", job=event.job, run=event.run, error=None, digest=event.digest, **about)
    state.pipeline_runs.put(changed)


def _asked(state: State, event: pipelines.PipelineAsked) -> None:
    run = state.pipeline_runs[event.pipeline_run]
    steps = tuple(event.step if step.name == event.step.name else step for step in run.steps)
    state.pipeline_runs.put(copy_of(run, state="WAITING", steps=steps))


def _ended(state: State, event: pipelines.PipelineEnded) -> None:
    run = state.pipeline_runs[event.pipeline_run]
    state.pipeline_runs.put(copy_of(run, state=event.state, version=event.version, error=event.error))
    _let_go(state, run.pipeline)


def _let_go(state: State, pipeline: str) -> None:
    """Files of steps are named by the newest runs only, so that `gc` may free those of the others."""
    of_it = (run for run in state.pipeline_runs if run.pipeline == pipeline)
    newest = heapq.nlargest(2 * KEPT_RUNS, of_it, key=lambda run: (run.created, run.id))
    for run in newest[KEPT_RUNS:]:
        if run.state in OVER and any(step.outputs for step in run.steps):
            steps = tuple(replace(step, outputs={}, key="") if step.outputs else step for step in run.steps)
            state.pipeline_runs.put(copy_of(run, steps=steps))


FOLDS: dict[type, Fold] = {
    pipelines.PipelineKept: _kept,
    pipelines.PipelineStarted: _started,
    pipelines.StepNoted: _noted,
    pipelines.PipelineResumed: _resumed,
    pipelines.PipelineAsked: _asked,
    pipelines.PipelineEnded: _ended,
}
