"""The evidence for Production: the gate judged, its hash, and who has to say yes; used by every act that makes a
version live."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec
from msgspec.structs import replace

from quarterdeckd.services.deciding import Asking
from quarterstore.ledger.finding import production_of, rollback_target
from quarterstore.ledger.state import State
from quarterstore.records.base import Act, Event
from quarterstore.records.faults import NeedsApproval, Refused
from quarterstore.records.governance import Check, GateOutcome, GateOverridden, GateRule
from quarterstore.records.hooks import Hook, answer_key
from quarterstore.records.registry import Metric, Version

VERDICT = GateRule(metric="verdict", op=">=", limit=1.0)
"""What a version that was rejected on held-out rows misses, whatever the gate of its model."""
DAY = 86_400.0
ANSWER_HOLDS = 60.0
"""Seconds for which a gate's answer is good, for one move."""


def judge(
    state: State, version: Version, now: float, further: tuple[GateRule, ...] = (), environment: str | None = None
) -> GateOutcome:
    """Judge a version by its model's gate as it stands, and by that of each model it was made from: a child has to pass
    what its parent passed, each beside the champion of that gate's model (in the environment that it is to go to, else
    in its own); and by further rules, such as a pipeline's
    own limits. Without any there is nothing to fail."""
    checks: tuple[Check, ...] = tuple(
        Check(rule=VERDICT, found=0.0, ok=False, why=words) for words in _rejections(state, version)
    )
    for model in _models_of(state, version):
        gate = state.gates.get(model)
        place = environment or version.environment
        champion = production_of(state, model, place)
        rules = gate.rules if gate else ()
        if model == version.model:
            rules += tuple(rule for rule in further if rule not in rules)
        found = tuple(
            _drilled(state, rule, model, place, now) if rule.against == "drill" else _check(rule, version, champion)
            for rule in rules
        )
        checks += found if model == version.model else tuple(_named(check, model) for check in found)
    return GateOutcome(
        version=version.id, ok=all(check.ok for check in checks), checks=checks, evidence=_hash(version, checks)
    )


def request_hash(act: Act[Any]) -> str:
    """SHA-256 of an act as it would be asked: what an approval is bound to."""
    return hashlib.sha256(msgspec.msgpack.encode(act, order="deterministic")).hexdigest()


def cleared_for_production(
    state: State, version: Version, environment: str, asking: Asking, reason: str
) -> list[Event]:
    """The events that clearing a version for Production leaves; raises when the gate or a missing approval says no.

    `solo`: a failed gate is passed over only with a reason, and that is kept. `team`, `regulated`: the gate must hold
    and the act must come from an approval of another person.
    """
    outcome = judge(state, version, asking.now, environment=environment)
    failed = tuple(f"{check.rule.metric}: {check.why}" for check in outcome.checks if not check.ok)
    if asking.profile == "solo":
        if not failed:
            return []
        if not reason:
            raise Refused(
                f"the gate says no ({'; '.join(failed)})", field="gate", next="go on with --reason R, which is kept"
            )
        return [GateOverridden(version=version.id, reason=reason, failed=failed)]
    if failed:
        raise Refused(f"the gate says no ({'; '.join(failed)})", field="gate")
    if asking.approval is None:
        where = "Production" if environment == "default" else f"Production of {environment}"
        raise NeedsApproval(
            f"{version.id} needs another person's approval for {where}",
            field="approval",
            next="ask for it with governance.propose",
        )
    return []


def cleared_for_staging(state: State, version: Version, reason: str) -> list[Event]:
    """The events that clearing a version for Staging leaves: a rejected one needs a reason, which is kept."""
    rejections = _rejections(state, version)
    if not rejections:
        return []
    if not reason:
        raise Refused("; ".join(rejections), field=VERDICT.metric, next="go on with --reason R, which is kept")
    failed = tuple(f"{VERDICT.metric}: {words}" for words in rejections)
    return [GateOverridden(version=version.id, reason=reason, failed=failed)]


def gates_of(state: State, model: str, stage: str) -> list[Hook]:
    """The hooks that are asked before a version of this model moves to this stage."""
    return [
        hook
        for hook in state.hooks
        if hook.gate and not hook.paused and hook.stage == stage and hook.model in (None, model)
    ]


def cleared_by_hooks(state: State, version: Version, stage: str, environment: str, asking: Asking) -> None:
    """`Refused`, on the field `hook`, unless every gate said yes to this move, in this environment, lately. The daemon
    asks them before a person's act is decided; what they said is in the state, so that no way in goes round them."""
    for hook in gates_of(state, version.model, stage):
        answer = state.gate_answers.get(answer_key(hook.id, version.id, stage, environment))
        if answer is None or not asking.now - answer.at <= ANSWER_HOLDS:
            raise Refused(
                f"{hook.id} is a gate to {stage} and was not asked of {version.id}",
                field="hook",
                next=f"a person can: qd promote {version.id} {stage}",
            )
        if not answer.ok:
            raise Refused(f"{hook.id} says no: {answer.words}", field="hook")


def _rejections(state: State, version: Version) -> list[str]:
    """That it was rejected, or a version it was made from, in words."""
    found = [f"REJECTED: {version.rejected}"] if version.rejected else []
    above = version.parent
    while above is not None:
        parent = state.versions[above]
        found += [f"{parent.id}, which it was made from, is REJECTED: {parent.rejected}"] if parent.rejected else []
        above = parent.parent
    return found


def _models_of(state: State, version: Version) -> list[str]:
    """Its model and those of its parents, nearest first, each once."""
    models, above = [version.model], version.parent
    while above is not None:
        models.append(state.versions[above].model)
        above = state.versions[above].parent
    return list(dict.fromkeys(models))


def _named(check: Check, model: str) -> Check:
    return replace(check, why=f"{check.why} (the gate of {model}, which it was made from)")


def _check(rule: GateRule, version: Version, champion: Version | None) -> Check:
    metric = _metric(version, rule.metric)
    if metric is None:
        return Check(rule=rule, found=None, ok=False, why="not measured, and a missing metric never passes")
    found = metric.value
    if rule.bound:
        worse = metric.low if rule.op == ">=" else metric.high
        found = metric.value if worse is None else worse
    if not math.isfinite(found):
        return Check(rule=rule, found=None, ok=False, why=f"{found} never passes")
    limit, beside = rule.limit, ""
    if rule.against == "production":
        former = _metric(champion, rule.metric) if champion and champion.id != version.id else None
        if former is None:
            return Check(rule=rule, found=found, ok=True, why="no champion to compare with")
        limit = former.value - rule.limit if rule.op == ">=" else former.value + rule.limit
        beside = f" ({former.value:.4g} in Production)"
    ok = found >= limit if rule.op == ">=" else found <= limit
    return Check(
        rule=rule, found=found, ok=ok, why=f"{found:.4g} {'meets' if ok else 'misses'} {rule.op} {limit:.4g}{beside}"
    )


def _drilled(state: State, rule: GateRule, model: str, environment: str, now: float) -> Check:
    """Whether each rollback that could be needed was drilled lately and well. Said without ages and ids, so that the
    evidence of an approval stays the same while it holds."""
    able = [
        each.endpoint
        for each in state.deployments
        if (each.model, each.environment) == (model, environment)
        and each.live is not None
        and rollback_target(state, each) is not None
    ]
    for endpoint in able:
        last = max((each for each in state.drills if each.endpoint == endpoint), key=lambda each: each.at, default=None)
        if last is None:
            why = f"no drill at {endpoint}"
        elif not last.found.ok:
            why = f"the last drill at {endpoint} failed"
        elif now - last.at > rule.limit * DAY:
            why = f"the last drill at {endpoint} is older than {rule.limit:g} days"
        else:
            continue
        return Check(rule=rule, found=None, ok=False, why=f"{why}, expected a good one: qd drill rollback {endpoint}")
    why = f"drilled within {rule.limit:g} days at {', '.join(able)}" if able else "nothing to roll back to yet"
    return Check(rule=rule, found=None, ok=True, why=why)


def _metric(version: Version | None, name: str) -> Metric | None:
    return next((metric for metric in version.metrics if metric.name == name), None) if version else None


def _hash(version: Version, checks: tuple[Check, ...]) -> str:
    seen = (version.id, version.digest, version.metrics, checks)
    return hashlib.sha256(msgspec.msgpack.encode(seen, order="deterministic")).hexdigest()
