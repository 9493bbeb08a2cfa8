"""The book of gates and approvals."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import governance


def _gate(state: State, event: governance.GateSet) -> None:
    if event.gate.rules:
        state.gates.put(event.gate)
    elif event.gate.model in state.gates:
        state.gates.drop(event.gate.model)


def _asked(state: State, event: governance.ApprovalAsked) -> None:
    state.approvals.put(event.approval)


def _approved(state: State, event: governance.Approved) -> None:
    approval = state.approvals[event.approval]
    state.approvals.put(
        copy_of(
            approval,
            state="APPROVED",
            decided_by=event.by,
            decided=event.at,
            note=event.note,
            self_approved=event.self_approved,
        )
    )


def _rejected(state: State, event: governance.Rejected) -> None:
    approval = state.approvals[event.approval]
    state.approvals.put(copy_of(approval, state="REJECTED", decided_by=event.by, decided=event.at, note=event.reason))


def _voided(state: State, event: governance.ApprovalVoided) -> None:
    approval = state.approvals[event.approval]
    state.approvals.put(copy_of(approval, state="VOID", decided=event.at, note=event.why))


def _overridden(state: State, event: governance.GateOverridden) -> None:
    """Kept in the journal for the audit trail; changes no book."""


FOLDS: dict[type, Fold] = {
    governance.GateSet: _gate,
    governance.ApprovalAsked: _asked,
    governance.Approved: _approved,
    governance.Rejected: _rejected,
    governance.ApprovalVoided: _voided,
    governance.GateOverridden: _overridden,
}
