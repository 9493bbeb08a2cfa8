"""The rules of pipelines: a definition kept, a run queued, its end turned into a version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.evidence import gates_of, judge
from quarterstore.ledger.experiments import new_experiment
from quarterstore.ledger.finding import one_of, trial_at
from quarterstore.ledger.state import State
from quarterstore.records import deployments, experiments, governance, jobs, pipelines, registry, runs
from quarterstore.records.base import Act, Event
from quarterstore.records.checks import checked_section
from quarterstore.records.faults import got, missing
from quarterstore.records.names import checked_text, checked_word
from quarterstore.records.packages import KeepPackages, digest_of
from quarterstore.records.training import check_train, named_code
from quarterstore.records.wire import plain

LEARNERS = ("mlp", "logistic", "forest", "boosting", "ridge")
BUILTINS = ("breast_cancer", "digits", "wine", "iris", "diabetes")
LOWER_IS_BETTER = ("log loss", "brier", "rmse", "mae")


def checked(state: State, definition: pipelines.Definition) -> pipelines.Definition:
    """A definition whose parts exist and fit together; raises a fault naming the field otherwise."""
    checked_word("name", definition.name)
    checked_word("model", definition.model)
    data, train = definition.data, definition.train
    checked_text("data.target", data.target)
    if (data.dataset is None) == (data.builtin is None):
        raise got("data", "both or neither", "a dataset (upload the file) or builtin = NAME")
    if data.builtin is not None and data.builtin not in BUILTINS:
        raise missing("data.builtin", data.builtin, BUILTINS)
    if data.dataset is not None:
        data = replace(data, dataset=one_of(state.datasets, "data.dataset", data.dataset).id)
    check_train(train)
    if named_code(train) is None and train.learner not in LEARNERS:
        raise missing("train.learner", train.learner, LEARNERS)
    if not 0 < definition.split.test < 1:
        raise got("split.test", definition.split.test, "a share between 0 and 1")
    split = definition.split
    if split.key and split.by != "hash":
        raise got("split.key", ", ".join(split.key), f"nothing, a split by {split.by} has none")
    if split.allow_leak:
        split = replace(split, allow_leak=checked_text("split.allow_leak", split.allow_leak, longest=1000))
    for field, column in (("time", data.time), ("group", data.group)):
        if definition.split.by == field and column is None:
            raise got(f"data.{field}", "nothing", f"a column, because split.by is {field}")
    if definition.deploy.then == "canary" and definition.deploy.endpoint is None:
        raise got("deploy.endpoint", "nothing", "an endpoint, because deploy.then is canary")
    validate = checked_section(definition.validate)
    if validate.reference is not None:
        validate = replace(validate, reference=one_of(state.datasets, "validate.reference", validate.reference).id)
    return replace(definition, data=data, validate=validate, split=split)


def _run(state: State, act: pipelines.RunPipeline, asking: Asking) -> Decision:
    definition = checked(state, act.definition)
    if (named := named_code(definition.train)) is not None and act.code is None:
        raise got("code", "nothing", f"the uploaded code of {named}")
    if definition.validate.pandera is not None and definition.validate.code is None:
        raise got("validate.code", "nothing", f"the uploaded file of {definition.validate.pandera}")
    digest = hashlib.sha256(msgspec.msgpack.encode((definition, act.code), order="deterministic")).hexdigest()
    kept = pipelines.Pipeline(
        name=definition.name, definition=definition, digest=digest, code=act.code, updated=asking.now
    )
    events: list[Event] = []
    former = state.pipelines.get(kept.name)
    if former is None or former.digest != digest:
        events.append(pipelines.PipelineKept(pipeline=kept))
    return _started(state, kept, act.cause, asking, events)


def _rerun(state: State, act: pipelines.RerunPipeline, asking: Asking) -> Decision:
    kept = state.pipelines.get(act.pipeline)
    if kept is None:
        raise missing("pipeline", act.pipeline, state.pipelines.rows)
    if act.dataset is not None:
        data = replace(kept.definition.data, dataset=act.dataset, builtin=None)
        kept = replace(kept, definition=checked(state, replace(kept.definition, data=data)))
    return _started(state, kept, act.cause, asking, [])


def _started(
    state: State, kept: pipelines.Pipeline, cause: str | None, asking: Asking, events: list[Event]
) -> Decision:
    definition = kept.definition
    job_id, run_id, pipeline_run_id = asking.id("job"), asking.id("run"), asking.id("pipe")
    if definition.model not in state.experiments:
        events.append(experiments.ExperimentAdded(experiment=new_experiment(state, definition.model, asking.now, {})))
    train = definition.train
    run = runs.Run(
        id=run_id,
        experiment=definition.model,
        name=named_code(train) or train.learner,
        state="RUNNING",
        started=asking.now,
        actor=asking.actor,
        heard=asking.now,
        params={
            name: value if isinstance(value, str | int | float | bool) else str(value)
            for name, value in train.params.items()
        },
        tags={"pipeline": definition.name},
        source=runs.Source(command=f"pipeline {definition.name}", seed=train.seed, commit=kept.code and kept.code[:16]),
        datasets=(definition.data.dataset,) if definition.data.dataset else (),
        job=job_id,
    )
    spec = pipelines.PipelineSpec(
        pipeline_run=pipeline_run_id,
        run=run_id,
        definition=definition,
        data=definition.data.dataset,
        code=kept.code,
        reference=definition.validate.reference,
        schema=definition.validate.code,
    )
    job = jobs.Job(
        id=job_id,
        kind="pipeline",
        subject=pipeline_run_id,
        state="QUEUED",
        created=asking.now,
        actor=asking.actor,
        spec=plain(spec),
        cause=cause,
    )
    pipeline_run = pipelines.PipelineRun(
        id=pipeline_run_id,
        pipeline=kept.name,
        digest=kept.digest,
        state="QUEUED",
        steps=tuple(pipelines.Step(name=name) for name in pipelines.STEPS),
        job=job_id,
        run=run_id,
        created=asking.now,
        actor=asking.actor,
        cause=cause,
    )
    events += [
        runs.RunStarted(run=run),
        pipelines.PipelineStarted(pipeline_run=pipeline_run),
        jobs.JobQueued(job=job),
    ]
    return Decision(
        events,
        f"started pipeline {kept.name}" + (f", because of {cause}" if cause else ""),
        lambda after: after.pipeline_runs[pipeline_run_id],
    )


def _note(state: State, act: pipelines.NoteStep, asking: Asking) -> Decision:
    pipeline_run = state.pipeline_runs[act.pipeline_run]
    event = pipelines.StepNoted(pipeline_run=pipeline_run.id, step=act.step)
    words = f"{pipeline_run.pipeline}: {act.step.name} {act.step.state.lower()}"
    return Decision([event], words, lambda after: after.pipeline_runs[pipeline_run.id])


def _end(state: State, act: pipelines.EndPipeline, asking: Asking) -> Decision:
    pipeline_run = state.pipeline_runs[act.pipeline_run]
    if act.state != "SUCCEEDED" or act.result is None:
        return _failed(state, pipeline_run, act, asking)
    result = msgspec.convert(act.result, pipelines.PipelineResult)
    definition = state.pipelines[pipeline_run.pipeline].definition
    step = pipelines.Step(name="register", state="DONE", started=asking.now, ended=asking.now)
    events: list[Event] = [
        *(pipelines.StepNoted(pipeline_run=pipeline_run.id, step=done) for done in result.steps),
        runs.ParamsLogged(run=pipeline_run.run, params={"device": result.device, "framework": result.framework}),
        *([runs.TagsSet(run=pipeline_run.run, tags={**told})] if (told := _told(result)) else []),
        *_environment(pipeline_run.run, definition, result),
        runs.RunEnded(run=pipeline_run.run, state="FINISHED", at=asking.now, metrics=act.metrics),
    ]

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        chained = asked._replace(chained=True)
        if result.packages:
            yield KeepPackages(packages=result.packages), chained
        yield _registration(definition, pipeline_run, result, act), chained
        version = after.versions[f"{definition.model}@{after.models[definition.model].latest}"]
        noted = replace(step, words=f"{version.id} is {version.semver} ({version.reason})")
        yield pipelines.NoteStep(pipeline_run=pipeline_run.id, step=noted), chained
        if definition.gate.set and definition.gate.limits:
            drilled = _drill_rules(after, definition.model)
            yield governance.SetGate(model=definition.model, rules=(*_rules(definition), *drilled)), chained
        ok, gate_step = _gate_step(after, definition, version, asked.now)
        yield pipelines.NoteStep(pipeline_run=pipeline_run.id, step=gate_step), chained
        yield from _sent_on(after, definition, pipeline_run, version, ok, chained)
        yield pipelines.ClosePipeline(pipeline_run=pipeline_run.id, version=version.id), chained

    return Decision(
        events, f"{pipeline_run.pipeline} succeeded", lambda after: after.pipeline_runs[pipeline_run.id], then
    )


def _told(result: pipelines.PipelineResult) -> dict[str, str]:
    """What a person has to know of a run and its version, as tags."""
    tags = {"warning": "; ".join(result.warnings)[:2000], "leak": result.leak[:2000]}
    return {name: words for name, words in tags.items() if words}


def _environment(run: str, definition: pipelines.Definition, result: pipelines.PipelineResult) -> list[Event]:
    """Where a person's own environment ran the code of a run, which is known only now."""
    if result.python is None:
        return []
    packages = digest_of(result.packages) if result.packages else None
    interpreter = definition.train.interpreter
    return [runs.EnvironmentNoted(run=run, interpreter=interpreter, python=result.python, packages=packages)]


def _registration(
    definition: pipelines.Definition,
    pipeline_run: pipelines.PipelineRun,
    result: pipelines.PipelineResult,
    act: pipelines.EndPipeline,
) -> registry.RegisterVersion:
    assert act.result is not None
    return registry.RegisterVersion(
        model=definition.model,
        digest=result.model,
        size=int(act.result.get("size", 0)),
        format=result.format,
        signature=result.signature,
        metrics=result.metrics,
        run=pipeline_run.run,
        dataset=result.dataset,
        reference=result.reference,
        golden=result.golden,
        tags={"framework": result.framework, "pipeline": pipeline_run.pipeline, **_told(result)},
    )


def _rules(definition: pipelines.Definition) -> tuple[governance.GateRule, ...]:
    named = {metric.replace("_", " "): limit for metric, limit in definition.gate.limits.items()}
    return tuple(
        governance.GateRule(metric=metric, op="<=" if metric in LOWER_IS_BETTER else ">=", limit=limit)
        for metric, limit in named.items()
    )


def _drill_rules(state: State, model: str) -> tuple[governance.GateRule, ...]:
    """What a person asks of the rollback is no matter of a definition's limits, and stays."""
    gate = state.gates.get(model)
    return tuple(rule for rule in gate.rules if rule.against == "drill") if gate else ()


def _gate_step(
    state: State, definition: pipelines.Definition, version: registry.Version, now: float
) -> tuple[bool, pipelines.Step]:
    outcome = judge(state, version, now, _rules(definition))
    words = "; ".join(f"{check.rule.metric}: {check.why}" for check in outcome.checks) or "no gate is set"
    step = pipelines.Step(name="gate", state="DONE" if outcome.ok else "FAILED", started=now, ended=now, words=words)
    return outcome.ok, step


def _sent_on(
    state: State,
    definition: pipelines.Definition,
    pipeline_run: pipelines.PipelineRun,
    version: registry.Version,
    ok: bool,
    asked: Asking,
) -> Iterator[tuple[Act[Any], Asking]]:
    """Staging or a canary, when the definition says so, the gate holds and nothing stands in the way."""
    then = definition.deploy.then
    step = pipelines.Step(name="deploy", state="SKIPPED", started=asked.now, ended=asked.now)
    if then == "none" or not ok:
        words = "not asked for" if ok else "the gate says no"
        yield pipelines.NoteStep(pipeline_run=pipeline_run.id, step=replace(step, words=words)), asked
        return
    if gates_of(state, version.model, "Staging"):
        words = f"a hook is a gate to Staging: qd promote {version.id} Staging"
        yield pipelines.NoteStep(pipeline_run=pipeline_run.id, step=replace(step, words=words)), asked
        return
    reason = f"pipeline {definition.name}"
    yield registry.MoveStage(version=version.id, stage="Staging", reason=reason), asked
    words = f"{version.id} is in Staging"
    endpoint = definition.deploy.endpoint
    deployment = state.deployments.get(endpoint) if endpoint else None
    if then == "canary" and endpoint is not None:
        running = deployment and (deployment.canary or deployment.pending or trial_at(state, endpoint))
        busy = deployment is None or deployment.live is None or running is not None
        if version.format != "onnx":
            words += f"; no canary of {version.format}, which is not served"
        elif busy or asked.profile != "solo" or gates_of(state, version.model, "Production"):
            words += "; a canary needs a free, live endpoint, no hook as a gate and, outside solo, an approval"
        else:
            yield deployments.StartCanary(version=version.id, endpoint=endpoint), asked
            words += f", canary at {endpoint} asked for"
    done = replace(step, state="DONE", words=words)
    yield pipelines.NoteStep(pipeline_run=pipeline_run.id, step=done), asked


def _failed(state: State, pipeline_run: pipelines.PipelineRun, act: pipelines.EndPipeline, asking: Asking) -> Decision:
    states: dict[str, runs.RunState] = {"CANCELLED": "KILLED", "LOST": "LOST"}
    events: list[Event] = [
        pipelines.StepNoted(
            pipeline_run=pipeline_run.id,
            step=replace(step, state="FAILED", ended=asking.now, words=act.error or act.state),
        )
        for step in pipeline_run.steps
        if step.state == "RUNNING"
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


def _close(state: State, act: pipelines.ClosePipeline, asking: Asking) -> Decision:
    event = pipelines.PipelineEnded(
        pipeline_run=act.pipeline_run, state="SUCCEEDED", at=asking.now, version=act.version
    )
    return Decision([event], f"registered {act.version}", lambda after: after.pipeline_runs[act.pipeline_run])


def _runs(state: State, query: pipelines.ListPipelineRuns, asking: Asking) -> list[pipelines.PipelineRun]:
    found = [run for run in state.pipeline_runs if query.pipeline in (None, run.pipeline)]
    return sorted(found, key=lambda run: run.created, reverse=True)[: max(1, query.limit)]


def _show(state: State, query: pipelines.ShowPipelineRun, asking: Asking) -> pipelines.PipelineRun:
    found: pipelines.PipelineRun = one_of(state.pipeline_runs, "pipeline_run", query.pipeline_run)
    return found


RULES: Rules = {
    pipelines.RunPipeline: _run,
    pipelines.RerunPipeline: _rerun,
    pipelines.NoteStep: _note,
    pipelines.EndPipeline: _end,
    pipelines.ClosePipeline: _close,
}
ANSWERS: Answerers = {
    pipelines.ListPipelines: lambda state, query, asking: list(state.pipelines),
    pipelines.ListPipelineRuns: _runs,
    pipelines.ShowPipelineRun: _show,
}
