"""Transfer: everything that was tracked and registered, out of a store in an open form and into another one."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from quarterstore.records.base import Act, Blob, Event, Record, Role

BOOKS = (
    "experiments",
    "packages",
    "runs",
    "searches",
    "logged_models",
    "datasets",
    "models",
    "versions",
    "tenures",
    "stage_moves",
)
"""What is transferred, in the order in which it is taken in."""


class Exported(Record, frozen=True):
    """An export as one tar in the artefact store: its digest, its size, how many records of each book it holds."""

    digest: str
    size: int
    counts: dict[str, int]


class Export(Blob[Exported], tag="transfer.export", frozen=True):
    """Write experiments, runs, points, models, versions and their files as Parquet, JSON and plain files; fetch it with
    `get_blob`."""

    role: ClassVar[Role] = "admin"


class Imported(Record, frozen=True):
    """What an import brought, and what was here already, equal."""

    taken: dict[str, int]
    known: dict[str, int]
    points: int


class Import(Blob[Imported], tag="transfer.import", frozen=True):
    """Take in what was exported and uploaded: `records` names the Parquet file of each book by its SHA-256, `points`
    those of metric points. One that is here otherwise is a conflict, before anything is taken; `dry_run` stops
    there."""

    role: ClassVar[Role] = "admin"
    records: dict[str, str]
    points: tuple[str, ...] = ()
    dry_run: bool = False


class TakeIn(Act[None], tag="transfer.take_in", frozen=True):
    """Keep records of one book as they were elsewhere, msgpack each; spoken by the daemon during an import."""

    role: ClassVar[Role] = "daemon"
    book: str
    records: tuple[bytes, ...]


class TakenIn(Event, tag="transfer.taken_in", frozen=True):
    """Records of one book came from another store."""

    book: str
    records: tuple[bytes, ...] = msgspec.field(default=())
