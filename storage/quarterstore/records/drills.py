"""Drills: a rollback rehearsed in a sandbox, with real requests, before it is needed."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from quarterstore.records.base import Act, Event, Query, Record, Role
from quarterstore.records.deployments import Route
from quarterstore.records.jobs import Job

Source = Literal["recorded", "golden", "zeros"]
DRILLED = "rollback drill"
"""The name under which a gate asks for one."""


class DrillResult(Record, frozen=True):
    """What a drill found; `ok` when nothing in `wrong` was. Times are milliseconds since the switch was asked: until
    every host acknowledged it, until the first answer under the new epoch, until the last one under the old."""

    ok: bool
    words: str
    wrong: tuple[str, ...] = ()
    source: Source | None = None
    """Where the requests came from: recorded rows, golden rows, or zeros where there is neither."""
    requests: int = 0
    failed: int = 0
    """Requests without an answer, or with another status than 200."""
    acknowledged: float | None = None
    first_new: float | None = None
    last_old: float | None = None
    p95_before: float | None = None
    p95_after: float | None = None
    """Milliseconds of a request over HTTP, under each epoch."""
    golden: int = 0
    """Golden rows that the former version answered right after the switch."""
    largest_difference: float | None = None


class Drill(Record, frozen=True):
    """A rehearsal of the rollback of an endpoint, from `live` to the version `to`."""

    id: str
    kind: Literal["rollback"]
    endpoint: str
    at: float
    live: str
    to: str
    rate: float
    seconds: float
    hosts: int
    within: float
    found: DrillResult
    job: str | None = None


class DrillSpec(Record, frozen=True):
    """What a drill job is given: the endpoint's route as it is and as a rollback would make it, slots with the paths of
    their files, which the drill itself checks; golden rows of the former version and recorded predictions as paths."""

    endpoint: str
    live: str
    to: str
    before: Route
    after: Route
    rate: float
    seconds: float
    hosts: int
    within: float
    golden: str | None = None
    golden_digest: str | None = None
    predictions: tuple[str, ...] = ()
    features: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)


class DrillRollback(Act[Job], tag="drills.rollback", frozen=True):
    """Rehearse the rollback of an endpoint in a sandbox, in a job: a launcher and hosts of its own serve the present
    routes on a private port, get `rate` requests a second for `seconds`, are switched to the version before, and get
    them as long again. It is good when no request failed and the switch took at most `within` seconds. Nothing live
    is touched."""

    endpoint: str
    rate: float = 50.0
    seconds: float = 2.0
    hosts: int = 1
    within: float = 1.0


class RecordDrill(Act[Drill], tag="drills.record", frozen=True):
    """Keep what a drill job found; one that went wrong is an alert."""

    role: ClassVar[Role] = "daemon"
    job: str
    endpoint: str
    live: str
    to: str
    rate: float
    seconds: float
    hosts: int
    within: float
    found: DrillResult


class ListDrills(Query[list[Drill]], tag="drills.list", frozen=True):
    """Drills, newest first; of one endpoint when named."""

    endpoint: str | None = None
    limit: int = 100


class ShowDrill(Query[Drill], tag="drills.show", frozen=True):
    """One drill."""

    drill: str


class RollbackDrilled(Event, tag="drills.rollback_drilled", frozen=True):
    """A rollback was rehearsed."""

    drill: Drill
