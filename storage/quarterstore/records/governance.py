"""Governance: gates, approvals bound to evidence, and the audit trail."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from quarterstore.records.base import Act, Event, Query, Record, Role

ApprovalState = Literal["WAITING", "APPROVED", "REJECTED", "EXPIRED", "VOID"]


class GateRule(Record, frozen=True):
    """One limit of a gate: `metric` must be at least (`>=`) or at most (`<=`) `limit`; with `bound` the interval's
    worse end is judged, not the value; with `against` = production, `limit` is the loss allowed against the
    champion; with `against` = drill it is the days since the last good drill of the rollback, at every endpoint of the
    model that has something to go back to, and `metric` only a name."""

    metric: str
    op: Literal[">=", "<="]
    limit: float
    bound: bool = False
    against: Literal["value", "production", "drill"] = "value"


class Gate(Record, frozen=True):
    """What a version of a model must show before Production; off for every model until it is set."""

    model: str
    rules: tuple[GateRule, ...]
    set_by: str
    at: float


class Check(Record, frozen=True):
    """One rule judged: what was found, and in words why it holds or not; a missing or NaN metric never passes."""

    rule: GateRule
    found: float | None
    ok: bool
    why: str


class GateOutcome(Record, frozen=True):
    """A gate judged for one version; `evidence` is the SHA-256 over version, metrics and rules that an approval
    binds."""

    version: str
    ok: bool
    checks: tuple[Check, ...]
    evidence: str


class Approval(Record, frozen=True):
    """A request of one person that another has to approve; `act` is what will be done, `request` its hash."""

    id: str
    state: ApprovalState
    act: dict[str, Any]
    subject: str
    words: str
    request: str
    evidence: str
    outcome: GateOutcome | None
    asked_by: str
    asked: float
    expires: float
    reason: str = ""
    decided_by: str | None = None
    decided: float | None = None
    note: str = ""
    self_approved: bool = False


class AuditEntry(Record, frozen=True):
    """One journal entry as people read it: who did what when; `hash` chains it to the one before."""

    seq: int
    at: float
    actor: str
    act: str
    words: str
    events: tuple[str, ...]
    hash: str


class AuditHead(Record, frozen=True):
    """The newest entry: keep it elsewhere, and a cut or rewritten journal is found."""

    seq: int
    hash: str


class AuditVerdict(Record, frozen=True):
    """The journal read from its first byte: how many entries, and the first one that is wrong, if any."""

    ok: bool
    entries: int
    head: AuditHead
    first_bad: int | None = None
    why: str = ""


class SetGate(Act[Gate], tag="governance.set_gate", frozen=True):
    """Set the gate of a model; an empty list of rules removes it."""

    role: ClassVar[Role] = "approver"
    model: str
    rules: tuple[GateRule, ...]


class Propose(Act[Approval], tag="governance.propose", frozen=True):
    """Ask another person to approve an act (`registry.move_stage`, `deployments.start_canary`, `deployments.deploy`);
    the approval is bound to that act and to the evidence as it is now."""

    act: dict[str, Any]
    reason: str = ""


class Approve(Act[Approval], tag="governance.approve", frozen=True):
    """Approve what somebody else asked for, given the evidence hash that was seen; the act is done in the same
    entry."""

    role: ClassVar[Role] = "approver"
    approval: str
    evidence: str
    note: str = ""


class Reject(Act[Approval], tag="governance.reject", frozen=True):
    """Say no, with a reason."""

    role: ClassVar[Role] = "approver"
    approval: str
    reason: str


class JudgeGate(Query[GateOutcome], tag="governance.judge_gate", frozen=True):
    """Judge a version by its model's gate, now."""

    version: str


class ShowGate(Query[Gate], tag="governance.show_gate", frozen=True):
    """The gate of a model."""

    model: str


class ListApprovals(Query[list[Approval]], tag="governance.approvals", frozen=True):
    """Approvals, newest first; only those waiting unless `all`."""

    all: bool = False


class ShowApproval(Query[Approval], tag="governance.approval", frozen=True):
    """One approval with its evidence."""

    approval: str


class ListAudit(Query[list[AuditEntry]], tag="governance.audit", frozen=True):
    """The audit trail, newest first; `before` pages back; `text` filters by actor, act or words."""

    limit: int = 100
    before: int | None = None
    text: str = ""


class ShowHead(Query[AuditHead], tag="governance.head", frozen=True):
    """The newest entry's number and hash."""


class VerifyAudit(Query[AuditVerdict], tag="governance.verify", frozen=True):
    """Read the whole journal and check every hash; with a head kept outside, also that it is still in the chain."""

    seq: int | None = None
    hash: str | None = None


class GateSet(Event, tag="governance.gate_set", frozen=True):
    """A model's gate is another one."""

    gate: Gate


class ApprovalAsked(Event, tag="governance.approval_asked", frozen=True):
    """Somebody asks for approval."""

    approval: Approval


class Approved(Event, tag="governance.approved", frozen=True):
    """Another person approved (in `solo` it may be the same, and says so)."""

    approval: str
    by: str
    at: float
    note: str = ""
    self_approved: bool = False


class Rejected(Event, tag="governance.rejected", frozen=True):
    """Another person said no."""

    approval: str
    by: str
    at: float
    reason: str


class ApprovalVoided(Event, tag="governance.approval_voided", frozen=True):
    """The evidence or the version changed, or the time ran out: the approval holds no more."""

    approval: str
    at: float
    why: str


class GateOverridden(Event, tag="governance.gate_overridden", frozen=True):
    """In `solo`, a failed gate was passed over with a reason."""

    version: str
    reason: str
    failed: tuple[str, ...] = msgspec.field(default_factory=tuple)
