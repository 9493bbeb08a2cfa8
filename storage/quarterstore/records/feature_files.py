"""How rows of feature views lie on the disk: many files become few, and what is forgotten of an entity is taken out."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from quarterstore.records.base import Act, Event, Query, Record, Role
from quarterstore.records.features import Key, Lump, Part
from quarterstore.records.jobs import Job

Span = Literal["year", "month"]


class Made(Record, frozen=True):
    """A file that a job has made of others."""

    output: str
    rows: int
    first_at: float
    last_at: float
    span: str
    of: tuple[str, ...]
    size: int = 0


class CompactSpec(Record, frozen=True):
    """What a job that makes few files of many is given; finished spans are kept in `work` until the job has ended."""

    view: str
    every: Span
    lumps: tuple[Lump, ...]
    key: str
    work: str = ""


class CompactResult(Record, frozen=True):
    """What it answers."""

    parts: tuple[Made, ...]
    rows: int
    resumed: int


class Searched(Record, frozen=True):
    """A file that is searched for an entity: its hash beside its path."""

    id: str
    file: str


class ForgetView(Record, frozen=True):
    """A view with all its files, and the keys of its that an entity is named by."""

    view: str
    keys: tuple[Key, ...]
    lumps: tuple[Lump, ...]
    digests: tuple[str, ...]
    """The hashes of the lumps, beside their paths."""


class ForgetSpec(Record, frozen=True):
    """What a job that forgets an entity is given; `entity` is the file that says which, as a path."""

    forgetting: str
    entity: str
    views: tuple[ForgetView, ...]
    sets: tuple[Searched, ...]


class Cleaned(Record, frozen=True):
    """One file of a view without the entity's rows; none in its place where no other row was in it."""

    view: str
    digest: str
    removed: int
    made: Made | None


class ForgetResult(Record, frozen=True):
    """What it answers: the files that held the entity, and the training sets that do."""

    files: tuple[Cleaned, ...]
    sets: tuple[str, ...]


class Forgetting(Record, frozen=True):
    """One entity that was forgotten, or is being. Which one is nowhere in it: `entity` is the hash of a file with a
    random part, and that file is gone when it is done."""

    id: str
    entity: str
    keys: tuple[str, ...]
    reason: str
    at: float
    by: str
    job: str
    views: tuple[str, ...]
    done: float | None = None
    rows: int = 0
    touched: tuple[str, ...] = ()
    """Views that had rows of it: a set made of one afterwards has another id than before."""
    sets: tuple[str, ...] = ()
    """Training sets that hold it still."""
    versions: tuple[str, ...] = ()
    """Versions that were trained on one of those."""


class Doomed(Record, frozen=True):
    """A kept file that nothing reads any more; it goes as soon as no job that runs names it."""

    digest: str
    at: float
    why: str


# acts


class CompactView(Act[Job], tag="features.compact", frozen=True):
    """Make few files of the many of a view, by year or month, in a job; what is read of it, and the id of every
    training set, stay the same. It is asked for by itself when a view has sixteen files."""

    view: str


class NoteParts(Act[list[Part]], tag="features.note_parts", frozen=True):
    """Read a view from the files that a job made, if those they were made of are there still."""

    role: ClassVar[Role] = "daemon"
    spec: dict[str, Any]
    result: dict[str, Any]


class ForgetEntity(Act[Forgetting], tag="features.forget", frozen=True):
    """Forget an entity: take its rows out of every view with these keys, in a job that ends whatever happens. `entity`
    is an uploaded file, JSON with `keys` (names and values) and a random `salt`: the journal never holds who."""

    entity: str
    keys: tuple[str, ...]
    reason: str


class NoteForgotten(Act[Forgetting], tag="features.note_forgotten", frozen=True):
    """Keep that an entity is forgotten: from here on no file of a view holds it."""

    role: ClassVar[Role] = "daemon"
    spec: dict[str, Any]
    result: dict[str, Any]


class ForgetAgain(Act[Forgetting], tag="features.forget_again", frozen=True):
    """Begin the job of a forgetting again that was cut off."""

    role: ClassVar[Role] = "daemon"
    forgetting: str


# queries


class ListForgettings(Query[list[Forgetting]], tag="features.forgettings", frozen=True):
    """Entities that were forgotten, newest first: when, why, by whom, and which sets and versions hold them still."""

    limit: int = 50


# events


class PartsReplaced(Event, tag="features.parts_replaced", frozen=True):
    """A view is read from other files: parts that are gone, rows that lie in parts now, the parts there are instead."""

    view: str
    gone: tuple[str, ...]
    folded: tuple[str, ...]
    parts: tuple[Part, ...]


class FileDoomed(Event, tag="features.file_doomed", frozen=True):
    """A kept file is to go."""

    file: Doomed


class ForgettingNoted(Event, tag="features.forgetting", frozen=True):
    """An entity is being forgotten, or is forgotten now."""

    forgetting: Forgetting
