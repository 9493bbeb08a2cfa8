"""The rules of governance: gates, approvals bound to their evidence, four eyes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.evidence import judge, request_hash
from quarterstore.ledger.finding import model_of, one_of, version_of
from quarterstore.ledger.state import State
from quarterstore.records import governance, traffic
from quarterstore.records.base import Act, tag_of
from quarterstore.records.deployments import Deploy, StartCanary
from quarterstore.records.evaluations import check_range, range_of
from quarterstore.records.faults import Conflict, NotFound, Refused, got
from quarterstore.records.names import checked_text, checked_word
from quarterstore.records.registry import MoveStage, Version
from quarterstore.records.trials import StartAb, StartBandit

PROPOSABLE: dict[str, type[Act[Any]]] = {
    tag_of(kind): kind for kind in (MoveStage, Deploy, StartCanary, StartAb, StartBandit)
}
VALID = 7 * 86400.0
"""Seconds an approval can wait."""


def proposed_act(fields: dict[str, Any]) -> Act[Any]:
    """The act inside a proposal; `Invalid` when it is none that can be proposed."""
    kind = PROPOSABLE.get(str(fields.get("type")))
    if kind is None:
        raise got("act", str(fields.get("type")), " or ".join(PROPOSABLE))
    try:
        act: Act[Any] = msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise got("act", str(error), f"the fields of {fields['type']}") from error
    return act


def _set_gate(state: State, act: governance.SetGate, asking: Asking) -> Decision:
    model = checked_word("model", act.model)
    for rule in act.rules:
        checked_text("rules.metric", rule.metric)
        if not math.isfinite(rule.limit):
            raise got("rules.limit", rule.limit, "a finite number")
        if rule.against == "drill" and not (rule.op == "<=" and rule.limit > 0):
            raise got("rules", f"{rule.op} {rule.limit:g} of a drill", "<= and days above 0")
        # what a run sets as it ends was looked at when it was asked for
        if rule.against != "drill" and not asking.chained and not _other_unit(state, model, rule.metric):
            check_range("rules.limit", rule.metric, rule.limit, loss=rule.against == "production")
    gate = governance.Gate(model=model, rules=act.rules, set_by=asking.actor, at=asking.now)
    words = ", ".join(f"{rule.metric} {rule.op} {rule.limit:g}" for rule in act.rules) or "none"
    return Decision([governance.GateSet(gate=gate)], f"set the gate of {model}: {words}", lambda after: gate)


def _other_unit(state: State, model: str, metric: str) -> bool:
    """Whether a person's own code measures a metric of this name in another unit, such as an accuracy in percent."""
    low, high = range_of(metric) or (-math.inf, math.inf)
    return any(
        not low <= found.value <= high
        for version in state.versions
        if version.model == model
        for found in version.metrics
        if found.name == metric
    )


def _propose(state: State, act: governance.Propose, asking: Asking) -> Decision:
    inner = proposed_act(act.act)
    version = version_of(state, inner.version)  # type: ignore[attr-defined]
    request = request_hash(inner)
    for waiting in state.approvals:
        if waiting.state == "WAITING" and waiting.request == request:
            raise Conflict(f"{waiting.id} asks for this already", field="act", next=f"qd approve {waiting.id}")
    outcome = judge(state, version, asking.now)
    if not outcome.ok and asking.profile != "solo":
        failed = "; ".join(f"{check.rule.metric}: {check.why}" for check in outcome.checks if not check.ok)
        raise Refused(f"the gate says no ({failed})", field="gate")
    approval = governance.Approval(
        id=asking.id("ask"),
        state="WAITING",
        act=act.act,
        subject=version.id,
        words=_words(state, inner, version),
        request=request,
        evidence=outcome.evidence,
        outcome=outcome,
        asked_by=asking.actor,
        asked=asking.now,
        expires=asking.now + VALID,
        reason=act.reason and checked_text("reason", act.reason, longest=1000),
    )
    return Decision(
        [governance.ApprovalAsked(approval=approval)],
        f"asked for approval to {approval.words}",
        lambda after: after.approvals[approval.id],
    )


def _words(state: State, inner: Act[Any], version: Version) -> str:
    """What is asked for, and what whoever approves a stage has to know of the traffic."""
    if isinstance(inner, MoveStage):
        up = inner.stage == "Production"
        beside = traffic.beside(version, inner.environment, state.deployments) if up else ()
        return "; ".join([f"move {inner.version} to {inner.stage}", *beside])
    if isinstance(inner, StartCanary):
        return f"start a canary of {inner.version}"
    if isinstance(inner, StartAb | StartBandit):
        return f"start {'an A/B test' if isinstance(inner, StartAb) else 'a bandit'} of {inner.version}"
    return f"deploy {inner.version}"  # type: ignore[attr-defined]


def _waiting(state: State, text: str, asking: Asking) -> governance.Approval:
    approval: governance.Approval = one_of(state.approvals, "approval", text)
    if approval.state != "WAITING":
        when = f" by {approval.decided_by}" if approval.decided_by else ""
        raise Conflict(f"already {approval.state.lower()}{when}", field="approval")
    if approval.expires <= asking.now:
        raise Conflict("it has expired", field="approval", next="ask again")
    return approval


def _approve(state: State, act: governance.Approve, asking: Asking) -> Decision:
    approval = _waiting(state, act.approval, asking)
    inner = proposed_act(approval.act)
    self_approved = asking.actor == approval.asked_by
    if self_approved and asking.profile != "solo":
        raise Refused(f"got {asking.actor}, who asked for it; expected another person", field="approval")
    if request_hash(inner) != approval.request:
        raise Refused("the request is not the one that was proposed", field="approval")
    if act.evidence != approval.evidence:
        raise Refused(
            f"got {act.evidence[:16]}, expected the hash that was shown, {approval.evidence[:16]}", field="evidence"
        )
    now = judge(state, version_of(state, inner.version), asking.now)  # type: ignore[attr-defined]
    if now.evidence != approval.evidence:
        raise Refused("the evidence has changed since this was asked", field="evidence", next="reject it and ask again")
    event = governance.Approved(
        approval=approval.id, by=asking.actor, at=asking.now, note=act.note, self_approved=self_approved
    )

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        yield inner, asked._replace(actor=approval.asked_by, approval=approval.id, approved_by=asking.actor)

    return Decision(
        [event],
        f"approved {approval.words}, asked by {approval.asked_by}" + (" (self-approved)" if self_approved else ""),
        lambda after: after.approvals[approval.id],
        then,
    )


def _reject(state: State, act: governance.Reject, asking: Asking) -> Decision:
    approval = _waiting(state, act.approval, asking)
    reason = checked_text("reason", act.reason, longest=1000)
    event = governance.Rejected(approval=approval.id, by=asking.actor, at=asking.now, reason=reason)
    return Decision([event], f"rejected {approval.words}", lambda after: after.approvals[approval.id])


def _approvals(state: State, query: governance.ListApprovals, asking: Asking) -> list[governance.Approval]:
    found = [approval for approval in state.approvals if query.all or approval.state == "WAITING"]
    return sorted(found, key=lambda approval: approval.asked, reverse=True)


def _approval(state: State, query: governance.ShowApproval, asking: Asking) -> governance.Approval:
    found: governance.Approval = one_of(state.approvals, "approval", query.approval)
    return found


def _gate(state: State, query: governance.ShowGate, asking: Asking) -> governance.Gate:
    gate = state.gates.get(query.model)
    if gate is None:
        name = model_of(state, query.model).name
        raise NotFound(f"no gate is set for {name}", field="gate", next="set one with: qd governance set-gate")
    return gate


def _judged(state: State, query: governance.JudgeGate, asking: Asking) -> governance.GateOutcome:
    version: Version = version_of(state, query.version)
    return judge(state, version, asking.now)


RULES: Rules = {
    governance.SetGate: _set_gate,
    governance.Propose: _propose,
    governance.Approve: _approve,
    governance.Reject: _reject,
}
ANSWERS: Answerers = {
    governance.ListApprovals: _approvals,
    governance.ShowApproval: _approval,
    governance.ShowGate: _gate,
    governance.JudgeGate: _judged,
}
