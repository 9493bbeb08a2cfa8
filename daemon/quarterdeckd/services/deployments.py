"""The rules of deployments: blue-green, the canary's steps, rollback; stage and traffic move together, in one entry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from quarterdeckd.rollout import canary as rollout
from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.evidence import cleared_for_production
from quarterstore.ledger.finding import deployment_of, production_of, version_of
from quarterstore.ledger.state import Recording, State
from quarterstore.records import deployments, jobs, monitoring, registry
from quarterstore.records.base import Act, Event
from quarterstore.records.faults import Conflict, NotFound, Refused, got, missing
from quarterstore.records.names import checked_text, checked_word

CRASHES = 2
"""Crashes of one slot after which it is rolled back."""


def _free(deployment: deployments.Deployment | None) -> None:
    if deployment is None:
        return
    if deployment.canary is not None:
        canary = deployment.canary
        raise Conflict(
            f"canary {canary.candidate} at {canary.share} %",
            field="endpoint",
            next=f"abort it (qd rollback {deployment.endpoint}) or wait",
        )
    if deployment.pending is not None:
        raise Conflict(
            f"{deployment.pending} is being admitted",
            field="endpoint",
            next="wait, or qd rollback " + deployment.endpoint,
        )


def _endpoint(state: State, given: str | None, version: registry.Version) -> tuple[str, deployments.Deployment | None]:
    endpoint = checked_word("endpoint", given or version.model)
    deployment = state.deployments.get(endpoint)
    if deployment is not None and deployment.model != version.model:
        raise Conflict(f"{endpoint} serves {deployment.model}, got {version.model}", field="endpoint")
    _free(deployment)
    return endpoint, deployment


def _deploy(state: State, act: deployments.Deploy, asking: Asking) -> Decision:
    version = version_of(state, act.version, environment=act.environment)
    if version.stage != "Production":
        raise Refused(
            f"{version.id} is in {version.stage}, expected Production",
            field="version",
            next=f"qd promote {version.id} Production",
        )
    endpoint, deployment = _endpoint(state, act.endpoint, version)
    if deployment is not None and deployment.live == version.id:
        raise Conflict(f"{version.id} is live at {endpoint} already", field="version")
    tenure = next((found for found in state.tenures if found.version == version.id and found.until is None), None)
    wanted = _wanted(deployment, endpoint, version, act.environment, asking, tenure.approved_by if tenure else None)
    if version.id in state.admissions:
        before = deployment.live if deployment else None
        events: list[Event] = [deployments.DeploymentAsked(deployment=wanted)]
        events.append(
            deployments.Switched(endpoint=endpoint, before=before, after=version.id, epoch=asking.seq, at=asking.now)
        )
        return Decision(events, f"deployed {version.id} at {endpoint}", lambda after: after.deployments[endpoint])
    waiting = replace(wanted, state="ADMITTING", pending=version.id, pending_plan="switch")
    return _admitting(waiting, version, asking, f"deploying {version.id} at {endpoint}")


def _wanted(
    deployment: deployments.Deployment | None,
    endpoint: str,
    version: registry.Version,
    environment: str,
    asking: Asking,
    approved_by: str | None,
) -> deployments.Deployment:
    if deployment is not None:
        return replace(
            deployment,
            changed=asking.now,
            asked_by=asking.actor,
            approval=asking.approval,
            approved_by=approved_by,
            why="",
        )
    deployment_id = asking.id("dep")
    return deployments.Deployment(
        id=deployment_id,
        endpoint=endpoint,
        model=version.model,
        environment=environment,
        state="ADMITTING",
        live=None,
        epoch=asking.seq,
        created=asking.now,
        changed=asking.now,
        asked_by=asking.actor,
        approval=asking.approval,
        approved_by=approved_by,
        salt=hashlib.sha256(deployment_id.encode()).hexdigest()[:16],
    )


def _admitting(waiting: deployments.Deployment, version: registry.Version, asking: Asking, words: str) -> Decision:
    spec = deployments.AdmissionSpec(
        endpoint=waiting.endpoint,
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
        spec=msgspec.to_builtins(spec),
        limits=jobs.Limits(seconds=120),
        cause=f"deployment {waiting.endpoint}",
    )
    events: list[Event] = [deployments.DeploymentAsked(deployment=waiting), jobs.JobQueued(job=job)]
    return Decision(events, words, lambda after: after.deployments[waiting.endpoint])


def _start_canary(state: State, act: deployments.StartCanary, asking: Asking) -> Decision:
    version = version_of(state, act.version)
    ladder, rule = rollout.checked_ladder(act.ladder), rollout.checked(act.rule)
    endpoint, deployment = _endpoint(state, act.endpoint, version)
    if deployment is None or deployment.live is None:
        raise Refused(
            f"{endpoint} has no live version",
            field="endpoint",
            next=f"deploy one first: qd deploy {version.model}@Production",
        )
    if deployment.live == version.id:
        raise Conflict(f"{version.id} is live at {endpoint} already", field="version")
    if version.stage != "Staging":
        raise Refused(
            f"{version.id} is in {version.stage}, expected Staging",
            field="version",
            next=f"qd promote {version.id} Staging",
        )
    overrides = cleared_for_production(
        state, version, asking, "a canary asked for in solo" if asking.profile == "solo" else ""
    )
    canary = deployments.Canary(
        candidate=version.id,
        ladder=ladder,
        step=0,
        rule=rule,
        since=asking.now,
        step_since=asking.now,
        asked_by=asking.actor,
        approval=asking.approval,
        approved_by=asking.approved_by,
    )
    if version.id in state.admissions:
        event = deployments.CanaryStarted(endpoint=endpoint, canary=canary, epoch=asking.seq, at=asking.now)
        return Decision(
            [*overrides, event], f"canary of {version.id} at {endpoint}", lambda after: after.deployments[endpoint]
        )
    waiting = replace(deployment, pending=version.id, pending_plan="canary", pending_canary=canary, changed=asking.now)
    decision = _admitting(waiting, version, asking, f"canary of {version.id} at {endpoint} asked for")
    return decision._replace(events=[*overrides, *decision.events])


def _admit(state: State, act: deployments.AdmitVersion, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    answer = act.endpoint
    if not act.ok:
        events: list[Event] = []
        if deployment.pending == act.version:
            failed = deployments.AdmissionFailed(endpoint=answer, version=act.version, at=asking.now, why=act.why)
            events.append(failed)

        def alert(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
            yield (
                monitoring.RaiseAlert(
                    kind="admission failed",
                    subject=act.version,
                    severity="critical",
                    words=f"{act.version} did not answer its golden rows: {act.why[:300]}",
                    next=f"qd registry show --version {act.version}",
                ),
                asked,
            )

        return Decision(
            events, f"{act.version} was not admitted: {act.why[:200]}", lambda after: after.deployments[answer], alert
        )
    events = [deployments.VersionAdmitted(version=act.version, at=asking.now, figures=act.figures)]
    if deployment.pending == act.version and deployment.pending_plan == "switch":
        events.append(
            deployments.Switched(
                endpoint=answer, before=deployment.live, after=act.version, epoch=asking.seq, at=asking.now
            )
        )
    elif deployment.pending == act.version and deployment.pending_canary is not None:
        canary = replace(deployment.pending_canary, since=asking.now, step_since=asking.now)
        events.append(deployments.CanaryStarted(endpoint=answer, canary=canary, epoch=asking.seq, at=asking.now))
    return Decision(events, f"admitted {act.version}", lambda after: after.deployments[answer])


def _judge(state: State, act: deployments.JudgeStep, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    canary = deployment.canary
    if canary is None or act.epoch != deployment.epoch:
        raise Conflict(f"{act.endpoint} is at epoch {deployment.epoch}, got counts of {act.epoch}", field="epoch")
    endpoint = act.endpoint
    verdict = rollout.judge(canary.rule, act.live, act.candidate, asking.now - canary.step_since)
    move = rollout.next_step(canary, verdict)
    if move.what == "roll back":
        return _roll_back_canary(deployment, canary, asking, verdict.why, verdict)
    if move.what == "hold":
        event = deployments.CanaryJudged(endpoint=endpoint, verdict=verdict, at=asking.now)
        return Decision(
            [event], f"{endpoint} holds at {canary.share} %: {verdict.why}", lambda after: after.deployments[endpoint]
        )
    if move.what == "advance":
        step = move.step
        advanced = deployments.CanaryAdvanced(
            endpoint=endpoint,
            step=step,
            share=canary.ladder[step],
            verdict=verdict,
            epoch=asking.seq,
            at=asking.now,
        )
        return Decision(
            [advanced],
            f"{endpoint}: {canary.candidate} goes to {canary.ladder[step]} %: {verdict.why}",
            lambda after: after.deployments[endpoint],
        )
    return _finish(state, deployment, canary, verdict, asking)


def _finish(
    state: State,
    deployment: deployments.Deployment,
    canary: deployments.Canary,
    verdict: deployments.CanaryVerdict,
    asking: Asking,
) -> Decision:
    endpoint = deployment.endpoint
    event = deployments.CanaryFinished(
        endpoint=endpoint,
        before=deployment.live,
        after=canary.candidate,
        epoch=asking.seq,
        at=asking.now,
        verdict=verdict,
    )
    champion = production_of(state, state.versions[canary.candidate].model, deployment.environment)
    stages = _stages(
        state, canary.candidate, champion, deployment, canary, asking, f"canary at {endpoint} reached 100 %"
    )
    return Decision(
        [event, *stages],
        f"{endpoint}: {canary.candidate} is live: {verdict.why}",
        lambda after: after.deployments[endpoint],
    )


def _stages(
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
    asked_by = canary.asked_by if canary else asking.actor
    if champion is not None and champion.id != up:
        events.append(
            registry.StageMoved(
                version=champion.id,
                before="Production",
                after=down_to,
                environment=deployment.environment,
                at=asking.now,
                asked_by=asked_by,
                reason=reason,
                deployment=deployment.id,
            )
        )
    version = state.versions[up]
    if version.stage != "Production":
        events.append(
            registry.StageMoved(
                version=up,
                before=version.stage,
                after="Production",
                environment=deployment.environment,
                at=asking.now,
                asked_by=asked_by,
                reason=reason,
                approval=canary.approval if canary else None,
                approved_by=canary.approved_by if canary else None,
                deployment=deployment.id,
            )
        )
    return events


def _roll_back(state: State, act: deployments.RollBack, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    reason = checked_text("reason", act.reason, longest=1000) if act.reason else f"by {asking.actor}"
    if deployment.canary is not None:
        return _roll_back_canary(deployment, deployment.canary, asking, reason, None)
    if deployment.pending is not None:
        called_off = deployments.AdmissionFailed(
            endpoint=act.endpoint, version=deployment.pending, at=asking.now, why=f"called off: {reason}"
        )
        return Decision([called_off], f"called off {deployment.pending}", lambda after: after.deployments[act.endpoint])
    back_to = next(
        (
            found
            for version in reversed(deployment.previous)
            if (found := state.versions[version]).removed is None and found.id != deployment.live
        ),
        None,
    )
    if back_to is None:
        raise NotFound(f"{act.endpoint} has no version to go back to", field="endpoint")
    event = deployments.RolledBack(
        endpoint=act.endpoint,
        from_version=deployment.live or "none",
        to_version=back_to.id,
        epoch=asking.seq,
        at=asking.now,
        by=asking.actor,
        reason=reason,
    )
    champion = production_of(state, deployment.model, deployment.environment)
    stages = _stages(state, back_to.id, champion, deployment, None, asking, f"rollback: {reason}", "Staging")
    return Decision(
        [event, *stages],
        f"rolled {act.endpoint} back from {deployment.live} to {back_to.id}: {reason}",
        lambda after: after.deployments[act.endpoint],
    )


def _roll_back_canary(
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
                    next=f"qd diff {deployment.live} {canary.candidate}",
                ),
                asked,
            )

    return Decision(
        [event],
        f"rolled back canary {canary.candidate} at {endpoint}: {reason}",
        lambda after: after.deployments[endpoint],
        alert,
    )


def _stop(state: State, act: deployments.StopEndpoint, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    if deployment.state == "STOPPED":
        raise Conflict(f"{act.endpoint} is stopped already", field="endpoint")
    event = deployments.EndpointStopped(
        endpoint=act.endpoint, epoch=asking.seq, at=asking.now, reason=act.reason or f"by {asking.actor}"
    )
    return Decision([event], f"stopped {act.endpoint}", lambda after: after.deployments[act.endpoint])


def _set_recording(state: State, act: deployments.SetRecording, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    if not 1 <= act.days <= 36_500:
        raise got("days", act.days, "1 to 36500")
    live = state.versions.get(deployment.live or "")
    known = [feature.name for feature in live.signature.features] if live else []
    for field in act.fields:
        if known and field not in known:
            raise missing("fields", field, known)
    rule = deployments.RecordingRule(fields=act.fields, default=act.default, days=act.days, salt=deployment.salt)
    return Decision(
        [deployments.RecordingSet(endpoint=act.endpoint, recording=rule)],
        f"set what is recorded at {act.endpoint}",
        lambda after: rule,
    )


def _note_crash(state: State, act: deployments.NoteCrash, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    cursor = state.cursors.get(f"crashes/{act.endpoint}/{act.version}")
    count = int(cursor.value) + 1 if cursor else 1
    event = deployments.SlotCrashed(
        endpoint=act.endpoint, version=act.version, count=count, at=asking.now, detail=act.detail[:500]
    )
    candidate = deployment.canary.candidate if deployment.canary else None

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        if count >= CRASHES and (act.version == candidate or (act.version == deployment.live and deployment.previous)):
            reason = f"{count} crashes while {act.version} was running"
            yield deployments.RollBack(endpoint=act.endpoint, reason=reason), asked
        yield (
            monitoring.RaiseAlert(
                kind="slot crashed",
                subject=f"{act.endpoint}/{act.version}",
                severity="critical",
                words=f"a host died while {act.version} was running ({count} so far)",
                next=f"qd deployments show --endpoint {act.endpoint}",
            ),
            asked,
        )

    return Decision([event], f"{act.version} crashed a host", lambda after: after.deployments[act.endpoint], then)


def _serving(state: State, act: deployments.StopServing, asking: Asking) -> Decision:
    stopped = not act.resume
    event = deployments.ServingStopped(stopped=stopped, at=asking.now)
    nothing = deployments.ServingState(launcher=None, address=None, epoch=0, hosts=())
    return Decision([event], "stopped serving" if stopped else "resumed serving", lambda after: nothing)


def table_of(state: State, path_of: Any) -> deployments.RoutingTable:
    """The routing table that the deployments ask for; `path_of(digest)` is where a model's file lies. Level-triggered:
    it is worked out from the state whenever it may have changed, and pushed when it differs from what the hosts
    have."""
    routes = [route for found in state.deployments if (route := _route(state, found, path_of)) is not None]
    epoch = max((route.epoch for route in routes), default=0)
    stopped = max((found.epoch for found in state.deployments), default=0)
    return deployments.RoutingTable(epoch=max(epoch, stopped), routes=tuple(routes))


def _route(state: State, deployment: deployments.Deployment, path_of: Any) -> deployments.Route | None:
    if deployment.live is None:
        return None
    share = deployment.canary.share if deployment.canary else 0
    slots = [_slot(state, deployment.live, 100 - share, "live", path_of)]
    if deployment.canary is not None:
        slots.append(_slot(state, deployment.canary.candidate, share, "candidate", path_of))
    recording: Recording | None = state.recordings.get(deployment.endpoint)
    return deployments.Route(
        endpoint=deployment.endpoint,
        epoch=deployment.epoch,
        slots=tuple(slots),
        salt=deployment.salt,
        recording=recording.rule if recording else deployments.RecordingRule(salt=deployment.salt),
    )


def _slot(state: State, version_id: str, share: int, role: Any, path_of: Any) -> deployments.Slot:
    version = state.versions[version_id]
    return deployments.Slot(
        version=version.id,
        path=str(path_of(version.digest)),
        digest=version.digest,
        signature=version.signature,
        share=share,
        role=role,
    )


RULES: Rules = {
    deployments.Deploy: _deploy,
    deployments.StartCanary: _start_canary,
    deployments.AdmitVersion: _admit,
    deployments.JudgeStep: _judge,
    deployments.RollBack: _roll_back,
    deployments.StopEndpoint: _stop,
    deployments.SetRecording: _set_recording,
    deployments.NoteCrash: _note_crash,
    deployments.StopServing: _serving,
}
ANSWERS: Answerers = {
    deployments.ListDeployments: lambda state, query, asking: sorted(
        state.deployments, key=lambda found: found.endpoint
    ),
    deployments.ShowDeployment: lambda state, query, asking: deployment_of(state, query.endpoint),
}
