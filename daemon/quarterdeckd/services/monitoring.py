"""The rules of monitoring: drift kept, alerts raised once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.queueing import queued
from quarterstore.ledger.finding import deployment_of, one_of
from quarterstore.ledger.state import State
from quarterstore.records import monitoring
from quarterstore.records.base import Act, Event
from quarterstore.records.faults import Conflict, NotFound, Refused, got
from quarterstore.records.names import checked_text

DRIFT_ALERT = "drift"


def _check(state: State, act: monitoring.CheckDrift, asking: Asking) -> Decision:
    deployment = deployment_of(state, act.endpoint)
    if deployment.live is None:
        raise Refused(f"{act.endpoint} has no live version", field="endpoint")
    if not 0 < act.window <= 366 * 86400:
        raise got("window", act.window, "seconds, more than 0 and at most a year")
    version = state.versions[deployment.live]
    if version.reference is None:
        raise Refused(f"{version.id} has no reference rows", field="version", next="register it with a reference")
    spec = monitoring.DriftSpec(
        endpoint=act.endpoint,
        version=version.id,
        reference=version.reference,
        current=(),
        since=asking.now - act.window,
        until=asking.now,
        features=version.signature.features,
        rule=act.rule,
    )
    words = f"checking drift at {act.endpoint}"
    return queued(asking, "drift", act.endpoint, spec, words)


def _record(state: State, act: monitoring.RecordDrift, asking: Asking) -> Decision:
    drift = monitoring.Drift(
        id=asking.id("drift"),
        endpoint=act.endpoint,
        version=act.version,
        at=asking.now,
        since=act.since,
        until=act.until,
        n_reference=act.n_reference,
        n_current=act.n_current,
        rule=act.rule,
        features=act.features,
        verdict=act.verdict,
        words=act.words,
        job=act.job,
    )
    found = act.verdict == "DRIFT"
    event: Event = monitoring.DriftFound(drift=drift) if found else monitoring.DriftChecked(drift=drift)

    def then(after: State, asked: Asking) -> Iterator[tuple[Act[Any], Asking]]:
        if found:
            yield (
                monitoring.RaiseAlert(
                    kind=DRIFT_ALERT,
                    subject=act.endpoint,
                    severity="warning",
                    words=act.words,
                    next=f"qd drift {act.endpoint}",
                ),
                asked,
            )
        elif act.verdict in ("NONE", "NEGLIGIBLE"):
            for alert in _open(after, DRIFT_ALERT, act.endpoint):
                yield monitoring.ResolveAlert(alert=alert.id, note=act.words), asked

    return Decision([event], f"drift at {act.endpoint}: {act.verdict}", lambda after: after.drifts[drift.id], then)


def _open(state: State, kind: str, subject: str) -> list[monitoring.Alert]:
    return [alert for alert in state.alerts if (alert.kind, alert.subject, alert.resolved) == (kind, subject, None)]


def _raise(state: State, act: monitoring.RaiseAlert, asking: Asking) -> Decision:
    standing = _open(state, act.kind, act.subject)
    if standing:
        alert = msgspec.structs.replace(standing[0], words=act.words, count=standing[0].count + 1)
    else:
        alert = monitoring.Alert(
            id=asking.id("alert"),
            kind=act.kind,
            subject=act.subject,
            severity=act.severity,
            words=act.words,
            opened=asking.now,
            next=act.next,
        )
    return Decision(
        [monitoring.AlertRaised(alert=alert)], f"alert {act.kind}: {act.subject}", lambda after: after.alerts[alert.id]
    )


def _ack(state: State, act: monitoring.AckAlert, asking: Asking) -> Decision:
    alert: monitoring.Alert = one_of(state.alerts, "alert", act.alert)
    if alert.resolved is not None:
        raise Conflict(f"{alert.id} is resolved", field="alert")
    if alert.acked_by is not None:
        raise Conflict(f"acknowledged by {alert.acked_by} already", field="alert")
    note = checked_text("note", act.note, longest=1000) if act.note else ""
    event = monitoring.AlertAcked(alert=alert.id, by=asking.actor, at=asking.now, note=note)
    return Decision([event], f"looks after {alert.kind} of {alert.subject}", lambda after: after.alerts[alert.id])


def _resolve(state: State, act: monitoring.ResolveAlert, asking: Asking) -> Decision:
    alert: monitoring.Alert = one_of(state.alerts, "alert", act.alert)
    if alert.resolved is not None:
        raise Conflict(f"{alert.id} is resolved already", field="alert")
    event = monitoring.AlertResolved(alert=alert.id, at=asking.now, note=act.note[:1000])
    return Decision([event], f"resolved {alert.kind} of {alert.subject}", lambda after: after.alerts[alert.id])


def _drifts(state: State, query: monitoring.ListDrift, asking: Asking) -> list[monitoring.Drift]:
    if query.endpoint is not None:
        deployment_of(state, query.endpoint)
    found = [drift for drift in state.drifts if query.endpoint in (None, drift.endpoint)]
    return sorted(found, key=lambda drift: drift.at, reverse=True)[: max(1, query.limit)]


def _drift(state: State, query: monitoring.ShowDrift, asking: Asking) -> monitoring.Drift:
    if query.drift in state.deployments:
        found = [drift for drift in state.drifts if drift.endpoint == query.drift]
        if not found:
            raise NotFound(f"no drift check of {query.drift} yet", field="drift", next=f"qd drift {query.drift}")
        return max(found, key=lambda drift: drift.at)
    one: monitoring.Drift = one_of(state.drifts, "drift", query.drift)
    return one


def _alerts(state: State, query: monitoring.ListAlerts, asking: Asking) -> list[monitoring.Alert]:
    found = [alert for alert in state.alerts if query.all or alert.resolved is None]
    return sorted(found, key=lambda alert: alert.opened, reverse=True)


RULES: Rules = {
    monitoring.CheckDrift: _check,
    monitoring.RecordDrift: _record,
    monitoring.RaiseAlert: _raise,
    monitoring.AckAlert: _ack,
    monitoring.ResolveAlert: _resolve,
}
ANSWERS: Answerers = {
    monitoring.ListDrift: _drifts,
    monitoring.ShowDrift: _drift,
    monitoring.ListAlerts: _alerts,
}
