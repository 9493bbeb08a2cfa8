"""What a switch, a canary and a trial share: a free endpoint, the admission of a version, the stages that move with
traffic, the way back from a canary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from quarterdeckd.services.deciding import Asking, Decision
from quarterdeckd.services.evidence import cleared_by_hooks, cleared_for_production
from quarterdeckd.services.signatures import diff
from quarterstore.ledger.finding import places_of, trial_at
from quarterstore.ledger.state import State
from quarterstore.records import deployments, jobs, monitoring, registry
from quarterstore.records.admission import AdmissionSpec
from quarterstore.records.base import Act, Event
from quarterstore.records.faults import Conflict, Refused, got
from quarterstore.records.names import checked_word
from quarterstore.records.wire import plain

SERVED = "onnx"
LARGEST_BATCH = 4096
"""Rows; a run of more holds up whoever comes after it."""
LONGEST_WAIT = 1000.0
"""Milliseconds a request may wait for others."""
EXPORT = "export it to ONNX and register that: qd register model.onnx --parent VERSION"


def _free(state: State, deployment: deployments.Deployment | None, now: float) -> None:
    if deployment is None:
        return
    trial, canary = trial_at(state, deployment.endpoint), deployment.canary
    if canary is not None or trial is not None:
        running = f"canary {canary.candidate} at {canary.share} %" if canary else trial.words() if trial else ""
        since = canary.step_since if canary else trial.since if trial else now
        raise Conflict(
            f"{running} since {_clock(since, now)}",
            field="endpoint",
            next=f"abort it (qd rollback {deployment.endpoint}) or wait",
        )
    if deployment.pending is not None:
        raise Conflict(
            f"{deployment.pending} is being admitted",
            field="endpoint",
            next="wait, or qd rollback " + deployment.endpoint,
        )


def _clock(at: float, now: float) -> str:
    """`10:02`, with its day where that is not today."""
    moment, today = time.localtime(at), time.localtime(now)
    return time.strftime("%H:%M" if moment[:3] == today[:3] else "%Y-%m-%d %H:%M", moment)


def free_endpoint(
    state: State, given: str | None, version: registry.Version, now: float
) -> tuple[str, deployments.Deployment | None]:
    if not version.digest:
        raise Refused(
            f"{version.id} is kept by reference ({version.source[:100]}), expected a model file that is here",
            field="version",
            next="register its file with: qd register",
        )
    if version.format != SERVED:
        way = f"qd registry convert --version {version.id}" if version.format == "skops" else EXPORT
        raise Refused(f"{version.id} is {version.format}, expected {SERVED}", field="version", next=way)
    endpoint = checked_word("endpoint", given or version.model)
    deployment = state.deployments.get(endpoint)
    if deployment is not None and deployment.model != version.model:
        raise Conflict(f"{endpoint} serves {deployment.model}, got {version.model}", field="endpoint")
    _free(state, deployment, now)
    return endpoint, deployment


def checked_batching(rule: deployments.BatchingRule) -> deployments.BatchingRule:
    """The rule, if a host can hold to it; raises `Invalid`."""
    if not 1 <= rule.max_batch <= LARGEST_BATCH:
        raise got("max_batch", rule.max_batch, f"1 (no batching) to {LARGEST_BATCH} rows")
    if not 0 <= rule.max_wait_ms <= LONGEST_WAIT:
        raise got("max_wait_ms", rule.max_wait_ms, f"0 to {LONGEST_WAIT:g} ms")
    if rule.max_batch == 1 and rule.max_wait_ms:
        raise got("max_wait_ms", rule.max_wait_ms, "0 beside a max_batch of 1: there is nothing to wait for")
    return rule


def breaks_callers(state: State, deployment: deployments.Deployment | None, version: registry.Version) -> str:
    """What a caller of the live version could not ask of this one any more, in words; nothing where all can."""
    live = state.versions.get(deployment.live or "") if deployment is not None else None
    if live is None:
        return ""
    changed = diff(live.signature, version.signature)
    words = [each for each in changed.words if each.startswith(("input", "feature"))] if changed.bump == "major" else []
    return "; ".join(words)


def admission(endpoint: str, version: registry.Version, asking: Asking) -> jobs.JobQueued:
    """The job in which a version answers its golden rows, in a process of its own."""
    spec = AdmissionSpec(
        endpoint=endpoint,
        version=version.id,
        model=version.digest,
        digest=version.digest,
        golden=version.golden,
        signature=version.signature,
    )
    job = jobs.Job(
        id=asking.id("job"),
        kind="admission",
        subject=version.id,
        state="QUEUED",
        created=asking.now,
        actor=asking.actor,
        spec=plain(spec),
        limits=jobs.Limits(seconds=120),
        cause=f"deployment {endpoint}",
    )
    return jobs.JobQueued(job=job)


def cleared_to_try(
    state: State, version: registry.Version, deployment: deployments.Deployment, asking: Asking, what: str
) -> list[Event]:
    """The events that clearing a Staging version for a share of live traffic leaves; raises where its stage, its
    callers, its gate, a missing approval or a hook says no."""
    if version.stage != "Staging":
        raise Refused(
            f"{version.id} is in {version.stage}, expected Staging",
            field="version",
            next=f"qd promote {version.id} Staging",
        )
    if broken := breaks_callers(state, deployment, version):
        raise Refused(
            f"{version.id} cannot answer what callers ask of {deployment.live}: {broken}",
            field="version",
            next=f"give it an endpoint of its own: qd deploy {version.id} --endpoint NAME",
        )
    reason = f"{what} asked for in solo" if asking.profile == "solo" else ""
    events = cleared_for_production(state, version, deployment.environment, asking, reason)
    cleared_by_hooks(state, version, "Production", deployment.environment, asking)
    return events


def admitting(waiting: deployments.Deployment, version: registry.Version, asking: Asking, words: str) -> Decision:
    events: list[Event] = [
        deployments.DeploymentAsked(deployment=waiting),
        admission(waiting.endpoint, version, asking),
    ]
    return Decision(events, words, lambda after: after.deployments[waiting.endpoint])


def live_beside(
    state: State, given: str | None, version: registry.Version, asking: Asking
) -> tuple[str, deployments.Deployment]:
    """The live version beside which another one may be tried, and its endpoint; `Refused` where there is none."""
    endpoint, deployment = free_endpoint(state, given, version, asking.now)
    if deployment is None or deployment.live is None:
        raise Refused(
            f"{endpoint} has no live version",
            field="endpoint",
            next=f"deploy one first: qd deploy {version.model}@Production",
        )
    if deployment.live == version.id:
        raise Conflict(f"{version.id} is live at {endpoint} already", field="version")
    return deployment.live, deployment


def stages_of(
    state: State,
    up: str,
    champion: registry.Version | None,
    deployment: deployments.Deployment,
    canary: deployments.Canary | None,
    asking: Asking,
    reason: str,
    down_to: registry.Stage = "Archived",
) -> list[Event]:
    """The champion leaves Production and `up` takes its place; who asked and who approved go with it."""
    events: list[Event] = []

    def moved(version: str, before: registry.Stage, after: registry.Stage, **approved: Any) -> registry.StageMoved:
        return registry.StageMoved(
            version=version,
            before=before,
            after=after,
            environment=deployment.environment,
            at=asking.now,
            asked_by=canary.asked_by if canary else asking.actor,
            reason=reason,
            deployment=deployment.id,
            **approved,
        )

    if champion is not None and champion.id != up:
        events.append(moved(champion.id, "Production", down_to))
    version = state.versions[up]
    if deployment.environment not in places_of(state, version):
        by = {"approval": canary.approval, "approved_by": canary.approved_by} if canary else {}
        events.append(moved(up, version.stage, "Production", **by))
    return events


def call_off(
    deployment: deployments.Deployment,
    canary: deployments.Canary,
    asking: Asking,
    reason: str,
    verdict: deployments.CanaryVerdict | None,
) -> Decision:
    endpoint = deployment.endpoint
    event = deployments.RolledBack(
        endpoint=endpoint,
        from_version=canary.candidate,
        to_version=deployment.live or "none",
        epoch=asking.seq,
        at=asking.now,
        by=asking.actor,
        reason=reason,
        automatic=verdict is not None,
        verdict=verdict,
    )

    def alert(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        if verdict is not None:
            yield (
                monitoring.RaiseAlert(
                    kind="canary rolled back",
                    subject=endpoint,
                    severity="critical",
                    words=f"{canary.candidate} at {canary.share} %: {reason}",
                    next=f"qd version diff {deployment.live} {canary.candidate}",
                ),
                asked,
            )

    return Decision(
        [event],
        f"rolled back canary {canary.candidate} at {endpoint}: {reason}",
        lambda after: after.deployments[endpoint],
        alert,
    )
