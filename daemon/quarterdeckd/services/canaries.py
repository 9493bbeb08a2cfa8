"""The rules of a canary: it starts from Staging, is judged step by step, and ends live or rolled back."""

from __future__ import annotations

from msgspec.structs import replace

from quarterdeckd.rollout import canary as rollout
from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.endpoints import admitting, call_off, cleared_to_try, live_beside, stages_of
from quarterstore.ledger.finding import deployment_of, production_of, version_of
from quarterstore.ledger.state import State
from quarterstore.records import deployments
from quarterstore.records.faults import Conflict, missing


def _start_canary(state: State, act: deployments.StartCanary, asking: Asking) -> Decision:
    version = version_of(state, act.version)
    ladder, rule = rollout.checked_ladder(act.ladder), rollout.checked(act.rule)
    known = [feature.name for feature in version.signature.features]
    for gate in rule.gates:
        if gate.kind == "fairness" and gate.of not in known:
            raise missing(f"gates.{gate.name}", gate.of, known)
    _, deployment = live_beside(state, act.endpoint, version, asking)
    endpoint = deployment.endpoint
    overrides = cleared_to_try(state, version, deployment, asking, "a canary")
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
    waiting = replace(
        deployment,
        pending=version.id,
        pending_plan="canary",
        pending_canary=canary,
        changed=asking.now,
        last_canary=None,
    )
    decision = admitting(waiting, version, asking, f"canary of {version.id} at {endpoint} asked for")
    return decision._replace(events=[*overrides, *decision.events])


def _judge(state: State, act: deployments.JudgeStep, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    canary = deployment.canary
    if canary is None or act.epoch != deployment.epoch:
        raise Conflict(f"{act.endpoint} is at epoch {deployment.epoch}, got counts of {act.epoch}", field="epoch")
    endpoint = act.endpoint
    # by the monotonic clock of who watches, where that is said: the wall clock may have jumped
    watched = asking.now - canary.step_since if act.watched is None else act.watched
    verdict = rollout.judge(canary.rule, act.live, act.candidate, watched, act.readings)
    move = rollout.next_step(canary, verdict)
    if move.what == "roll back":
        return call_off(deployment, canary, asking, verdict.why, verdict)
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
    stages = stages_of(
        state, canary.candidate, champion, deployment, canary, asking, f"canary at {endpoint} reached 100 %"
    )
    return Decision(
        [event, *stages],
        f"{endpoint}: {canary.candidate} is live: {verdict.why}",
        lambda after: after.deployments[endpoint],
    )


RULES: Rules = {
    deployments.StartCanary: _start_canary,
    deployments.JudgeStep: _judge,
}
ANSWERS: Answerers = {}
