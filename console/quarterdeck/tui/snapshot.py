"""What the console remembers of the feed: the last pulses of each kind, folded purely."""

from __future__ import annotations

from msgspec.structs import replace

from quarterstore.records.base import Pulse, Record
from quarterstore.records.deployments import LatencySummary
from quarterstore.records.jobs import Progress
from quarterstore.records.runs import CurvePoint

KEPT = 120
"""Seconds of latency that are remembered for each arm."""


class Snapshot(Record, frozen=True):
    """The passing readings of now: latency by (endpoint, version), progress by job, the last points by run."""

    latency: dict[tuple[str, str], tuple[LatencySummary, ...]] = {}
    progress: dict[str, Progress] = {}
    points: dict[str, dict[str, tuple[int, float]]] = {}


def fold(snapshot: Snapshot, pulse: Pulse) -> Snapshot:
    """The snapshot after one more pulse; never longer than it may be."""
    if isinstance(pulse, LatencySummary):
        key = (pulse.endpoint, pulse.version)
        kept = (*snapshot.latency.get(key, ()), pulse)[-KEPT:]
        return replace(snapshot, latency={**snapshot.latency, key: kept})
    if isinstance(pulse, Progress):
        return replace(snapshot, progress={**snapshot.progress, pulse.job: pulse})
    if isinstance(pulse, CurvePoint):
        merged = {**snapshot.points.get(pulse.run, {}), **pulse.points}
        return replace(snapshot, points={**snapshot.points, pulse.run: merged})
    return snapshot
