"""Features: values of entities over time, kept in views, read as they were known at an instant."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from quarterstore.records.base import Act, Event, Query, Record, Role
from quarterstore.records.jobs import Job

Kind = Literal["number", "integer", "text", "boolean"]
Known = Literal["event", "now", "column"]
"""When the rows of a file were known: at their event time (a first load of history), when they came here, or at the
time a column of theirs says."""


class Key(Record, frozen=True):
    """A column that names an entity, alone or with others."""

    name: str
    kind: Literal["text", "integer"] = "text"


class Entity(Record, frozen=True):
    """What values are of, and the columns that name one of them: the same in every view."""

    name: str
    keys: tuple[Key, ...]


class Feature(Record, frozen=True):
    """One value of an entity."""

    name: str
    kind: Kind


class OnDemand(Record, frozen=True):
    """A feature that is computed as it is read, from the features of its view and what the row or request gives: a
    formula (`quarterstore.records.formulas`) and what it makes."""

    name: str
    formula: str
    kind: Kind


class FeatureView(Record, frozen=True):
    """Features of the same entities that come in the same rows. A value holds from its `event_time` on, for `ttl`
    seconds where that is given; `created_time` is the column that says when a row was written. `requests` are values
    that come with a row or a request, for formulas; `source` says in words or as a path where rows come from."""

    name: str
    version: int
    entities: tuple[Entity, ...]
    features: tuple[Feature, ...]
    event_time: str
    created_time: str | None
    ttl: float | None
    owner: str
    description: str
    tags: dict[str, str]
    created: float
    created_by: str
    max_lag: float | None = None
    """Seconds for which rows may wait to be read online, before an alert says so; an hour where it is not said."""
    source: str = ""
    requests: tuple[Feature, ...] = ()
    on_demand: tuple[OnDemand, ...] = ()

    @property
    def keys(self) -> tuple[Key, ...]:
        """The columns that name whose a row is."""
        return tuple(key for entity in self.entities for key in entity.keys)

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each feature: of those that are kept, then of those on demand."""
        kept: dict[str, Kind] = {each.name: each.kind for each in self.features}
        return kept | {each.name: each.kind for each in self.on_demand}

    @property
    def id(self) -> str:
        """As `usage@2`."""
        return f"{self.name}@{self.version}"


class FeatureRows(Record, frozen=True):
    """Rows of a view that came as one file: kept as Parquet under `digest`. `at` is when they were known unless their
    own times say (`known` event or column); `first_at` and `last_at` are event
    times, in seconds since 1970; `late` rows were
    known after their event time by their own word."""

    id: str
    view: str
    digest: str
    size: int
    rows: int
    first_at: float
    last_at: float
    late: int
    known: Known
    at: float
    by: str
    source: str
    """The SHA-256 of the file that was sent."""
    folded: bool = False
    """Whether the rows lie in parts by now (`feature_files.Part`), and no longer under `digest`."""
    known_from: float | None = None
    """Where rows say it themselves: the second in which the first of them was known."""


class Lump(Record, frozen=True):
    """A file of rows as it lies on the disk: its hash (as a job runs its path), the hashes of the rows in it as they
    came (`of`; more than one where they were made one file, `__of` then says of which each is), and the time they were
    known where the rows do not say."""

    file: str
    of: tuple[str, ...]
    known: float | None = None


class Part(Record, frozen=True):
    """One file that holds rows of a view which came in others: `of` are their hashes as they came. `span` is the
    year or month (UTC) of their event times; empty where it stands in place of one file."""

    id: str
    view: str
    digest: str
    size: int
    rows: int
    first_at: float
    last_at: float
    span: str
    of: tuple[str, ...]


class Reading(Record, frozen=True):
    """How views are read: `known` leaves out what was written after a row's own time, `corrected` takes all that is
    known; `known_at` (seconds since 1970) leaves out what was written after that instant, whatever the row."""

    how: Literal["known", "corrected"] = "known"
    known_at: float | None = None


class Wanted(Record, frozen=True):
    """A view as it is read for a training set: its keys, the features that are wanted, its ttl, and its rows as they
    came: hashes, and for each the time it was known where its own rows do not say. `lumps` is how they lie. `inputs`
    are features that are read for formulas only."""

    view: str
    keys: tuple[Key, ...]
    features: tuple[Feature, ...]
    ttl: float | None
    files: tuple[str, ...]
    known: tuple[float | None, ...]
    lumps: tuple[Lump, ...] = ()
    inputs: tuple[Feature, ...] = ()
    requests: tuple[Feature, ...] = ()
    on_demand: tuple[OnDemand, ...] = ()
    forgotten: tuple[str, ...] = ()
    """Forgettings that took rows out of it."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The features that come back: those that are kept, then those on demand."""
        return (*(each.name for each in self.features), *(each.name for each in self.on_demand))


class TrainingSet(Record, frozen=True):
    """Rows of entities with the features that were known at each row's time. `id` is the hash of all that went in:
    the same in is the same set, whoever asks whenever."""

    id: str
    entities: str
    """The SHA-256 of the file of entities."""
    time: str
    reading: Reading
    views: tuple[Wanted, ...]
    digest: str
    rows: int
    statuses: dict[str, dict[str, int]]
    """Of each view, how many rows were PRESENT, EXPIRED, NOT_FOUND."""
    job: str
    at: float
    by: str
    format: Literal["csv", "parquet"] = "parquet"
    """Of the file of entities."""


class RowsSpec(Record, frozen=True):
    """What a job that takes rows in is given: the file as a path, its format, and the view."""

    view: FeatureView
    data: str
    format: Literal["csv", "parquet"]
    known: Known
    source: str


class RowsResult(Record, frozen=True):
    """What it answers: a Parquet file in the job's folder, sorted by event time, and what is in it."""

    output: str
    rows: int
    first_at: float
    last_at: float
    late: int
    size: int = 0
    known_from: float | None = None


class JoinSpec(Record, frozen=True):
    """What a job that makes a training set is given."""

    entities: str
    format: Literal["csv", "parquet"]
    digest: str
    time: str
    views: tuple[Wanted, ...]
    reading: Reading
    again: str | None = None
    """The set that is made again, to see whether the same comes."""


class JoinResult(Record, frozen=True):
    """What it answers: the set's id and file, and what was used of it."""

    id: str
    output: str
    rows: int
    statuses: dict[str, dict[str, int]]
    used: tuple[tuple[str, ...], ...]
    """The files of each view that could matter: with `known`, those that were known before the last row's time."""


# acts


class DefineView(Act[FeatureView], tag="features.define", frozen=True):
    """Define a view, or a new version of it. The same definition again changes nothing; keys, and the kind of a feature
    that has rows, stay as they are: other ones are another view."""

    name: str
    entities: tuple[Entity, ...]
    features: tuple[Feature, ...]
    event_time: str
    created_time: str | None = None
    ttl: float | None = None
    owner: str = ""
    description: str = ""
    tags: dict[str, str] = {}
    max_lag: float | None = None
    source: str = ""
    requests: tuple[Feature, ...] = ()
    on_demand: dict[str, str] = {}
    """Features that are computed as they are read: name and formula."""


class AddRows(Act[Job], tag="features.add", frozen=True):
    """Take rows of a view in from an uploaded file, in a job: all of them, or none and the row that is wrong is named.
    Without `known` they were known at the time of the view's `created_time` where it has one, else the first rows of a
    view at their event time and later ones when they came."""

    view: str
    digest: str
    format: Literal["csv", "parquet"] = "parquet"
    known: Known | None = None


class NoteRows(Act[FeatureRows], tag="features.note_rows", frozen=True):
    """Keep rows that a job has taken in: from here on they are read."""

    role: ClassVar[Role] = "daemon"
    view: str
    source: str
    known: Known
    result: RowsResult


class JoinFeatures(Act[Job], tag="features.join", frozen=True):
    """Make a training set of an uploaded file of entities (keys, and the column `time`): for each of its rows the
    features of the views at that time, in a job. `views` are names of views, or `view:feature` for one feature."""

    digest: str
    views: tuple[str, ...]
    time: str
    format: Literal["csv", "parquet"] = "parquet"
    reading: Reading = Reading()


class RebuildSet(Act[Job], tag="features.rebuild", frozen=True):
    """Make a training set again from what is kept, in a job whose result says whether its hash is the same."""

    set: str


class NoteTrainingSet(Act[TrainingSet], tag="features.note_set", frozen=True):
    """Keep a training set that a job has made."""

    role: ClassVar[Role] = "daemon"
    job: str
    spec: dict[str, Any]
    result: dict[str, Any]


# queries


class ListViews(Query[list[FeatureView]], tag="features.list", frozen=True):
    """The newest version of every view."""


class ViewShown(Record, frozen=True):
    """A view with what is in it."""

    view: FeatureView
    versions: tuple[int, ...]
    rows: int
    size: int
    first_at: float | None
    last_at: float | None
    files: tuple[FeatureRows, ...]
    parts: tuple[Part, ...] = ()


class ShowView(Query[ViewShown], tag="features.show", frozen=True):
    """One view by its name (its newest version), or `name@2`, with its rows file by file."""

    view: str


class ListTrainingSets(Query[list[TrainingSet]], tag="features.sets", frozen=True):
    """Training sets, newest first."""

    limit: int = 50


class ShowTrainingSet(Query[TrainingSet], tag="features.set", frozen=True):
    """One training set by its id or the start of it."""

    set: str


# events


class ViewDefined(Event, tag="features.defined", frozen=True):
    """A view has a new version."""

    view: FeatureView


class RowsAdded(Event, tag="features.rows_added", frozen=True):
    """A view has more rows."""

    rows: FeatureRows


class TrainingSetMade(Event, tag="features.set_made", frozen=True):
    """A training set is kept."""

    set: TrainingSet
