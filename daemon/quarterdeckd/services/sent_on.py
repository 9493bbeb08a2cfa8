"""The version of a retrain: where its policy sends it, or why it stays where it is."""

from __future__ import annotations

from typing import Any

from quarterdeckd.services.endpoints import SERVED, breaks_callers
from quarterdeckd.services.evidence import gates_of, judge
from quarterdeckd.services.scheduled import may
from quarterdeckd.services.triggers import made_again, newest, same_file
from quarterstore.ledger.finding import in_use, trial_at
from quarterstore.ledger.state import State
from quarterstore.records import ct, deployments, registry
from quarterstore.records.base import Act

SENT_BY: dict[str, type[Act[Any]]] = {"staging": registry.MoveStage, "canary": deployments.StartCanary}
"""The act that each strategy ends with."""


def due_out(state: State, policy: ct.Policy) -> str | None:
    """What the strategy has to do with the version of the newest retrain, in words: `staging`, `canary`, `forbidden`,
    or why it cannot; None where it has nothing to do, or has to wait for the endpoint."""
    retrain = newest(policy)
    if retrain is None or retrain.sent or policy.strategy == "none":
        return None
    run = state.pipeline_runs[retrain.pipeline_run]
    version = state.versions.get(run.version or "")
    if run.state != "SUCCEEDED" or version is None or version.removed is not None:
        return None
    outcome = judge(state, version, retrain.at)
    if not outcome.ok:
        failed = "; ".join(f"{check.rule.metric}: {check.why}" for check in outcome.checks if not check.ok)
        return f"not sent on, the gate says no: {failed}"[:300]
    if again := made_again(retrain, version):
        return f"not sent on: {again}"
    if (endpoint := in_use(state, version.id)) is not None:
        return f"{version.id} is at {endpoint} already"
    if same := same_file(state, policy, version):
        return f"not sent on: {same}"
    if there := _made_before(policy, retrain, version):
        return there
    if version.stage == "None" and gates_of(state, version.model, "Staging"):
        return f"not sent on: a hook is a gate to Staging: qd promote {version.id} Staging"
    way = "staging" if policy.strategy == "staging" else _canary_due(state, policy, version)
    return "forbidden" if way in SENT_BY and not _may_send(state, policy, version, SENT_BY[way]) else way


def _made_before(policy: ct.Policy, retrain: ct.Retrain, version: registry.Version) -> str:
    """Why a version that a retrain made again stays where somebody, or its canary, has left it; nothing where it does
    not."""
    if version.stage == "Archived":
        return f"not sent on: {version.id} was put away; by hand: qd promote {version.id} Staging"
    if retrain.called_off == version.id:
        return f"not sent on: {version.id} was called off before; by hand: qd canary {version.id}"
    there = version.stage == "Production" or (policy.strategy, version.stage) == ("staging", "Staging")
    return f"{version.id} is in {version.stage} already" if there else ""


def _may_send(state: State, policy: ct.Policy, version: registry.Version, way: type[Act[Any]]) -> bool:
    """Whether who set the policy may still do what sends a version on: it is done in that person's name, at once or,
    outside `solo`, as soon as another person has said yes to it."""
    person = state.people.get(policy.set_by)
    asks = {way, registry.MoveStage} if version.stage == "None" else {way}
    return person is None or all(may(person.roles, each) for each in asks)


def _canary_due(state: State, policy: ct.Policy, version: registry.Version) -> str | None:
    deployment = state.deployments.get(policy.endpoint)
    if deployment is None or deployment.live is None:
        return f"not sent on: {policy.endpoint} has no live version; deploy one: qd deploy {version.id}"
    if version.format != SERVED:
        return f"not sent on: {version.id} is {version.format}, which is not served"
    if gates_of(state, version.model, "Production"):
        return f"not sent on: a hook is a gate to Production: qd canary {version.id}"
    if broken := breaks_callers(state, deployment, version):
        return f"not sent on: {version.id} cannot answer what callers ask of {deployment.live}: {broken}"[:300]
    busy = deployment.canary or deployment.pending or trial_at(state, policy.endpoint)
    return None if busy else "canary"


def called_off(state: State, policy: ct.Policy) -> str | None:
    """The version that the last retrain, or one before it, put on live traffic and that is not there now."""
    last = newest(policy)
    if last is None:
        return None
    version = state.pipeline_runs[last.pipeline_run].version
    return version if last.tried and version and in_use(state, version) is None else last.called_off
