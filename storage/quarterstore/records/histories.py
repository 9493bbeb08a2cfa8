"""What every version of an endpoint did over time: requests, errors and latency, a column a measure."""

from __future__ import annotations

from typing import Literal

from quarterstore.records.base import Record

Quantile = Literal["p50", "p95", "p99"]


class ArmHistory(Record, frozen=True):
    """One version at an endpoint; the columns are as long as each other, a reading a place, the oldest first.

    `at` is the start of a reading (seconds of the epoch), `heard` the seconds of it that its hosts were heard in: a
    stretch without a reading is one in which nobody served, or nobody listened. `p50`, `p95` and `p99` are in
    milliseconds, null where nobody asked."""

    version: str
    role: str
    at: tuple[float, ...]
    heard: tuple[float, ...]
    requests: tuple[int, ...]
    errors: tuple[int, ...]
    p50: tuple[float | None, ...]
    p95: tuple[float | None, ...]
    p99: tuple[float | None, ...]


class TrafficHistory(Record, frozen=True):
    """The last `window` seconds of an endpoint in readings of `step` seconds, up to `until`; `since` is when the daemon
    began to listen."""

    endpoint: str
    window: float
    step: float
    until: float
    since: float
    arms: tuple[ArmHistory, ...]
