"""From what a pipeline made to a version that is registered, judged and sent on, all in one entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from quarterdeckd.services.deciding import Asking, Decision
from quarterdeckd.services.evidence import gates_of, judge
from quarterstore.ledger.finding import trial_at
from quarterstore.ledger.state import State
from quarterstore.records import deployments, flows, governance, packages, pipelines, registry, runs
from quarterstore.records.base import Act, Event
from quarterstore.records.evaluations import FAIRNESS, LOWER_IS_BETTER
from quarterstore.records.pipeline_results import PipelineResult


def released(
    pipeline_run: pipelines.PipelineRun,
    definition: pipelines.Definition,
    result: PipelineResult,
    act: pipelines.EndPipeline,
    asking: Asking,
) -> Decision:
    """Register, judge and send on, as far as there are steps for it; params of those steps hold over the sections."""
    kinds = {step.uses: step for step in flows.flow(definition) if step.uses}
    for kind in ("gate", "deploy"):
        if kind in kinds:
            definition = flows.effective(definition, kinds[kind])

    def noted(kind: str, state: pipelines.StepState, words: str) -> pipelines.NoteStep:
        known = next(each for each in pipeline_run.steps if each.name == kinds[kind].name)
        step = replace(known, state=state, started=asking.now, ended=asking.now, words=words, attempts=1)
        return pipelines.NoteStep(pipeline_run=pipeline_run.id, step=step)

    events: list[Event] = [
        runs.ParamsLogged(run=pipeline_run.run, params={"device": result.device, "framework": result.framework}),
        *([runs.TagsSet(run=pipeline_run.run, tags={**told})] if (told := _told(result)) else []),
        *_environment(pipeline_run.run, result),
        runs.RunEnded(run=pipeline_run.run, state="FINISHED", at=asking.now, metrics=act.metrics),
    ]

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        chained = asked._replace(chained=True)
        if result.packages:
            yield packages.KeepPackages(packages=result.packages), chained
        yield _registration(definition, pipeline_run, result), chained
        version = after.versions[f"{definition.model}@{after.models[definition.model].latest}"]
        yield noted("register", "DONE", f"{version.id} is {version.semver} ({version.reason})"), chained
        ok = True
        if "gate" in kinds:
            if definition.gate.set and definition.gate.limits:
                drilled = _drill_rules(after, definition.model)
                yield governance.SetGate(model=definition.model, rules=(*_rules(definition), *drilled)), chained
            ok, words = _judged(after, definition, version, asked.now)
            yield noted("gate", "DONE" if ok else "FAILED", words), chained
        if "deploy" in kinds:
            for following in _sent_on(after, definition, version, ok, chained):
                yield (noted("deploy", *following) if isinstance(following, tuple) else following), chained
        yield pipelines.ClosePipeline(pipeline_run=pipeline_run.id, version=version.id), chained

    return Decision(
        events, f"{pipeline_run.pipeline} succeeded", lambda after: after.pipeline_runs[pipeline_run.id], then
    )


def _told(result: PipelineResult) -> dict[str, str]:
    """What a person has to know of a run and its version, as tags."""
    tags = {"warning": "; ".join(result.warnings)[:2000], "leak": result.leak[:2000]}
    return {name: words for name, words in tags.items() if words}


def _environment(run: str, result: PipelineResult) -> list[Event]:
    """Where a person's own environment ran the code of a run, which is known only now."""
    if result.python is None:
        return []
    digest = packages.digest_of(result.packages) if result.packages else None
    return [runs.EnvironmentNoted(run=run, interpreter=result.interpreter, python=result.python, packages=digest)]


def rejections(definition: pipelines.Definition, result: PipelineResult) -> str:
    """Why a version must not go anywhere: it is worse than the champion, or unfair beyond a limit of the gate."""
    found = {metric.name: metric for metric in result.metrics}
    reasons = [result.rejected] if result.rejected else []
    for rule in _rules(definition):
        if rule.metric not in FAIRNESS:
            continue
        metric = found.get(rule.metric)
        if metric is None:
            reasons.append(f"not known to be fair: {rule.metric} was not measured, its limit is {rule.limit:g}")
        elif not metric.value <= rule.limit:
            span = (
                f" ({metric.low:.4g} to {metric.high:.4g})"
                if metric.low is not None and metric.high is not None
                else ""
            )
            reasons.append(f"unfair: {rule.metric} {metric.value:.4g}{span}, its limit is {rule.limit:g}")
    return "; ".join(reasons)


def _registration(
    definition: pipelines.Definition,
    pipeline_run: pipelines.PipelineRun,
    result: PipelineResult,
) -> registry.RegisterVersion:
    return registry.RegisterVersion(
        model=definition.model,
        digest=result.model,
        size=result.size,
        format=result.format,
        signature=result.signature,
        metrics=result.metrics,
        run=pipeline_run.run,
        dataset=result.dataset,
        reference=result.reference,
        golden=result.golden,
        rejected=rejections(definition, result),
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


def _judged(state: State, definition: pipelines.Definition, version: registry.Version, now: float) -> tuple[bool, str]:
    outcome = judge(state, version, now, _rules(definition))
    return outcome.ok, "; ".join(f"{check.rule.metric}: {check.why}" for check in outcome.checks) or "no gate is set"


def _sent_on(
    state: State, definition: pipelines.Definition, version: registry.Version, ok: bool, asked: Asking
) -> Iterator[Act[Any] | tuple[pipelines.StepState, str]]:
    """Staging or a canary, when the definition says so, the gate holds and nothing stands in the way; the last one is
    how the step ended."""
    then = definition.deploy.then
    if then == "none" or not ok:
        yield "SKIPPED", "not asked for" if ok else "the gate says no"
        return
    if gates_of(state, version.model, "Staging"):
        yield "SKIPPED", f"a hook is a gate to Staging: qd promote {version.id} Staging"
        return
    yield registry.MoveStage(version=version.id, stage="Staging", reason=f"pipeline {definition.name}")
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
            yield deployments.StartCanary(version=version.id, endpoint=endpoint)
            words += f", canary at {endpoint} asked for"
    yield "DONE", words
