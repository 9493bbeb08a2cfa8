"""Features online: the newest value of each entity, made of a view's rows and pushed one by one, as hosts read it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from quarterstore.records.base import Act, Event, Query, Record, Role, Sample
from quarterstore.records.features import Feature, FeatureView, Key, Lump, OnDemand
from quarterstore.records.jobs import Job

Status = Literal["PRESENT", "EXPIRED", "NOT_FOUND"]
"""What is read of an entity: a value that holds, one that is older than the view's ttl, or none."""
OnExpired = Literal["fail", "null", "last"]
"""What a version is given for a value that is older than its view's ttl: no answer at all, null, or the old value."""
MAX_LAG = 3600.0
"""Seconds for which rows may wait to be read online where the view does not say."""


class Generation(Record, frozen=True):
    """The newest value of each entity of a view as it was known at `made`, ready to be read online: what is in it, by
    the hashes of the files as they came; of `waiting` ones some rows were not due yet. `newest` is the latest event
    time in it."""

    id: str
    view: str
    columns: tuple[str, ...]
    files: tuple[str, ...]
    waiting: tuple[str, ...]
    entities: int
    rows: int
    """Rows of the files that were read for it."""
    newest: float | None
    made: float
    full: bool
    seconds: float
    size: int
    at: float
    by: str


class OnlineView(Record, frozen=True):
    """A view as it is read online: `folder` holds its newest generation (none: empty), whose values are in the order
    of `columns`; it was `made` as known at that instant, in seconds since 1970."""

    name: str
    version: int
    keys: tuple[Key, ...]
    features: tuple[Feature, ...]
    ttl: float | None
    folder: str = ""
    columns: tuple[str, ...] = ()
    made: float = 0.0
    generation: str = ""
    requests: tuple[Feature, ...] = ()
    on_demand: tuple[OnDemand, ...] = ()

    @property
    def id(self) -> str:
        """As `usage@2`."""
        return f"{self.name}@{self.version}"


class Needed(Record, frozen=True):
    """Features of a view that a version takes, as they are read for callers who give keys instead: by the definition of
    that `version` of the view, whatever came after it."""

    name: str
    version: int
    features: tuple[str, ...]

    @property
    def id(self) -> str:
        """As `usage@2`."""
        return f"{self.name}@{self.version}"


class MaterialiseSpec(Record, frozen=True):
    """What a job that makes a generation is given: the files as they lie, the hashes of those to read as they came
    (`files`), and the generation that it goes on from; `folder` is where that and its own lie."""

    view: FeatureView
    lumps: tuple[Lump, ...]
    files: tuple[str, ...]
    made: float
    before: Generation | None = None
    folder: str = ""
    generation: str = ""


class MaterialiseResult(Record, frozen=True):
    """What it answers; `unchanged` where nothing had come since the generation before."""

    generation: str
    waiting: tuple[str, ...]
    entities: int
    rows: int
    newest: float | None
    seconds: float
    size: int
    unchanged: bool = False


class OnlineStatus(Record, frozen=True):
    """How a view stands online: its newest generation, and what is not in it. `lag` is for how many seconds the oldest
    row that is not read online yet has waited (0: none waits), `max_lag` how long it may; `behind` by how many seconds
    the newest event time offline is after the newest online."""

    view: str
    generation: Generation | None
    pushed: int
    """Rows that were pushed and are in no file of the view yet; they are read online all the same."""
    files_waiting: int
    rows_waiting: int
    lag: float
    behind: float | None
    max_lag: float
    late: bool
    fresh: float | None
    """Seconds since the newest event time online."""
    rows: int = 0
    """Rows of the view that are kept."""


class Looked(Record, frozen=True):
    """What was read online of some entities: a list of values for each key, in the order of `features`."""

    view: str
    generation: str
    features: tuple[str, ...]
    values: tuple[list[Any], ...]
    statuses: tuple[Status, ...]
    ages: tuple[float | None, ...]
    """Seconds since the event time; None without a row."""


class PushedRows(Record, frozen=True):
    """Rows that are kept: they are read online from here on, and are in a file of their view later."""

    view: str
    rows: int
    at: float


class Measured(Record, frozen=True):
    """How long reads took, in milliseconds: of `entities` at a time, `rounds` times."""

    view: str
    entities: int
    features: int
    rounds: int
    p50: float
    p95: float
    p99: float
    rows: int
    """Rows of the generation."""
    found: int
    """Of the entities of one read, how many were not NOT_FOUND."""


# acts


class Materialise(Act[Job], tag="online.materialise", frozen=True):
    """Make what is read online of a view from its rows, in a job: only of files that are not in yet, on top of the
    generation before; of all of them with `full`. Until it is whole the generation before is read."""

    view: str
    full: bool = False


class NoteGeneration(Act[Generation], tag="online.note", frozen=True):
    """Keep a generation that a job has made: from here on it is read."""

    role: ClassVar[Role] = "daemon"
    job: str
    result: MaterialiseResult


# samples


class PushRows(Sample[PushedRows], tag="online.push", frozen=True):
    """Keep rows of a view and read them online at once: an object a row with its keys, every feature (null is a value)
    and maybe its event time (now without it). All of them, or none and the row that is wrong is named."""

    view: str
    rows: tuple[dict[str, Any], ...]


# queries


class LookUp(Query[Looked], tag="online.read", frozen=True):
    """Read features online as a serving host does: an object of keys an entity; all features unless some are named."""

    view: str
    keys: tuple[dict[str, Any], ...]
    features: tuple[str, ...] = ()


class ShowOnline(Query[list[OnlineStatus]], tag="online.status", frozen=True):
    """How views stand online: generation, lag and freshness of each, or of one."""

    view: str | None = None


class MeasureReads(Query[Measured], tag="online.measure", frozen=True):
    """Read entities that are there, again and again, in the daemon's own process, and say how long it took."""

    view: str
    entities: int = 100
    rounds: int = 1000


# events


class GenerationMade(Event, tag="online.made", frozen=True):
    """A view has a newer generation."""

    generation: Generation
