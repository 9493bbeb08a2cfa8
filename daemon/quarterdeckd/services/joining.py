"""The step `features` of a pipeline as the daemon sees it: the views that its job is given, and the training set that
it made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from quarterdeckd.services.deciding import Asking
from quarterdeckd.services.wanting import wanted_views
from quarterstore.ledger.state import State
from quarterstore.records import datasets, features, flows, pipelines, runs
from quarterstore.records.base import Act
from quarterstore.records.faults import Fault, Refused, got
from quarterstore.records.names import drawn
from quarterstore.records.training_sets import identity, used
from quarterstore.records.wire import plain

ROWS = "joined.parquet"


def join_of(state: State, definition: pipelines.Definition, until: float = math.inf) -> features.JoinSpec | None:
    """What the step `features` joins to the kept rows of a definition, of what had come by an instant; None where there
    is no such step."""
    if not any(step.uses == "features" for step in flows.flow(definition)):
        return None
    kept = state.datasets[definition.data.dataset or ""]
    join = spec_of(state, definition, kept.id, kept.format, until)
    for made in state.training_sets:
        if made.digest == kept.id and {view.view for view in made.views} & {view.view for view in join.views}:
            raise Refused(
                f"{kept.name} has these features already: it is a training set, no file of entities",
                field="data.dataset",
                next="qd pipeline run FILE",
            )
    return join


def spec_of(
    state: State, definition: pipelines.Definition, digest: str, format_: Any, until: float = math.inf
) -> features.JoinSpec:
    """The rows of a file of entities with the views of a definition; a fault names `data.features`."""
    try:
        views = wanted_views(state, definition.data.features, until)
    except Fault as fault:
        fault.field = "data.features"
        raise
    time = definition.data.entity_time
    return features.JoinSpec(digest, format_, digest, time, views, features.Reading())


def noted(state: State, step: pipelines.Step, pipeline_run: pipelines.PipelineRun) -> features.JoinResult:
    """The training set of a step as its worker told it, in whose files a person's code may write: the id is worked out
    here. Raises `Invalid` for what is no training set."""
    try:
        spec = msgspec.convert(state.jobs[pipeline_run.job].spec["join"], features.JoinSpec)
        figures = msgspec.convert(step.figures, pipelines.JoinedFigures)
    except msgspec.ValidationError as error:
        raise got(step.name, drawn(str(error), longest=200), "what is known of a training set") from None
    if ROWS not in step.outputs:
        raise got(step.name, ", ".join(step.outputs) or "no file", ROWS)
    files = used(spec, figures.newest)
    return features.JoinResult(identity(spec, files), step.outputs[ROWS], figures.rows, figures.statuses, files)


def following(
    state: State, made: features.JoinResult, pipeline_run: pipelines.PipelineRun, asking: Asking
) -> Iterator[tuple[Act[Any], Asking]]:
    """The set and its rows are kept, and the tracked run names them."""
    asked = asking._replace(actor=pipeline_run.actor, chained=True)
    join = state.jobs[pipeline_run.job].spec["join"]
    yield features.NoteTrainingSet(job=pipeline_run.job, spec=join, result=plain(made)), asked
    yield datasets.AddDataset(digest=made.output, name=made.id, format="parquet", rows=made.rows), asked
    run = state.runs[pipeline_run.run]
    if made.output not in {each.digest for each in run.inputs}:
        given = runs.DatasetInput(name=made.id, digest=made.output)
        yield runs.LogInputs(run=run.id, inputs=(given,)), asked
