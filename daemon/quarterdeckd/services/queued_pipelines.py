"""What a pipeline run is queued as: its job, and the run that is tracked of it; the first time and each time it goes
on."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec
from msgspec.structs import replace

from quarterdeckd.services.deciding import Asking, Decision
from quarterdeckd.services.joining import join_of
from quarterstore.ledger.finding import production_of
from quarterstore.ledger.state import State
from quarterstore.records import flows, jobs, pipelines, runs
from quarterstore.records.base import Event
from quarterstore.records.evaluations import Against
from quarterstore.records.training import named_code
from quarterstore.records.wire import plain

PAUSE = 600.0
"""Seconds that a try may have waited for."""


def digest_of(what: Any) -> str:
    return hashlib.sha256(msgspec.msgpack.encode(what, order="deterministic")).hexdigest()


def tracked_run(pipeline_run: pipelines.PipelineRun, definition: pipelines.Definition, now: float) -> runs.Run:
    train = definition.train
    code = pipeline_run.code
    return runs.Run(
        id=pipeline_run.run,
        experiment=definition.model or definition.name,
        name=(named_code(train) or train.learner) if definition.model else definition.name,
        state="RUNNING",
        started=now,
        actor=pipeline_run.actor,
        heard=now,
        params={
            name: value if isinstance(value, str | int | float | bool) else str(value)
            for name, value in train.params.items()
        },
        tags={"pipeline": definition.name},
        source=runs.Source(command=f"pipeline {definition.name}", seed=train.seed, commit=code and code[:16]),
        datasets=(definition.data.dataset,) if definition.data.dataset else (),
        job=pipeline_run.job,
    )


def _champion_of(state: State, definition: pipelines.Definition) -> Against | None:
    """What answers people now: the version in Production, else the one that is live at an endpoint of the model."""
    if not definition.evaluate.champion or definition.model not in state.models:
        return None
    live = [state.versions[at.live] for at in state.deployments if at.model == definition.model and at.live is not None]
    found = production_of(state, definition.model, "default") or (live[0] if live else None)
    if found is None or found.format != "onnx" or found.freed is not None:
        return None
    return Against(found.id, found.digest, found.signature, found.dataset)


def queued_job(
    state: State,
    pipeline_run: pipelines.PipelineRun,
    definition: pipelines.Definition,
    now: float,
    until: float = math.inf,
) -> jobs.Job:
    """The job that does what is left of a run, with the rows of views that had come by an instant; its limits leave
    room for those of each step."""
    limits = [step.limits for step in flows.flow(definition)]
    seconds = sum((step.limits.seconds + PAUSE) * (1 + step.retries) for step in flows.flow(definition))
    spec = pipelines.PipelineSpec(
        pipeline_run=pipeline_run.id,
        run=pipeline_run.run,
        definition=definition,
        data=definition.data.dataset,
        sources=pipeline_run.sources,
        steps=pipeline_run.steps,
        preempt=pipeline_run.preempt,
        against=_champion_of(state, definition),
        join=join_of(state, definition, until),
    )
    return jobs.Job(
        id=pipeline_run.job,
        kind="pipeline",
        subject=pipeline_run.id,
        state="QUEUED",
        created=now,
        actor=pipeline_run.actor,
        spec=plain(spec),
        limits=jobs.Limits(seconds, max(each.memory for each in limits), max(each.disk for each in limits)),
        cause=pipeline_run.cause,
    )


def definition_of(state: State, pipeline_run: pipelines.PipelineRun) -> pipelines.Definition:
    """What a run goes by: its own copy, or of a run from before there was one the kept definition."""
    return pipeline_run.definition or state.pipelines[pipeline_run.pipeline].definition


def gone_on(
    state: State, pipeline_run: pipelines.PipelineRun, asking: Asking, events: list[Event], words: str
) -> Decision:
    """A new job for a run, and a new tracked run where the former one is over."""
    definition = definition_of(state, pipeline_run)
    tracked = state.runs.get(pipeline_run.run)
    going = replace(pipeline_run, job=asking.id("job"), preempt=None)
    if tracked is None or tracked.state != "RUNNING":
        going = replace(going, run=asking.id("run"))
        events.append(runs.RunStarted(run=tracked_run(going, definition, asking.now)))
    events += [
        pipelines.PipelineResumed(
            pipeline_run=going.id,
            job=going.job,
            run=going.run,
            steps=going.steps,
            definition=definition,
            sources=going.sources,
            code=going.code,
            digest=digest_of((definition, going.sources)),
        ),
        jobs.JobQueued(job=queued_job(state, going, definition, asking.now, going.created)),
    ]
    return Decision(events, words, lambda after: after.pipeline_runs[pipeline_run.id])
