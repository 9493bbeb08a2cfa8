"""The rules of trials: what may be tried beside the live version, and the end of it."""

from __future__ import annotations

import hashlib
from typing import Any

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.endpoints import free_endpoint
from quarterdeckd.services.trying import begun, ended
from quarterstore.ledger.finding import deployment_of, last_trial_at, trial_at, version_of
from quarterstore.ledger.state import State
from quarterstore.records import deployments, registry, trials
from quarterstore.records.faults import Conflict, NotFound, Refused, got
from quarterstore.records.names import checked_text


def _start_shadow(state: State, act: trials.StartShadow, asking: Asking) -> Decision:
    version = version_of(state, act.version)
    if not 1 <= act.share <= 100:
        raise got("share", act.share, "1 to 100 percent")
    live, deployment = _live(state, act.endpoint, version, asking)
    if version.stage == "Archived":
        raise Refused(
            f"{version.id} is in Archived, expected another stage",
            field="version",
            next=f"qd promote {version.id} Staging",
        )
    trial = _trial(deployment, "shadow", (live, version.id), (100.0, float(act.share)), asking)
    return begun(state, trial, asking, [])


def _live(
    state: State, given: str | None, version: registry.Version, asking: Asking
) -> tuple[str, deployments.Deployment]:
    """The live version beside which another one may be tried, and its endpoint."""
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


def _trial(
    deployment: deployments.Deployment,
    kind: trials.TrialKind,
    versions: tuple[str, ...],
    shares: tuple[float, ...],
    asking: Asking,
    **rules: Any,
) -> trials.Trial:
    trial_id = asking.id("trl")
    return trials.Trial(
        id=trial_id,
        kind=kind,
        endpoint=deployment.endpoint,
        model=deployment.model,
        state="ADMITTING",
        versions=versions,
        shares=shares,
        salt=hashlib.sha256(trial_id.encode()).hexdigest()[:16],
        since=asking.now,
        changed=asking.now,
        asked_by=asking.actor,
        approval=asking.approval,
        approved_by=asking.approved_by,
        **rules,
    )


def _stop(state: State, act: trials.StopTrial, asking: Asking) -> Decision:
    deployment_of(state, act.endpoint)
    trial = trial_at(state, act.endpoint)
    if trial is None:
        raise NotFound(f"no trial runs at {act.endpoint}", field="endpoint")
    reason = checked_text("reason", act.reason, longest=1000) if act.reason else f"by {asking.actor}"
    return ended(trial, asking, f"stopped: {reason}", lambda after: after.trials[trial.id])


def _list(state: State, query: trials.ListTrials, asking: Asking) -> list[trials.Trial]:
    found = [each for each in state.trials if not query.running or each.state != "ENDED"]
    return sorted(found, key=lambda each: each.since, reverse=True)


def _show(state: State, query: trials.ShowTrial, asking: Asking) -> trials.Trial:
    return last_trial_at(state, query.endpoint)


RULES: Rules = {
    trials.StartShadow: _start_shadow,
    trials.StopTrial: _stop,
}
ANSWERS: Answerers = {
    trials.ListTrials: _list,
    trials.ShowTrial: _show,
}
