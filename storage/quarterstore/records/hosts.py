"""What the daemon, the serving launcher and its hosts say to each other: routes, questions and news."""

from __future__ import annotations

from typing import Literal

import msgspec

from quarterstore.records.base import Record
from quarterstore.records.deployments import ArmCounts, LatencySummary, RoutingTable


class PushRoutes(Record, frozen=True):
    """To the launcher: serve by this table; answered when every host has acknowledged its epoch."""

    table: RoutingTable


class AskServing(Record, frozen=True):
    """To the launcher: say how things are (`state`), or stop with all hosts (`stop`)."""

    what: Literal["state", "stop"]


class HostNews(Record, frozen=True):
    """From the launcher, unasked: a second of latency, a crash and its slot, a version out of traffic because of them,
    drops, what a shadow was shown or not; to it from a host as well how much that had to do."""

    kind: Literal["latency", "crash", "dropped", "copies", "load", "breaker"]
    latency: LatencySummary | None = None
    counts: dict[str, ArmCounts] = msgspec.field(default_factory=dict)
    """Cumulative counts since the route's epoch began, by version; of one endpoint."""
    endpoint: str = ""
    version: str = ""
    epoch: int = 0
    detail: str = ""
    dropped: int = 0
    copied: int = 0
    refused: int = 0
    """Requests to the endpoint since its epoch began that were wrong."""
    shed: int = 0
    """Requests for which there was no room: at the endpoint since its epoch began, of `load` at the host in all."""
    requests: int = 0
    waiting: int = 0
    busy: float = 0.0
    """Seconds of processor a second."""
