"""The rules of jobs, and what a finished job leads to in the same entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterstore.ledger.finding import one_of
from quarterstore.ledger.state import State
from quarterstore.records import (
    compression,
    deployments,
    drills,
    feature_checks,
    feature_files,
    features,
    jobs,
    monitoring,
    online,
    people,
    pipelines,
    registry,
    replays,
    streams,
    studies,
)
from quarterstore.records.admission import AdmissionSpec
from quarterstore.records.base import Act, Event
from quarterstore.records.conversions import ConvertResult
from quarterstore.records.faults import Conflict, got
from quarterstore.records.names import checked_text

OVER = ("SUCCEEDED", "FAILED", "CANCELLED", "LOST")
DIFFER = "features differ"
"""The kind of the alert of a view that is read otherwise online than offline."""
Led = Callable[[State, jobs.Job, jobs.EndJob], Iterator[Act[Any]]]


def _cancel(state: State, act: jobs.CancelJob, asking: Asking) -> Decision:
    job: jobs.Job = one_of(state.jobs, "job", act.job)
    if job.state in OVER:
        raise Conflict(f"{job.id} is {job.state} already", field="job")
    reason = checked_text("reason", act.reason, longest=1000) if act.reason else f"cancelled by {asking.actor}"
    return _over(state, job, jobs.EndJob(job=job.id, state="CANCELLED", error=reason), asking, f"cancelled {job.id}")


def _begin(state: State, act: jobs.BeginJob, asking: Asking) -> Decision:
    job = state.jobs[act.job]
    if job.state != "QUEUED":
        raise Conflict(f"{job.id} is {job.state}, not queued", field="job")
    event = jobs.JobBegan(job=job.id, pid=act.pid, born=act.born, at=asking.now)
    return Decision([event], f"began {job.id}", lambda after: after.jobs[job.id])


def _end(state: State, act: jobs.EndJob, asking: Asking) -> Decision:
    job = state.jobs[act.job]
    if job.state in OVER:
        raise Conflict(f"{job.id} is {job.state} already", field="job")
    if act.state not in OVER:
        raise got("state", act.state, ", ".join(OVER))
    return _over(state, job, act, asking, f"{job.kind} {job.id} {act.state.lower()}")


def _over(state: State, job: jobs.Job, act: jobs.EndJob, asking: Asking, words: str) -> Decision:
    events: list[Event] = [
        people.KeyRevoked(public=key.public, at=asking.now)
        for key in state.keys
        if key.job == job.id and key.revoked is None
    ]
    events.append(jobs.JobEnded(job=job.id, state=act.state, at=asking.now, result=act.result, error=act.error))

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        for following in LEADS_TO[job.kind](after, job, act):
            yield following, asked._replace(actor=job.actor, chained=True)

    return Decision(events, words, lambda after: after.jobs[job.id], then)


def _after_pipeline(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    assert act.state in ("SUCCEEDED", "FAILED", "CANCELLED", "LOST")
    yield pipelines.EndPipeline(
        pipeline_run=job.subject, state=act.state, result=act.result, error=act.error, metrics=act.metrics
    )


def _after_drift(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    spec = msgspec.convert(job.spec, monitoring.DriftSpec)
    if act.result is None:
        yield _failed(job, act)
        return
    result = msgspec.convert(act.result, monitoring.DriftResult)
    yield monitoring.RecordDrift(
        job=job.id,
        endpoint=spec.endpoint,
        version=spec.version,
        since=spec.since,
        until=spec.until,
        rule=spec.rule,
        n_reference=result.n_reference,
        n_current=result.n_current,
        features=result.features,
        verdict=result.verdict,
        words=result.words,
    )


def _after_optimise(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    spec = msgspec.convert(job.spec, compression.OptimiseSpec)
    if act.result is None:
        yield _failed(job, act)
        return
    result = msgspec.convert(act.result, compression.OptimiseResult)
    parent = state.versions[spec.version]
    yield replace(_child(state, parent, result, result.measured.size_after), tags={"recipe": spec.recipe})
    child = f"{parent.model}@{state.models[parent.model].latest}"
    yield compression.RecordOptimisation(
        job=job.id,
        parent=parent.id,
        child=child,
        recipe=spec.recipe,
        measured=result.measured,
        recommended=result.recommended,
        words=result.words,
    )


def _after_convert(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    if act.result is None:
        yield _failed(job, act)
        return
    result = msgspec.convert(act.result, ConvertResult)
    parent = state.versions[job.subject]
    yield replace(_child(state, parent, result, result.size), notes=f"converted from {parent.id}: {result.words}")


def _child(
    state: State, parent: registry.Version, result: compression.OptimiseResult | ConvertResult, size: int
) -> registry.RegisterVersion:
    """What a job made of a version, to be registered below it."""
    return registry.RegisterVersion(
        model=parent.model,
        digest=result.model,
        size=size,
        format="onnx",
        signature=result.signature,
        metrics=result.metrics,
        run=_in_sight(state, parent.run),
        dataset=parent.dataset,
        parent=parent.id,
        reference=parent.reference,
        golden=result.golden,
    )


def _in_sight(state: State, run: str | None) -> str | None:
    """The run unless it was removed meanwhile: the child is made all the same."""
    found = state.runs.get(run or "")
    return run if found is not None and found.removed is None else None


def _after_admission(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    spec = msgspec.convert(job.spec, AdmissionSpec)
    ok = act.state == "SUCCEEDED"
    yield deployments.AdmitVersion(
        endpoint=spec.endpoint, version=spec.version, ok=ok, why=act.error or "", figures=act.result or {}
    )


def _failed(job: jobs.Job, act: jobs.EndJob) -> Act[Any]:
    return monitoring.RaiseAlert(
        kind=f"{job.kind} job {act.state.lower()}",
        subject=job.subject,
        severity="warning",
        words=(act.error or act.state)[:500],
        next=f"qd jobs log --job {job.id}",
    )


def _without_result(job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    """A job that left nothing is an alert, unless somebody cancelled it."""
    if act.state != "CANCELLED":
        yield _failed(job, act)


def _after_batch(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    if act.result is None:
        yield from _without_result(job, act)


def _after_rows(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    if act.result is None:
        return  # who asked waits for the job, and reads which row it was
    spec = msgspec.convert(job.spec, features.RowsSpec)
    result = msgspec.convert(act.result, features.RowsResult)
    yield features.NoteRows(view=spec.view.name, source=spec.source, known=spec.known, result=result)


def _after_join(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    if act.result is not None:
        yield features.NoteTrainingSet(job=job.id, spec=job.spec, result=act.result)


def _after_materialise(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    if act.result is not None:
        yield online.NoteGeneration(job=job.id, result=msgspec.convert(act.result, online.MaterialiseResult))
    else:
        yield from _without_result(job, act)


def _after_compaction(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    if act.result is not None:
        yield feature_files.NoteParts(spec=job.spec, result=act.result)
    else:
        yield from _without_result(job, act)


def _after_forgetting(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    if act.result is not None:
        yield feature_files.NoteForgotten(spec=job.spec, result=act.result)
    elif act.state == "LOST":
        yield feature_files.ForgetAgain(forgetting=job.spec["forgetting"])
    else:
        yield _failed(job, act)


def _after_parity(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    if act.result is None:
        yield from _without_result(job, act)
        return
    found = msgspec.convert(act.result, feature_checks.ParityResult)
    standing = [
        each.id for each in state.alerts if (each.kind, each.subject, each.resolved) == (DIFFER, job.subject, None)
    ]
    if not found.mismatches:
        for alert in standing:
            yield monitoring.ResolveAlert(alert=alert, note=found.words)
    elif not standing:
        yield monitoring.RaiseAlert(
            kind=DIFFER,
            subject=job.subject,
            severity="critical",
            words=f"{found.view} is read otherwise online than offline: {found.words}",
            next=f"qd features parity {job.subject}",
        )


def _after_stream(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    spec = msgspec.convert(job.spec, streams.StreamSpec)
    yield streams.ResumeStream(stream=spec.stream, stopped=act.state == "CANCELLED", why=act.error or "")


def _after_replay(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    if act.result is None:
        yield from _without_result(job, act)
        return
    spec = msgspec.convert(job.spec, replays.ReplaySpec)
    yield replays.RecordReplay(
        job=job.id,
        endpoint=spec.endpoint,
        version=spec.version,
        since=spec.since,
        until=spec.until,
        limit=spec.limit,
        tolerance=spec.tolerance,
        found=msgspec.convert(act.result, replays.ReplayResult),
    )


def _after_drill(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    if act.result is None:
        yield from _without_result(job, act)
        return
    spec = msgspec.convert(job.spec, drills.DrillSpec)
    yield drills.RecordDrill(
        job=job.id,
        endpoint=spec.endpoint,
        live=spec.live,
        to=spec.to,
        rate=spec.rate,
        seconds=spec.seconds,
        hosts=spec.hosts,
        within=spec.within,
        found=msgspec.convert(act.result, drills.DrillResult),
    )


def _after_study(state: State, job: jobs.Job, act: jobs.EndJob) -> Iterator[Act[Any]]:
    result = msgspec.convert(act.result, studies.StudyResult) if act.result is not None else None
    assert act.state in ("SUCCEEDED", "FAILED", "CANCELLED", "LOST")
    yield studies.EndStudy(study=job.subject, state=act.state, result=result, error=act.error)


LEADS_TO: dict[jobs.JobKind, Led] = {
    "pipeline": _after_pipeline,
    "drift": _after_drift,
    "optimise": _after_optimise,
    "admission": _after_admission,
    "convert": _after_convert,
    "batch": _after_batch,
    "feature_rows": _after_rows,
    "training_set": _after_join,
    "materialise": _after_materialise,
    "compaction": _after_compaction,
    "forgetting": _after_forgetting,
    "feature_stats": _after_batch,
    "feature_parity": _after_parity,
    "stream": _after_stream,
    "replay": _after_replay,
    "drill": _after_drill,
    "study": _after_study,
}
"""What the end of each kind of job leads to."""


def _list(state: State, query: jobs.ListJobs, asking: Asking) -> list[jobs.Job]:
    found = [
        job
        for job in state.jobs
        if (not query.live or job.state not in OVER) and (query.kind is None or job.kind == query.kind)
    ]
    return sorted(found, key=lambda job: job.created, reverse=True)[: max(1, query.limit)]


def _show(state: State, query: jobs.ShowJob, asking: Asking) -> jobs.Job:
    found: jobs.Job = one_of(state.jobs, "job", query.job)
    return found


RULES: Rules = {jobs.CancelJob: _cancel, jobs.BeginJob: _begin, jobs.EndJob: _end}
ANSWERS: Answerers = {jobs.ListJobs: _list, jobs.ShowJob: _show}
