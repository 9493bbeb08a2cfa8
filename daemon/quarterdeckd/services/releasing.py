"""From what a pipeline made to a version that is registered, judged and sent on, all in one entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from quarterdeckd.services.deciding import Asking, Decision
from quarterdeckd.services.endpoints import SERVED, breaks_callers
from quarterdeckd.services.evidence import gates_of, judge
from quarterstore.ledger.finding import in_use, trial_at
from quarterstore.ledger.state import State
from quarterstore.records import deployments, flows, governance, packages, pipelines, registry, runs
from quarterstore.records.base import Act, Event
from quarterstore.records.evaluations import FAIRNESS, LOWER_IS_BETTER
from quarterstore.records.pipeline_results import PipelineResult

SAME: Final = ("digest", "format", "signature", "metrics", "dataset", "reference", "golden", "rejected", "code")
"""What two registrations have in common that would make the same version twice."""
TOLD: Final = ("warning", "leak")
"""Tags of what a person has to know of a run and its version."""


class _Release(NamedTuple):
    """What there is to release: a run, what its steps made, and its sections with the params of `gate` and `deploy`
    over them; `steps` are those that the daemon does, by their kind."""

    pipeline_run: pipelines.PipelineRun
    definition: pipelines.Definition
    result: PipelineResult
    steps: dict[str, pipelines.Step]

    def noted(
        self,
        kind: str,
        state: pipelines.StepState,
        words: str,
        now: float,
        *,
        cached: bool = False,
        key: str = "",
        figures: dict[str, Any] | None = None,
    ) -> pipelines.NoteStep:
        """How a step ended; one that had nothing to do says so, as those before it do."""
        step = replace(
            self.steps[kind],
            state=state,
            started=now,
            ended=now,
            words=f"{pipelines.CACHED}; {words}" if cached else words,
            how="cached" if cached else "",
            key=key,
            attempts=0 if cached else 1,
            figures=figures or {},
        )
        return pipelines.NoteStep(pipeline_run=self.pipeline_run.id, step=step)


class _Sending(NamedTuple):
    """What a version is sent on by, and how the step `deploy` ends; `there` where it is there already, `canary` the
    endpoint of a canary that is asked for."""

    acts: tuple[Act[Any], ...]
    state: pipelines.StepState
    words: str
    there: bool = False
    canary: str = ""

    @property
    def figures(self) -> dict[str, Any]:
        return {"canary": self.canary} if self.canary else {}


def released(
    pipeline_run: pipelines.PipelineRun,
    definition: pipelines.Definition,
    result: PipelineResult,
    act: pipelines.EndPipeline,
    asking: Asking,
) -> Decision:
    """Register, judge and send on, as far as there are steps for it. What a run made that is the model's newest version
    already is registered no second time, whoever or whatever asked for the run."""
    kinds = {step.uses: step for step in flows.flow(definition) if step.uses}
    for kind in ("gate", "deploy"):
        if kind in kinds:
            definition = flows.effective(definition, kinds[kind])
    known = {step.name: step for step in pipeline_run.steps}
    steps = {kind: known[section.name] for kind, section in kinds.items()}
    release = _Release(pipeline_run, definition, result, steps)
    events: list[Event] = [
        runs.ParamsLogged(run=pipeline_run.run, params={"device": result.device, "framework": result.framework}),
        *([runs.TagsSet(run=pipeline_run.run, tags={**told})] if (told := _told(result)) else []),
        *_environment(pipeline_run.run, result),
        runs.RunEnded(run=pipeline_run.run, state="FINISHED", at=asking.now, metrics=act.metrics),
    ]

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        chained = asked._replace(chained=True)
        return ((following, chained) for following in _following(after, release, chained))

    return Decision(
        events, f"{pipeline_run.pipeline} succeeded", lambda after: after.pipeline_runs[pipeline_run.id], then
    )


def _following(state: State, release: _Release, asked: Asking) -> Iterator[Act[Any]]:
    """One act after the other; each sees the state with those before it in."""
    definition, now = release.definition, asked.now
    if release.result.packages:
        yield packages.KeepPackages(packages=release.result.packages)
    registration = _registration(definition, release.pipeline_run, release.result)
    version = same_version(state, registration)
    if version is not None:
        yield release.noted("register", "DONE", f"{version.id} {version.semver}", now, cached=True)
    else:
        yield registration
        version = state.versions[f"{definition.model}@{state.models[definition.model].latest}"]
        yield release.noted("register", "DONE", f"{version.id} is {version.semver} ({version.reason})", now)
    ok = True
    if "gate" in release.steps:
        if (gate := _gate_to_set(state, definition)) is not None:
            yield gate
        verdict = judge(state, version, now, _rules(definition))
        ok = verdict.ok
        yield _judged(state, release, verdict, now)
    if "deploy" in release.steps:
        sending = _sending(state, release, definition, version, ok, asked)
        yield from sending.acts
        yield release.noted("deploy", sending.state, sending.words, now, cached=sending.there, figures=sending.figures)
    yield pipelines.ClosePipeline(pipeline_run=release.pipeline_run.id, version=version.id)


def same_version(state: State, act: registry.RegisterVersion) -> registry.Version | None:
    """The newest version of the model, where it is what would be registered: the same files, rows, figures and verdict.
    Versions that were made from others (int8, converted) are no newer than those, and removed ones are not there."""
    model = state.models.get(act.model)
    if model is None or model.removed is not None:
        return None
    known = [each for each in state.versions if each.model == act.model and each.removed is None and not each.parent]
    newest = max(known, key=lambda each: each.number, default=None)
    if newest is None or any(getattr(newest, field) != getattr(act, field) for field in SAME):
        return None
    told = {name: words for name, words in act.tags.items() if name in TOLD}
    return newest if told.items() <= newest.tags.items() else None


def _gate_to_set(state: State, definition: pipelines.Definition) -> governance.SetGate | None:
    """The limits as the gate of the model, where the definition asks for that and they are not yet."""
    if not (definition.gate.set and definition.gate.limits):
        return None
    known = state.gates.get(definition.model)
    rules = (*_rules(definition), *_drill_rules(state, definition.model))
    if known is not None and known.rules == rules:
        return None
    return governance.SetGate(model=definition.model, rules=rules)


def _judged(state: State, release: _Release, verdict: governance.GateOutcome, now: float) -> pipelines.NoteStep:
    """The verdict as it is now; it says too where an earlier run passed on the same evidence."""
    words = "; ".join(f"{check.rule.metric}: {check.why}" for check in verdict.checks) or "no gate is set"
    before = (
        step
        for run in state.pipeline_runs
        if run.version == verdict.version and run.pipeline == release.pipeline_run.pipeline
        for step in run.steps
    )
    cached = any(step.key == verdict.evidence and (step.uses, step.state) == ("gate", "DONE") for step in before)
    return release.noted("gate", "DONE" if verdict.ok else "FAILED", words, now, cached=cached, key=verdict.evidence)


def _told(result: PipelineResult) -> dict[str, str]:
    """What a person has to know of a run and its version, as tags."""
    tags = dict(zip(TOLD, ("; ".join(result.warnings)[:2000], result.leak[:2000]), strict=True))
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


def _sending(
    state: State,
    release: _Release,
    definition: pipelines.Definition,
    version: registry.Version,
    ok: bool,
    asked: Asking,
) -> _Sending:
    """To Staging or on a canary, when the definition says so, the gate holds and nothing stands in the way."""
    then, endpoint = definition.deploy.then, definition.deploy.endpoint
    if then == "none" or not ok:
        return _Sending((), "SKIPPED", "not asked for" if ok else "the gate says no")
    if there := _there(state, definition.deploy, version):
        return _Sending((), "SKIPPED", there, there=True)
    if release.pipeline_run.cause and (taken := _taken_off(state, definition.deploy, version)):
        return _Sending((), "SKIPPED", taken)
    acts: list[Act[Any]] = []
    words = f"{version.id} is in Staging already"
    if version.stage != "Staging":
        if gates_of(state, version.model, "Staging"):
            return _Sending((), "SKIPPED", f"a hook is a gate to Staging: qd promote {version.id} Staging")
        acts.append(registry.MoveStage(version=version.id, stage="Staging", reason=f"pipeline {definition.name}"))
        words = f"{version.id} is in Staging"
    if then == "canary" and endpoint is not None:
        if way := _in_the_way(state, endpoint, version, asked):
            words += f"; {way}"
        else:
            acts.append(deployments.StartCanary(version=version.id, endpoint=endpoint))
            return _Sending(tuple(acts), "DONE", f"{words}, canary at {endpoint} asked for", canary=endpoint)
    return _Sending(tuple(acts), "DONE" if acts else "SKIPPED", words)


def _there(state: State, deploy: pipelines.DeploySection, version: registry.Version) -> str:
    """That a version is where it would be sent, or beyond, in words; nothing where it is not."""
    if deploy.then == "canary" and in_use(state, version.id) == deploy.endpoint:
        return f"{version.id} is at {deploy.endpoint} already"
    if version.stage == "Production" or (deploy.then == "staging" and version.stage == "Staging"):
        return f"{version.id} is in {version.stage} already"
    return ""


def _taken_off(state: State, deploy: pipelines.DeploySection, version: registry.Version) -> str:
    """That a version was where it would be sent and is not any more, in words: only a person brings it back, or a
    nightly run would put the same version on the same canary every night."""
    if version.stage == "Archived":
        return f"{version.id} was put away; by hand: qd promote {version.id} Staging"
    tried = (
        step.figures.get("canary") == deploy.endpoint
        for run in state.pipeline_runs
        if run.version == version.id
        for step in run.steps
        if step.uses == "deploy"
    )
    if deploy.then == "canary" and any(tried):
        return f"{version.id} was on a canary at {deploy.endpoint} before; by hand: qd canary {version.id}"
    return ""


def _in_the_way(state: State, endpoint: str, version: registry.Version, asked: Asking) -> str:
    """Why no canary begins now, in words; nothing where one can."""
    deployment = state.deployments.get(endpoint)
    if version.format != SERVED:
        return f"no canary of {version.format}, which is not served"
    free = deployment is not None and deployment.live is not None and deployment.model == version.model
    busy = deployment and (deployment.canary or deployment.pending or trial_at(state, endpoint))
    if not free or busy or asked.profile != "solo" or gates_of(state, version.model, "Production"):
        return "a canary needs a free, live endpoint, no hook as a gate and, outside solo, an approval"
    broken = breaks_callers(state, deployment, version)
    return f"no canary: it cannot answer what callers of {endpoint} ask: {broken}"[:300] if broken else ""
