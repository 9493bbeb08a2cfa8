"""The rules of pipelines: a definition kept, a run queued, its end turned into a version."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.definitions import checked, checked_sources
from quarterdeckd.services.elapsed import Now
from quarterdeckd.services.joining import following, noted
from quarterdeckd.services.queued_pipelines import definition_of, digest_of, gone_on, queued_job, tracked_run
from quarterdeckd.services.releasing import released
from quarterstore.ledger.experiments import new_experiment
from quarterstore.ledger.finding import one_of
from quarterstore.ledger.state import State
from quarterstore.records import experiments, flows, jobs, pipelines, runs
from quarterstore.records.base import Act, Event
from quarterstore.records.faults import Conflict, Refused, got, missing
from quarterstore.records.moments import Moment
from quarterstore.records.names import checked_text
from quarterstore.records.pipeline_results import PipelineOutcome
from quarterstore.records.training import file_of

OVER = ("SUCCEEDED", "FAILED", "CANCELLED", "LOST")
DAEMONS = tuple(name for name, kind in flows.KINDS.items() if kind.daemon)


def _kept(state: State, definition: pipelines.Definition, sources: dict[str, str], now: float) -> pipelines.Pipeline:
    return pipelines.Pipeline(
        name=definition.name,
        definition=definition,
        digest=digest_of((definition, sources)),
        code=sources.get(file_of(definition.train) or ""),
        updated=now,
        sources=sources,
    )


def _changed(state: State, kept: pipelines.Pipeline) -> list[Event]:
    former = state.pipelines.get(kept.name)
    return [] if former is not None and former.digest == kept.digest else [pipelines.PipelineKept(pipeline=kept)]


def _run(state: State, act: pipelines.RunPipeline, asking: Asking) -> Decision:
    definition = checked(state, act.definition)
    if act.preempt is not None and not 0 < act.preempt <= 86_400:
        raise got("preempt", act.preempt, "seconds above 0")
    kept = _kept(state, definition, checked_sources(definition, act.sources, act.code), asking.now)
    origin = checked_text("origin", act.origin, longest=1000) if act.origin else ""
    return _started(state, kept, act.cause, asking, _changed(state, kept), origin, act.preempt)


def _rerun(state: State, act: pipelines.RerunPipeline, asking: Asking) -> Decision:
    kept = state.pipelines.get(act.pipeline)
    if kept is None:
        raise missing("pipeline", act.pipeline, state.pipelines.rows)
    if act.dataset is not None:
        data = replace(kept.definition.data, dataset=act.dataset, builtin=None)
        kept = replace(kept, definition=checked(state, replace(kept.definition, data=data)))
    if not kept.sources and kept.code is not None:  # kept by a daemon that knew one file
        kept = replace(kept, sources=checked_sources(kept.definition, {}, kept.code))
    return _started(state, kept, act.cause, asking, [])


def _started(
    state: State,
    kept: pipelines.Pipeline,
    cause: str | None,
    asking: Asking,
    events: list[Event],
    origin: str = "",
    preempt: float | None = None,
) -> Decision:
    cause = checked_text("cause", cause, longest=1000) if cause else None
    definition = kept.definition
    experiment = definition.model or definition.name
    if experiment not in state.experiments:
        events.append(experiments.ExperimentAdded(experiment=new_experiment(state, experiment, asking.now, {})))
    pipeline_run = pipelines.PipelineRun(
        id=asking.id("pipe"),
        pipeline=kept.name,
        digest=kept.digest,
        state="QUEUED",
        steps=flows.waiting(definition),
        job=asking.id("job"),
        run=asking.id("run"),
        created=asking.now,
        actor=asking.actor,
        cause=cause,
        definition=definition,
        sources=kept.sources,
        code=digest_of(kept.sources) if kept.sources else None,
        origin=origin,
        preempt=preempt,
    )
    events += [
        runs.RunStarted(run=tracked_run(pipeline_run, definition, asking.now)),
        pipelines.PipelineStarted(pipeline_run=pipeline_run),
        jobs.JobQueued(job=queued_job(state, pipeline_run, definition, asking.now)),
    ]
    return Decision(
        events,
        f"started pipeline {kept.name}" + (f", because of {cause}" if cause else ""),
        lambda after: after.pipeline_runs[pipeline_run.id],
    )


def _note(state: State, act: pipelines.NoteStep, asking: Asking) -> Decision:
    pipeline_run = state.pipeline_runs[act.pipeline_run]
    if pipeline_run.state in OVER and act.step.state != "DONE":
        raise Conflict(f"{pipeline_run.id} is {pipeline_run.state} already", field="pipeline_run")
    event = pipelines.StepNoted(pipeline_run=pipeline_run.id, step=act.step)
    words = f"{pipeline_run.pipeline}: {act.step.name} {act.step.state.lower()}"
    if act.step.uses == "features" and act.step.state == "DONE":
        made = noted(state, act.step, pipeline_run)

        def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
            return following(after, made, pipeline_run, asked)

        return Decision([event], words, lambda after: after.pipeline_runs[pipeline_run.id], then)
    return Decision([event], words, lambda after: after.pipeline_runs[pipeline_run.id])


def _end(state: State, act: pipelines.EndPipeline, asking: Asking) -> Decision:
    pipeline_run = state.pipeline_runs[act.pipeline_run]
    if act.state != "SUCCEEDED" or act.result is None:
        return _failed(state, pipeline_run, act, asking)
    outcome = msgspec.convert(act.result, PipelineOutcome)
    if outcome.asks is not None:
        return _waits(state, pipeline_run, outcome.asks, asking)
    if outcome.result is None:
        return _without_version(pipeline_run, act, asking)
    return released(pipeline_run, definition_of(state, pipeline_run), outcome.result, act, asking)


def _waits(state: State, pipeline_run: pipelines.PipelineRun, asks: pipelines.Step, asking: Asking) -> Decision:
    """A person is asked until a time of ours; the evidence is what the worker found."""
    definition = definition_of(state, pipeline_run)
    sections = {each.name: each for each in flows.flow(definition) if each.uses == "approve"}
    if asks.name not in sections:
        raise missing("asks", asks.name, sections)
    about = flows.approve_of(sections[asks.name])
    step = replace(
        next(each for each in pipeline_run.steps if each.name == asks.name),
        state="ASKING",
        started=asking.now,
        words=about.ask or "may it go on?",
        figures={**asks.figures, "until": asking.now + about.timeout},
        asked=asking.time.moment,
    )
    asked = pipelines.PipelineAsked(pipeline_run=pipeline_run.id, step=step)
    words = f"{pipeline_run.pipeline} waits for a person: {step.name}"
    return Decision([asked], words, lambda after: after.pipeline_runs[pipeline_run.id])


def _without_version(pipeline_run: pipelines.PipelineRun, act: pipelines.EndPipeline, asking: Asking) -> Decision:
    events: list[Event] = [
        runs.RunEnded(run=pipeline_run.run, state="FINISHED", at=asking.now, metrics=act.metrics),
        pipelines.PipelineEnded(pipeline_run=pipeline_run.id, state="SUCCEEDED", at=asking.now),
    ]
    words = f"{pipeline_run.pipeline} succeeded"
    return Decision(events, words, lambda after: after.pipeline_runs[pipeline_run.id])


def _found(state: State, given: str) -> pipelines.PipelineRun:
    found: pipelines.PipelineRun = one_of(state.pipeline_runs, "pipeline_run", given)
    return found


def _resume(state: State, act: pipelines.ResumePipeline, asking: Asking) -> Decision:
    pipeline_run = _found(state, act.pipeline_run)
    if pipeline_run.state not in ("FAILED", "CANCELLED", "LOST"):
        raise Conflict(
            f"{pipeline_run.id} is {pipeline_run.state}, expected FAILED, LOST or CANCELLED", field="pipeline_run"
        )
    before = definition = definition_of(state, pipeline_run)
    sources = pipeline_run.sources
    events: list[Event] = []
    if act.definition is not None:
        definition = checked(state, act.definition)
        if definition.name != pipeline_run.pipeline:
            raise got("definition.name", definition.name, pipeline_run.pipeline)
        sources = checked_sources(definition, act.sources, None)
        events += _changed(state, _kept(state, definition, sources, asking.now))
    same = flows.unchanged(before, definition)
    mended = (definition, sources) != (before, pipeline_run.sources)
    steps = tuple(
        _reused(known[step.name]) if step.name in same and step.name in known else step
        for known in [{step.name: step for step in pipeline_run.steps if _stands(step, mended)}]
        for step in flows.waiting(definition)
    )
    resumed = replace(
        pipeline_run, steps=steps, definition=definition, sources=sources, code=digest_of(sources) if sources else None
    )
    return gone_on(state, resumed, asking, events, f"resumed {pipeline_run.pipeline}")


def _stands(step: pipelines.Step, mended: bool) -> bool:
    """Whether what a step did holds for the run that goes on; a person's yes was to the run before it was mended."""
    return step.state == "DONE" and step.uses not in DAEMONS and not (step.uses == "approve" and mended)


def _reused(step: pipelines.Step) -> pipelines.Step:
    """What a step did before, not how it came by it: that is said anew."""
    before = {"reused": "reused", "cached": pipelines.CACHED}.get(step.how, "")
    words = step.words.removeprefix(before).removeprefix("; ")
    return replace(step, how="reused", words=f"reused; {words}" if words else "reused")


def _cancel(state: State, act: pipelines.CancelPipeline, asking: Asking) -> Decision:
    pipeline_run = _found(state, act.pipeline_run)
    reason = checked_text("reason", act.reason, longest=1000) if act.reason else f"cancelled by {asking.actor}"
    if pipeline_run.state == "WAITING":
        return _failed(
            state,
            pipeline_run,
            pipelines.EndPipeline(pipeline_run=pipeline_run.id, state="CANCELLED", error=reason),
            asking,
        )
    if pipeline_run.state not in ("QUEUED", "RUNNING"):
        raise Conflict(f"{pipeline_run.id} is {pipeline_run.state} already", field="pipeline_run")

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        yield jobs.CancelJob(job=pipeline_run.job, reason=reason), asked._replace(chained=True)

    words = f"cancelled {pipeline_run.pipeline}"
    return Decision([], words, lambda after: after.pipeline_runs[pipeline_run.id], then)


def _asking(state: State, act: pipelines.ApproveStep | pipelines.RejectStep | pipelines.ExpireStep) -> Any:
    pipeline_run = _found(state, act.pipeline_run)
    step = next((each for each in pipeline_run.steps if each.state == "ASKING"), None)
    if pipeline_run.state != "WAITING" or step is None:
        raise Conflict(f"{pipeline_run.id} is {pipeline_run.state} and asks nobody", field="pipeline_run")
    if act.step is not None and act.step != step.name:
        raise got("step", act.step, step.name)
    return pipeline_run, step


def time_left(step: pipelines.Step, now: Now) -> float:
    """Seconds in which a step that asks a person may be answered. `until` is what that was by the wall clock when it
    began to ask: what passed since is counted by the machine's own."""
    began = step.started or 0.0
    return float(step.figures.get("until", math.inf)) - began - now.since(step.asked or Moment(began))


def _approve(state: State, act: pipelines.ApproveStep, asking: Asking) -> Decision:
    pipeline_run, step = _asking(state, act)
    if asking.profile != "solo" and asking.actor == pipeline_run.actor:
        raise Refused(f"{asking.actor} asked for this run; another person has to approve it", field="step")
    if time_left(step, asking.time) < 0:
        raise Conflict(f"{step.name} was to be answered before, which is a no", field="step")
    note = checked_text("note", act.note, longest=1000) if act.note else ""
    words = f"approved by {asking.actor}" + (f": {note}" if note else "")
    done = replace(step, state="DONE", ended=asking.now, words=words)
    steps = tuple(done if each.name == step.name else each for each in pipeline_run.steps)
    return gone_on(
        state, replace(pipeline_run, steps=steps), asking, [], f"{pipeline_run.pipeline}: {step.name} {words}"
    )


def _reject(state: State, act: pipelines.RejectStep, asking: Asking) -> Decision:
    note = checked_text("note", act.note, longest=1000) if act.note else ""
    return _refused(state, act, f"rejected by {asking.actor}" + (f": {note}" if note else ""), asking)


def _expire(state: State, act: pipelines.ExpireStep, asking: Asking) -> Decision:
    return _refused(state, act, "nobody answered in time, which is a no", asking)


def _refused(state: State, act: pipelines.RejectStep | pipelines.ExpireStep, why: str, asking: Asking) -> Decision:
    pipeline_run, step = _asking(state, act)
    error = f"{step.name}: {why}"
    ended = pipelines.EndPipeline(pipeline_run=pipeline_run.id, state="FAILED", error=error)
    return _failed(state, pipeline_run, ended, asking)


def _failed(state: State, pipeline_run: pipelines.PipelineRun, act: pipelines.EndPipeline, asking: Asking) -> Decision:
    cut = tuple(step for step in pipeline_run.steps if step.state == "RUNNING" or _waits_again(step))
    if act.state == "LOST" and cut and all(step.attempts <= _retries(state, pipeline_run, step) for step in cut):
        return _tried_again(state, pipeline_run, cut, act, asking)
    states: dict[str, runs.RunState] = {"CANCELLED": "KILLED", "LOST": "LOST"}
    events: list[Event] = [
        pipelines.StepNoted(
            pipeline_run=pipeline_run.id,
            step=replace(
                step,
                state="LOST" if act.state == "LOST" else "FAILED",
                ended=asking.now,
                words=act.error or act.state,
            ),
        )
        for step in pipeline_run.steps
        if step.state in ("RUNNING", "ASKING")
    ]
    if state.runs[pipeline_run.run].state == "RUNNING":
        run_state = states.get(act.state, "FAILED")
        events.append(
            runs.RunEnded(run=pipeline_run.run, state=run_state, at=asking.now, error=act.error, metrics=act.metrics)
        )
    events.append(
        pipelines.PipelineEnded(pipeline_run=pipeline_run.id, state=act.state, at=asking.now, error=act.error)
    )
    return Decision(
        events,
        f"{pipeline_run.pipeline} {act.state.lower()}: {(act.error or '')[:200]}",
        lambda after: after.pipeline_runs[pipeline_run.id],
    )


def _waits_again(step: pipelines.Step) -> bool:
    return step.state == "WAITING" and step.attempts > 0


def _retries(state: State, pipeline_run: pipelines.PipelineRun, step: pipelines.Step) -> int:
    return next(each.retries for each in flows.flow(definition_of(state, pipeline_run)) if each.name == step.name)


def _tried_again(
    state: State,
    pipeline_run: pipelines.PipelineRun,
    cut: tuple[pipelines.Step, ...],
    act: pipelines.EndPipeline,
    asking: Asking,
) -> Decision:
    """The worker died in a step that may be tried again: another one goes on there."""
    words = f"lost, tried again: {act.error or act.state}"
    steps = tuple(replace(step, state="WAITING", words=words) if step in cut else step for step in pipeline_run.steps)
    again = replace(pipeline_run, steps=steps)
    return gone_on(state, again, asking, [], f"{pipeline_run.pipeline}: {', '.join(s.name for s in cut)} {words}")


def _close(state: State, act: pipelines.ClosePipeline, asking: Asking) -> Decision:
    event = pipelines.PipelineEnded(
        pipeline_run=act.pipeline_run, state="SUCCEEDED", at=asking.now, version=act.version
    )
    return Decision([event], f"registered {act.version}", lambda after: after.pipeline_runs[act.pipeline_run])


def _runs(state: State, query: pipelines.ListPipelineRuns, asking: Asking) -> list[pipelines.PipelineRun]:
    found = [run for run in state.pipeline_runs if query.pipeline in (None, run.pipeline)]
    return sorted(found, key=lambda run: run.created, reverse=True)[: max(1, query.limit)]


def _show(state: State, query: pipelines.ShowPipelineRun, asking: Asking) -> pipelines.PipelineRun:
    return _found(state, query.pipeline_run)


RULES: Rules = {
    pipelines.RunPipeline: _run,
    pipelines.RerunPipeline: _rerun,
    pipelines.ResumePipeline: _resume,
    pipelines.CancelPipeline: _cancel,
    pipelines.ApproveStep: _approve,
    pipelines.RejectStep: _reject,
    pipelines.ExpireStep: _expire,
    pipelines.NoteStep: _note,
    pipelines.EndPipeline: _end,
    pipelines.ClosePipeline: _close,
}
ANSWERS: Answerers = {
    pipelines.ListPipelines: lambda state, query, asking: list(state.pipelines),
    pipelines.ListPipelineRuns: _runs,
    pipelines.ShowPipelineRun: _show,
}
