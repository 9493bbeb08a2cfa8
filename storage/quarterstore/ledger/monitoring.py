"""The book of drift checks and alerts."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import monitoring


def _drift(state: State, event: monitoring.DriftChecked | monitoring.DriftFound) -> None:
    state.drifts.put(copy_of(event.drift, seq=state.context.seq))


def _raised(state: State, event: monitoring.AlertRaised) -> None:
    state.alerts.put(event.alert)


def _acked(state: State, event: monitoring.AlertAcked) -> None:
    alert = state.alerts[event.alert]
    state.alerts.put(copy_of(alert, acked_by=event.by, acked=event.at, note=event.note))


def _resolved(state: State, event: monitoring.AlertResolved) -> None:
    alert = state.alerts[event.alert]
    state.alerts.put(copy_of(alert, resolved=event.at, note=event.note or alert.note))


FOLDS: dict[type, Fold] = {
    monitoring.DriftChecked: _drift,
    monitoring.DriftFound: _drift,
    monitoring.AlertRaised: _raised,
    monitoring.AlertAcked: _acked,
    monitoring.AlertResolved: _resolved,
}
