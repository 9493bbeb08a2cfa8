"""Monitoring: drift of live traffic against the training rows, and alerts."""

from __future__ import annotations

from typing import ClassVar, Literal

from quarterstore.records.base import Act, Event, Query, Record, Role
from quarterstore.records.jobs import Job
from quarterstore.records.registry import Feature

DriftVerdict = Literal["DRIFT", "NEGLIGIBLE", "NONE", "NOT ENOUGH DATA", "UNDEFINED"]


class DriftRule(Record, frozen=True):
    """When a feature counts as drifted: significant after Benjamini-Hochberg at `level` over all features, and an
    effect of at least `effect` (PSI); `literal` is the plain p < 0.05 of the textbooks. A window of fewer than
    `least` rows is never judged."""

    level: float = 0.05
    effect: float = 0.1
    least: int = 200
    literal: bool = False


class FeatureDrift(Record, frozen=True):
    """One feature: the test, its statistic and p, q after FDR, the effect size (PSI), rows on both sides, verdict."""

    feature: str
    test: Literal["KS", "chi-square"]
    statistic: float | None
    p: float | None
    q: float | None
    effect: float | None
    n_reference: int
    n_current: int
    verdict: DriftVerdict
    note: str = ""


class Drift(Record, frozen=True):
    """A window of live traffic compared with the training rows of the version that answered it."""

    id: str
    endpoint: str
    version: str
    at: float
    since: float
    until: float
    n_reference: int
    n_current: int
    rule: DriftRule
    features: tuple[FeatureDrift, ...]
    verdict: DriftVerdict
    words: str
    job: str | None = None
    seq: int = 0
    """The entry that says so."""


class Alert(Record, frozen=True):
    """Something that somebody should look at: what, since when, how large, what to do next."""

    id: str
    kind: str
    subject: str
    severity: Literal["info", "warning", "critical"]
    words: str
    opened: float
    next: str = ""
    cause: str | None = None
    acked_by: str | None = None
    acked: float | None = None
    note: str = ""
    resolved: float | None = None
    count: int = 1


class Reaction(Record, frozen=True):
    """What older journals have in place of a policy of continuous training (`records.ct`): drift runs a pipeline."""

    endpoint: str
    on: Literal["drift"]
    pipeline: str
    enabled: bool
    set_by: str
    at: float
    last: float | None = None
    cooldown: float = 3600.0


class CheckDrift(Act[Job], tag="monitoring.check_drift", frozen=True):
    """Compare the last `window` seconds of recorded predictions with the training rows, in a job."""

    endpoint: str
    window: float = 86400.0
    rule: DriftRule = DriftRule()


class RecordDrift(Act[Drift], tag="monitoring.record_drift", frozen=True):
    """Keep what a drift job found; raises or resolves the alert."""

    role: ClassVar[Role] = "daemon"
    job: str
    endpoint: str
    version: str
    since: float
    until: float
    rule: DriftRule
    n_reference: int
    n_current: int
    features: tuple[FeatureDrift, ...]
    verdict: DriftVerdict
    words: str


class RaiseAlert(Act[Alert], tag="monitoring.raise", frozen=True):
    """Say that somebody should look at something; the same kind and subject raised again is counted, not doubled."""

    role: ClassVar[Role] = "daemon"
    kind: str
    subject: str
    severity: Literal["info", "warning", "critical"]
    words: str
    next: str = ""


class AckAlert(Act[Alert], tag="monitoring.ack", frozen=True):
    """Say that somebody looks after an alert."""

    alert: str
    note: str = ""


class ResolveAlert(Act[Alert], tag="monitoring.resolve", frozen=True):
    """Close an alert."""

    alert: str
    note: str = ""


class ListDrift(Query[list[Drift]], tag="monitoring.drift", frozen=True):
    """Drift checks, newest first."""

    endpoint: str | None = None
    limit: int = 20


class ShowDrift(Query[Drift], tag="monitoring.show_drift", frozen=True):
    """One drift check, feature by feature; the newest of an endpoint when given its name."""

    drift: str


class ListAlerts(Query[list[Alert]], tag="monitoring.alerts", frozen=True):
    """Alerts, newest first; only open ones unless `all`."""

    all: bool = False


class DriftChecked(Event, tag="monitoring.drift_checked", frozen=True):
    """A window was compared and is as the training rows are, or too small to tell."""

    drift: Drift


class DriftFound(Event, tag="monitoring.drift_found", frozen=True):
    """A window differs from the training rows by more than the rule allows."""

    drift: Drift


class AlertRaised(Event, tag="monitoring.alert_raised", frozen=True):
    """Somebody should look at something."""

    alert: Alert


class AlertAcked(Event, tag="monitoring.alert_acked", frozen=True):
    """Somebody looks after it."""

    alert: str
    by: str
    at: float
    note: str


class AlertResolved(Event, tag="monitoring.alert_resolved", frozen=True):
    """It is over."""

    alert: str
    at: float
    note: str


class ReactionSet(Event, tag="monitoring.reaction_set", frozen=True):
    """Of older journals: a reaction was switched on or off. It is folded into a policy."""

    reaction: Reaction


class ReactionFired(Event, tag="monitoring.reaction_fired", frozen=True):
    """Of older journals: a reaction spoke its act; or did not, and says why."""

    endpoint: str
    on: str
    at: float
    words: str
    fired: bool


class DriftSpec(Record, frozen=True):
    """What a drift job is given: local Parquet files of both sides, one column a feature under its own name; rows of
    `current` are filtered to `endpoint`, `version` and the window by their columns `endpoint`, `version`, `at`."""

    endpoint: str
    version: str
    reference: str
    current: tuple[str, ...]
    since: float
    until: float
    features: tuple[Feature, ...]
    rule: DriftRule


class DriftResult(Record, frozen=True):
    """What a drift job answers."""

    n_reference: int
    n_current: int
    features: tuple[FeatureDrift, ...]
    verdict: DriftVerdict
    words: str
