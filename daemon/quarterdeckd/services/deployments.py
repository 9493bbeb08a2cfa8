"""The rules of deployments: blue-green, the canary's steps, rollback; stage and traffic move together, in one entry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.endpoints import (
    admitting,
    breaks_callers,
    call_off,
    checked_batching,
    free_endpoint,
    stages_of,
)
from quarterdeckd.services.trying import admitted, ended, not_admitted
from quarterstore.ledger.finding import (
    deployment_of,
    in_use,
    places_of,
    production_of,
    trial_at,
    version_before,
    version_of,
)
from quarterstore.ledger.state import State
from quarterstore.records import deployments, monitoring, registry
from quarterstore.records.base import Act, Event
from quarterstore.records.faults import Conflict, NotFound, Refused, got, missing
from quarterstore.records.names import checked_text
from quarterstore.records.serving import ServingState

CRASHES = 2
"""Crashes of one slot after which it is rolled back."""


def _deploy(state: State, act: deployments.Deploy, asking: Asking) -> Decision:
    version = version_of(state, act.version, environment=act.environment)
    places = places_of(state, version)
    if act.environment not in places:
        found = f"Production of {', '.join(places)}" if places else version.stage
        other = act.environment != "default"
        of, named = (f" of {act.environment}", f" --environment {act.environment}") if other else ("", "")
        raise Refused(
            f"{version.id} is in {found}, expected Production{of}",
            field="version",
            next=f"qd promote {version.id} {'Production' if version.stage == 'Staging' else 'Staging'}{named}",
        )
    serving = state.cursors.get("serving")
    if serving is not None and serving.value == "stopped":
        raise Refused("serving was stopped by a person", field="serving", next="qd serving start")
    endpoint, deployment = free_endpoint(state, act.endpoint, version, asking.now)
    if deployment is not None and deployment.environment != act.environment:
        raise Conflict(f"{endpoint} is of {deployment.environment}, got {act.environment}", field="environment")
    if deployment is not None and deployment.live == version.id:
        raise Conflict(f"{version.id} is live at {endpoint} already", field="version")
    tenure = next((found for found in state.tenures if found.version == version.id and found.until is None), None)
    wanted = _wanted(deployment, endpoint, version, act.environment, asking, tenure.approved_by if tenure else None)
    if act.batching is not None:
        wanted = replace(wanted, batching=checked_batching(act.batching))
    decision = _switched(state, deployment, wanted, version, asking)
    broken = breaks_callers(state, deployment, version)
    return decision._replace(then=_warning(endpoint, wanted.live, version.id, broken)) if broken else decision


def _switched(
    state: State,
    deployment: deployments.Deployment | None,
    wanted: deployments.Deployment,
    version: registry.Version,
    asking: Asking,
) -> Decision:
    endpoint = wanted.endpoint
    if version.id in state.admissions:
        before = deployment.live if deployment else None
        events: list[Event] = [deployments.DeploymentAsked(deployment=wanted)]
        events.append(
            deployments.Switched(endpoint=endpoint, before=before, after=version.id, epoch=asking.seq, at=asking.now)
        )
        return Decision(events, f"deployed {version.id} at {endpoint}", lambda after: after.deployments[endpoint])
    waiting = replace(wanted, state="ADMITTING", pending=version.id, pending_plan="switch")
    return admitting(waiting, version, asking, f"deploying {version.id} at {endpoint}")


def _warning(
    endpoint: str, before: str | None, after: str, broken: str
) -> Callable[[State, Asking], Iterator[tuple[Act[Any], Asking]]]:
    """A switch that breaks callers is a person's to make, and is said aloud."""

    def alert(state: State, asking: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        yield (
            monitoring.RaiseAlert(
                kind="callers broken",
                subject=endpoint,
                severity="warning",
                words=f"{after} cannot answer what callers ask of {before}: {broken}"[:500],
                next=f"qd rollback {endpoint}",
            ),
            asking,
        )

    return alert


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


def _admit(state: State, act: deployments.AdmitVersion, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    answer = act.endpoint
    if not act.ok:
        events: list[Event] = []
        if deployment.pending == act.version:
            failed = deployments.AdmissionFailed(endpoint=answer, version=act.version, at=asking.now, why=act.why)
            events.append(failed)
        events += not_admitted(state, act.endpoint, act.version, act.why, asking)

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
    events += admitted(state, act.endpoint, act.version, asking)
    return Decision(events, f"admitted {act.version}", lambda after: after.deployments[answer])


def _roll_back(state: State, act: deployments.RollBack, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    reason = checked_text("reason", act.reason, longest=1000) if act.reason else f"by {asking.actor}"
    if deployment.canary is not None:
        return call_off(deployment, deployment.canary, asking, reason, None)
    if (trial := trial_at(state, act.endpoint)) is not None:
        return ended(trial, asking, f"rolled back: {reason}", lambda after: after.deployments[act.endpoint])
    if deployment.pending is not None:
        called_off = deployments.AdmissionFailed(
            endpoint=act.endpoint, version=deployment.pending, at=asking.now, why=f"called off: {reason}"
        )
        return Decision([called_off], f"called off {deployment.pending}", lambda after: after.deployments[act.endpoint])
    champion = production_of(state, deployment.model, deployment.environment)
    back_to = version_before(state, deployment)
    if back_to is None:
        return _stage_back(state, deployment, champion, asking, reason)
    event = deployments.RolledBack(
        endpoint=act.endpoint,
        from_version=deployment.live or "none",
        to_version=back_to.id,
        epoch=asking.seq,
        at=asking.now,
        by=asking.actor,
        reason=reason,
    )
    stages = stages_of(state, back_to.id, champion, deployment, None, asking, f"rollback: {reason}", "Staging")
    return Decision(
        [event, *stages],
        f"rolled {act.endpoint} back from {deployment.live} to {back_to.id}: {reason}",
        lambda after: after.deployments[act.endpoint],
    )


def _stage_back(
    state: State,
    deployment: deployments.Deployment,
    champion: registry.Version | None,
    asking: Asking,
    reason: str,
) -> Decision:
    """Production goes back to the version that still answers, where another one took its stage and not its traffic."""
    live, endpoint = deployment.live, deployment.endpoint
    if live is None or champion is None or champion.id == live:
        raise NotFound(
            f"{endpoint} has no version to go back to",
            field="endpoint",
            next=None if live is None else f"take it down with: qd deployments stop --endpoint {endpoint}",
        )
    used_at = in_use(state, champion.id)
    if used_at is not None:
        raise Refused(f"{champion.id} is in Production and in use at {used_at}", field="endpoint")
    stages = stages_of(state, live, champion, deployment, None, asking, f"rollback: {reason}", "Staging")
    return Decision(
        list(stages),
        f"gave Production back from {champion.id} to {live}, which answers at {endpoint}: {reason}",
        lambda after: after.deployments[endpoint],
    )


def _stop(state: State, act: deployments.StopEndpoint, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    if deployment.state == "STOPPED":
        raise Conflict(f"{act.endpoint} is stopped already", field="endpoint")
    event = deployments.EndpointStopped(
        endpoint=act.endpoint, epoch=asking.seq, at=asking.now, reason=act.reason or f"by {asking.actor}"
    )
    trial = trial_at(state, act.endpoint)
    over = ended(trial, asking, "the endpoint was stopped", lambda after: trial) if trial else None
    return Decision(
        [event, *(over.events if over else ())],
        f"stopped {act.endpoint}",
        lambda after: after.deployments[act.endpoint],
        over.then if over else None,
    )


def _set_recording(state: State, act: deployments.SetRecording, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    if not 1 <= act.days <= 36_500:
        raise got("days", act.days, "1 to 36500")
    live = state.versions.get(deployment.live or "")
    known = [feature.name for feature in live.signature.features] if live else []
    for field in act.fields:
        if known and field not in (*known, "key"):
            raise missing("fields", field, known)
    rule = deployments.RecordingRule(fields=act.fields, default=act.default, days=act.days, salt=deployment.salt)
    return Decision(
        [deployments.RecordingSet(endpoint=act.endpoint, recording=rule)],
        f"set what is recorded at {act.endpoint}",
        lambda after: rule,
    )


def _set_batching(state: State, act: deployments.SetBatching, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    rule = checked_batching(act.batching)
    if deployment.batching == rule:
        raise Conflict(f"{act.endpoint} batches so already", field="batching")
    return Decision(
        [deployments.BatchingSet(endpoint=act.endpoint, batching=rule, at=asking.now)],
        f"set the batches of {act.endpoint} to {rule.max_batch} rows within {rule.max_wait_ms:g} ms",
        lambda after: after.deployments[act.endpoint],
    )


def _note_crash(state: State, act: deployments.NoteCrash, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    cursor = state.cursors.get(f"crashes/{act.endpoint}/{act.version}")
    count = (int(cursor.value) if cursor else 0) + (not act.out)
    event = deployments.SlotCrashed(
        endpoint=act.endpoint, version=act.version, count=count, at=asking.now, detail=act.detail[:500]
    )
    candidate = deployment.canary.candidate if deployment.canary else None
    trial = trial_at(state, act.endpoint)
    tried = trial.versions[1:] if trial else ()
    # nobody waits for a shadow, so that it need not be given a second chance
    enough = 1 if trial is not None and trial.kind == "shadow" and act.version in tried else CRASHES

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        behind = act.version == deployment.live and deployment.previous
        if (act.out or count >= enough) and (act.version in (candidate, *tried) or behind):
            times = "deaths of hosts" if act.out else f"{count} {'crash' if count == 1 else 'crashes'}"
            reason = f"{times} while {act.version} was running ({act.detail[:200]})"
            yield deployments.RollBack(endpoint=act.endpoint, reason=reason), asked
        yield (
            monitoring.RaiseAlert(
                kind="breaker open" if act.out else "slot crashed",
                subject=f"{act.endpoint}/{act.version}",
                severity="critical",
                words=(
                    f"{act.version} is out of traffic for a while, since hosts die of it ({act.detail[:200]})"
                    if act.out
                    else f"a host died while {act.version} was running ({count} so far)"
                ),
                next=f"qd deployments show --endpoint {act.endpoint}",
            ),
            asked,
        )

    words = f"{act.version} crashed hosts and is out of traffic" if act.out else f"{act.version} crashed a host"
    return Decision([event], words, lambda after: after.deployments[act.endpoint], then)


def _serving(state: State, act: deployments.StopServing, asking: Asking) -> Decision:
    stopped = not act.resume
    event = deployments.ServingStopped(stopped=stopped, at=asking.now)
    nothing = ServingState(launcher=None, address=None, epoch=0, hosts=())
    return Decision([event], "stopped serving" if stopped else "resumed serving", lambda after: nothing)


RULES: Rules = {
    deployments.Deploy: _deploy,
    deployments.AdmitVersion: _admit,
    deployments.RollBack: _roll_back,
    deployments.StopEndpoint: _stop,
    deployments.SetRecording: _set_recording,
    deployments.SetBatching: _set_batching,
    deployments.NoteCrash: _note_crash,
    deployments.StopServing: _serving,
}
ANSWERS: Answerers = {}
