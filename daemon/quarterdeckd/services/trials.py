"""The rules of trials: what may be tried beside the live version, and the end of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from quarterdeckd.rollout import ab, bandit
from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.endpoints import cleared_to_try, live_beside
from quarterdeckd.services.trying import begun, ended
from quarterstore.ledger.finding import deployment_of, one_of, trial_at, version_of
from quarterstore.ledger.state import State
from quarterstore.records import deployments, monitoring, trials
from quarterstore.records.base import Act, Event
from quarterstore.records.faults import Conflict, NotFound, Refused, got
from quarterstore.records.names import checked_text
from quarterstore.records.outcomes import ArmOutcome

MOST_ARMS = 10


def _start_shadow(state: State, act: trials.StartShadow, asking: Asking) -> Decision:
    version = version_of(state, act.version)
    if not 1 <= act.share <= 100:
        raise got("share", act.share, "1 to 100 percent")
    live, deployment = live_beside(state, act.endpoint, version, asking)
    if version.stage == "Archived":
        raise Refused(
            f"{version.id} is in Archived, expected another stage",
            field="version",
            next=f"qd promote {version.id} Staging",
        )
    trial = _trial(deployment, "shadow", (live, version.id), (100.0, float(act.share)), asking)
    return begun(state, trial, asking, [])


def _start_ab(state: State, act: trials.StartAb, asking: Asking) -> Decision:
    rule = ab.checked(act.rule, act.split)
    checked_text("metric", rule.metric)
    live, deployment, (version,), cleared = _arms(state, act.endpoint, act.against, (act.version,), asking)
    shares = (100.0 - act.split, float(act.split))
    trial = _trial(deployment, "ab", (live, version), shares, asking, ab=rule)
    return begun(state, trial, asking, cleared)


def _start_bandit(state: State, act: trials.StartBandit, asking: Asking) -> Decision:
    names = (act.version, *act.others)
    if len(names) >= MOST_ARMS:
        raise got("others", f"{len(names) + 1} arms", f"at most {MOST_ARMS}")
    if act.others and asking.profile != "solo":
        raise Refused(
            f"an approval is bound to the evidence of one version, got {len(names)} beside the live one", field="others"
        )
    rule = bandit.checked(act.rule, len(names) + 1)
    checked_text("metric", rule.metric)
    live, deployment, others, cleared = _arms(state, act.endpoint, act.against, names, asking)
    versions = (live, *others)
    first = bandit.shares(rule, [nothing(each) for each in versions])
    trial = _trial(deployment, "bandit", versions, _percents(first), asking, bandit=rule)
    return begun(state, trial, asking, cleared)


def _percents(shares: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(100 * each for each in shares)


def nothing(version: str) -> ArmOutcome:
    """The outcomes of a version that has none."""
    return ArmOutcome(version=version, n=0, mean=0.0, m2=0.0, successes=0, late=0)


def _arms(
    state: State, given: str | None, against: str, names: tuple[str, ...], asking: Asking
) -> tuple[str, deployments.Deployment, tuple[str, ...], list[Event]]:
    """The live version and those that shall answer beside it, each in Staging and cleared as for Production: to a
    caller it is no other thing."""
    control = version_of(state, against)
    versions = tuple(version_of(state, name) for name in names)
    cleared: list[Event] = []
    for version in versions:
        live, deployment = live_beside(state, given, version, asking)
        cleared += cleared_to_try(state, version, deployment, asking, "a trial")
    if control.id != live:
        raise Conflict(f"got {control.id}, expected {live}, which is live at {deployment.endpoint}", field="against")
    found = tuple(version.id for version in versions)
    if len(set(found)) < len(found):
        raise got("others", ", ".join(found), "each version once")
    return live, deployment, found, cleared


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


def _judge(state: State, act: trials.JudgeTrial, asking: Asking) -> Decision:
    trial: trials.Trial = one_of(state.trials, "trial", act.trial)
    if trial.state != "RUNNING" or tuple(each.version for each in act.outcomes) != trial.versions:
        raise Conflict(f"{trial.id} is {trial.state} with {', '.join(trial.versions)}", field="trial")
    if trial.ab is not None:
        return _judge_ab(trial, trial.ab, act, asking)
    if trial.bandit is not None:
        return _weigh(trial, trial.bandit, act, asking)
    raise Conflict(f"{trial.id} is a shadow, which is not judged", field="trial")


def _judge_ab(trial: trials.Trial, rule: trials.AbRule, act: trials.JudgeTrial, asking: Asking) -> Decision:
    live, candidate = act.outcomes
    verdict = ab.judge(rule, live, candidate, act.callers, trial.shares)
    if verdict.verdict in ab.ENDS:
        words = f"{verdict.verdict}: {verdict.why}"
        return ended(trial, asking, words, lambda after: after.trials[trial.id], verdict)

    def loudly(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        if verdict.verdict == "HOLD":
            yield (
                monitoring.RaiseAlert(
                    kind="sample ratio mismatch",
                    subject=trial.endpoint,
                    severity="critical",
                    words=f"{trial.words()}: {verdict.why}"[:500],
                    next=f"qd ab stop {trial.endpoint}",
                ),
                asked,
            )

    event = trials.TrialJudged(trial=trial.id, endpoint=trial.endpoint, verdict=verdict, at=asking.now)
    words = f"{trial.words()}: {verdict.verdict}: {verdict.why}"
    return Decision([event], words, lambda after: after.trials[trial.id], loudly)


def _weigh(trial: trials.Trial, rule: trials.BanditRule, act: trials.JudgeTrial, asking: Asking) -> Decision:
    found = bandit.shares(rule, act.outcomes)
    verdict = bandit.verdict(rule, act.outcomes, found)
    event = trials.TrialWeighed(
        trial=trial.id,
        endpoint=trial.endpoint,
        shares=_percents(found),
        verdict=verdict,
        epoch=asking.seq,
        at=asking.now,
    )
    return Decision([event], f"{trial.words()}: {verdict.why}", lambda after: after.trials[trial.id])


def _stop(state: State, act: trials.StopTrial, asking: Asking) -> Decision:
    deployment_of(state, act.endpoint)
    trial = trial_at(state, act.endpoint)
    if trial is None:
        raise NotFound(f"no trial runs at {act.endpoint}", field="endpoint")
    reason = checked_text("reason", act.reason, longest=1000) if act.reason else f"by {asking.actor}"
    return ended(trial, asking, f"stopped: {reason}", lambda after: after.trials[trial.id])


def _list(state: State, query: trials.ListTrials, asking: Asking) -> list[trials.Trial]:
    found = [replace(each, history=()) for each in state.trials if not query.running or each.state != "ENDED"]
    return sorted(found, key=lambda each: each.since, reverse=True)


RULES: Rules = {
    trials.StartShadow: _start_shadow,
    trials.StartAb: _start_ab,
    trials.StartBandit: _start_bandit,
    trials.JudgeTrial: _judge,
    trials.StopTrial: _stop,
}
ANSWERS: Answerers = {
    trials.ListTrials: _list,
}
