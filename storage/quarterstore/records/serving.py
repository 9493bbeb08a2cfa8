"""The serving side as it is: the launcher, its hosts, the routes they acknowledged, what is out of traffic."""

from __future__ import annotations

import msgspec

from quarterstore.records.base import Record


class HostState(Record, frozen=True):
    """One serving host as its launcher sees it."""

    pid: int
    epoch: int
    started: float
    requests: int = 0
    ready: bool = False
    shed: int = 0
    """Requests among them that were turned away: there was no room."""
    busy: float = 0.0
    """Seconds of processor a second, lately."""
    waiting: int = 0
    """The longest queue, lately."""
    leaving: bool = False
    """It ends what it has begun and goes."""


class ServingState(Record, frozen=True):
    """The serving side as it is: the launcher, its hosts, the routes they acknowledged, the address they answer at."""

    launcher: int | None
    address: str | None
    epoch: int
    hosts: tuple[HostState, ...]
    crashes: dict[str, int] = msgspec.field(default_factory=dict)
    grpc: str | None = None
    """HOST:PORT where gRPC is answered, if it is."""
    least: int = 1
    most: int = 1
    """How many hosts there may be; between the two their number follows the load."""
    wanted: int = 1
    why: str = ""
    """Why it was changed last."""
    out: tuple[str, ...] = ()
    """`endpoint: version` of what is out of traffic for a while because hosts die of it."""
    error: str = ""
    """Why serving could not be started, in words."""
