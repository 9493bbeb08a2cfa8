"""What the console remembers of the feed: the last pulses of each kind, folded purely."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from quarterstore.records.base import Pulse, Record
from quarterstore.records.deployments import CanaryReading, CanaryVerdict, Deployment, LatencySummary
from quarterstore.records.jobs import Progress
from quarterstore.records.monitoring import Alert
from quarterstore.records.runs import CurvePoint
from quarterstore.records.trials import TrialReading

KEPT = 120
"""Seconds of latency that are remembered for each arm, and looks at each trial."""


class Snapshot(Record, frozen=True):
    """The passing readings of now: latency by (endpoint, version), canaries by endpoint, trials and how they were
    judged by id, progress by job, the last points by run."""

    latency: dict[tuple[str, str], tuple[LatencySummary, ...]] = {}
    canaries: dict[str, CanaryReading] = {}
    trials: dict[str, TrialReading] = {}
    looks: dict[str, tuple[TrialReading, ...]] = {}
    progress: dict[str, Progress] = {}
    points: dict[str, dict[str, tuple[int, float]]] = {}


def fold(snapshot: Snapshot, pulse: Pulse) -> Snapshot:
    """The snapshot after one more pulse; never longer than it may be."""
    if isinstance(pulse, LatencySummary):
        key = (pulse.endpoint, pulse.version)
        kept = (*snapshot.latency.get(key, ()), pulse)[-KEPT:]
        return replace(snapshot, latency={**snapshot.latency, key: kept})
    if isinstance(pulse, CanaryReading):
        return replace(snapshot, canaries={**snapshot.canaries, pulse.endpoint: pulse})
    if isinstance(pulse, TrialReading):
        found = replace(snapshot, trials={**snapshot.trials, pulse.trial: pulse})
        if pulse.verdict is None:
            return found
        looks = (*snapshot.looks.get(pulse.trial, ()), pulse)[-KEPT:]
        return replace(found, looks={**snapshot.looks, pulse.trial: looks})
    if isinstance(pulse, Progress):
        return replace(snapshot, progress={**snapshot.progress, pulse.job: pulse})
    if isinstance(pulse, CurvePoint):
        merged = {**snapshot.points.get(pulse.run, {}), **pulse.points}
        return replace(snapshot, points={**snapshot.points, pulse.run: merged})
    return snapshot


SEVERITIES = ("critical", "warning", "info")


def worst_first(alerts: Sequence[Alert]) -> list[Alert]:
    """Alerts by severity; of one severity in the order they came in."""
    return sorted(alerts, key=lambda alert: SEVERITIES.index(alert.severity))


def judged(snapshot: Snapshot, deployment: Deployment) -> CanaryVerdict | None:
    """How a canary's step stands: the last reading of its epoch, else what is kept; `None` without either."""
    reading = snapshot.canaries.get(deployment.endpoint)
    if reading is not None and reading.epoch == deployment.epoch:
        return reading.verdict
    return deployment.canary.judged if deployment.canary else None
