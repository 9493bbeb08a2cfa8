"""Retention: how much is kept of the samples (recorded predictions, metric points), and what is held whatever the
limits say."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from quarterstore.records.base import Act, Event, Query, Record, Role

Samples = Literal["predictions", "points"]
KINDS: tuple[Samples, ...] = ("predictions", "points")
Held = Literal["model", "endpoint", "run"]
MEBIBYTE = 1024 * 1024
WAITING_SIZE = 512 * MEBIBYTE
WAITING_ROWS = 5_000_000
"""What may wait outside the Parquet files (segments, logs) of large limits; of small ones it is `WAITING_SHARE`."""
WAITING_SHARE = 0.3
OVER = 1.05
"""Times a limit that files and what waits may come to, so that a fold, which has both for a moment, stays below 1.1."""
FREED = 0.1
"""Share of a limit that a purge frees, so that there are few of them."""


class Retention(Record, frozen=True):
    """The limits of one kind of samples: bytes on the disk, rows, days (None: however old). `registered` lets the
    points of runs go that a registered version came from."""

    kind: Samples
    size: int
    rows: int
    days: int | None = None
    registered: bool = False
    set_by: str = ""
    at: float | None = None


DEFAULTS: dict[Samples, Retention] = {
    "predictions": Retention(kind="predictions", size=10_000_000_000, rows=100_000_000),
    "points": Retention(kind="points", size=10_000_000_000, rows=1_000_000_000),
}


class Waiting(Record, frozen=True):
    """Bytes and rows of recorded predictions that may wait for the daemon; beyond either they are counted, not kept."""

    size: int = WAITING_SIZE
    rows: int = WAITING_ROWS


class Marks(NamedTuple):
    """One limit in numbers: how much may wait, from what total on is purged, and down to what."""

    waiting: int
    high: int
    low: int


def marks(limit: int, most_waiting: int) -> Marks:
    """The marks of a limit (bytes or rows): `waiting` beside files at `high` is `OVER` times the limit at most."""
    waiting = min(most_waiting, int(WAITING_SHARE * limit))
    high = min(limit, int(OVER * limit) - waiting)
    return Marks(waiting, high, high - int(FREED * limit))


def waiting(limit: Retention) -> Waiting:
    """What may wait of predictions beside the files that a limit leaves room for."""
    size, rows = marks(limit.size, WAITING_SIZE), marks(limit.rows, WAITING_ROWS)
    return Waiting(size=size.waiting, rows=rows.waiting)


class Kept(Record, frozen=True):
    """What is kept of one kind, beside its limits; `over` says why a limit cannot be met, `held` is the share in bytes
    that a hold keeps."""

    kind: Samples
    size: int
    limit_size: int
    rows: int
    limit_rows: int
    oldest: str
    newest: str
    limit_days: int | None
    held: int
    registered: bool
    over: str = ""


class Hold(Record, frozen=True):
    """Samples that no limit and no `gc` touches until it is released: of an endpoint, of a run, or of a model (of its
    endpoints, of the runs that its versions came from, and those versions themselves)."""

    id: str
    on: Held
    name: str
    reason: str
    by: str
    at: float


class SetRetention(Act[Retention], tag="retention.set", frozen=True):
    """Set the limits of one kind of samples; what is left out stays as it is, 0 days is no limit by age."""

    role: ClassVar[Role] = "admin"
    kind: Samples
    size: int | None = None
    rows: int | None = None
    days: int | None = None
    registered: bool | None = None


class HoldSamples(Act[Hold], tag="retention.hold", frozen=True):
    """Keep the samples of a model, an endpoint or a run whatever the limits say, until the hold is released."""

    on: Held
    name: str
    reason: str


class ReleaseHold(Act[Hold], tag="retention.release", frozen=True):
    """Release a hold: from then on the limits are met again, oldest first."""

    role: ClassVar[Role] = "admin"
    hold: str


class NotePurge(Act[None], tag="retention.note_purge", frozen=True):
    """Say what a purge, or several within seconds, freed: rows, bytes on the disk, the days of the oldest and newest
    row, by which limits; of points the runs they were of. `mended`: it was cut short by a stop, and ended after it."""

    role: ClassVar[Role] = "daemon"
    kind: Samples
    rows: int
    size: int
    oldest: str
    newest: str
    rules: tuple[str, ...]
    runs: tuple[str, ...] = ()
    mended: bool = False


class ShowRetention(Query[list[Kept]], tag="retention.show", frozen=True):
    """What is kept of each kind of samples, beside its limits."""


class Planned(Record, frozen=True):
    """What a purge would free: rows, bytes on the disk, the days of the oldest and newest row, by which limits; of
    points the first thousand runs they are of."""

    kind: Samples
    rows: int
    size: int
    oldest: str
    newest: str
    rules: tuple[str, ...]
    runs: tuple[str, ...] = ()


class PlanPurge(Query[Planned], tag="retention.plan", frozen=True):
    """What would go at once if the limits were these, as `retention.set` takes them; changes nothing."""

    kind: Samples
    size: int | None = None
    rows: int | None = None
    days: int | None = None
    registered: bool | None = None


class ListHolds(Query[list[Hold]], tag="retention.holds", frozen=True):
    """Every hold that stands, newest first."""


class RetentionSet(Event, tag="retention.limits_set", frozen=True):
    """The limits of one kind of samples are others."""

    retention: Retention


class SamplesHeld(Event, tag="retention.held", frozen=True):
    """Samples are kept whatever the limits say."""

    hold: Hold


class HoldReleased(Event, tag="retention.released", frozen=True):
    """The limits hold for these samples again."""

    hold: str
    by: str
    at: float


class SamplesPurged(Event, tag="retention.purged", frozen=True):
    """Samples were freed because a limit was met; of points those of the runs named."""

    kind: Samples
    rows: int
    size: int
    oldest: str
    newest: str
    rules: tuple[str, ...]
    at: float
    runs: tuple[str, ...] = ()
