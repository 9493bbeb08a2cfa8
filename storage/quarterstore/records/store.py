"""The store itself: status, uploads and downloads, backup, undo."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from quarterstore.records.base import Act, Blob, Event, Query, Record, Role


class Finding(Record, frozen=True):
    """One thing the doctor looked at."""

    name: str
    ok: bool
    words: str
    next: str = ""


class Status(Record, frozen=True):
    """The daemon in one record."""

    version: str
    home: str
    profile: str
    pid: int
    started: float
    seq: int
    posted: int
    counts: dict[str, int]
    disk_free: int
    disk_used: dict[str, int]
    """Bytes by file or folder of the store, the largest first, as of the last minutes; none before the first look."""
    read_only: str | None
    stale: tuple[str, ...]
    recovered: str
    serving: str
    alerts: int
    approvals: int
    jobs: int
    dropped: dict[str, int] = msgspec.field(default_factory=dict)
    samples: dict[str, str] = msgspec.field(default_factory=dict)
    """What is kept of predictions and points, beside the limits, in words."""
    maintenance: str = ""
    """Why no schedule fires and nothing reacts, while that is so."""


class Received(Record, frozen=True):
    """How much of an upload is here; `digest` once it is whole and kept."""

    upload: str
    size: int
    digest: str | None = None


class PutBlob(Blob[Received], tag="store.put_blob", frozen=True):
    """One chunk of an upload, in order; the last one carries the SHA-256 of the whole, which is checked."""

    upload: str
    offset: int
    data: bytes
    digest: str | None = None


class Chunk(Record, frozen=True):
    """Bytes of a kept file and the size of the whole."""

    data: bytes
    size: int


class GetBlob(Blob[Chunk], tag="store.get_blob", frozen=True):
    """One chunk of a kept file by its SHA-256."""

    role: ClassVar[Role] = "viewer"
    digest: str
    offset: int = 0
    length: int = 4 * 1024 * 1024


class BackupMade(Record, frozen=True):
    """A backup in the artefact store: its digest, its size, the entry it ends at."""

    digest: str
    size: int
    seq: int
    hash: str


class NoteBackup(Act[BackupMade], tag="store.note_backup", frozen=True):
    """Say that a backup was written; spoken by the daemon."""

    role: ClassVar[Role] = "daemon"
    digest: str
    size: int
    seq: int
    hash: str


class SetMode(Act[None], tag="store.set_mode", frozen=True):
    """Say that the store went read-only, or came back; spoken by the daemon."""

    role: ClassVar[Role] = "daemon"
    mode: Literal["read-only", "read-write"]
    why: str


class SetProfile(Act[None], tag="store.set_profile", frozen=True):
    """Say under which profile the store is kept from here on; spoken by the daemon when it is started with another."""

    role: ClassVar[Role] = "daemon"
    profile: str
    before: str | None = None


class Backup(Blob[BackupMade], tag="store.backup", frozen=True):
    """Write a backup of the store as it is at one seq, while writing goes on; fetch it with `get_blob`."""

    role: ClassVar[Role] = "admin"


class Freed(Record, frozen=True):
    """What `gc` freed, or with `dry_run` would free: `size` in bytes on the disk (whole blocks); `predictions` are rows
    that a limit of retention lets go, `points` also those of removed runs."""

    dry_run: bool
    runs: int
    logged_models: int
    versions: int
    files: int
    points: int
    size: int
    predictions: int = 0


class CollectGarbage(Blob[Freed], tag="store.gc", frozen=True):
    """Free the disk of what was removed at least `older` seconds ago, of uploads that nothing names since a day, of the
    points of runs that are gone, and of samples beyond the limits of retention; what was removed cannot be brought back
    then. A version whose file is freed keeps its record: what was live always has an answer. What is held stays."""

    role: ClassVar[Role] = "admin"
    dry_run: bool = False
    older: float = 0.0


class Purge(Act[None], tag="store.purge", frozen=True):
    """Forget what was removed, then, in a second act, say how many files are freed; spoken by the daemon."""

    role: ClassVar[Role] = "daemon"
    runs: tuple[str, ...] = ()
    logged_models: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    files: int = 0


class Undone(Record, frozen=True):
    """What was taken back, or passed over."""

    entry: int
    act: str
    words: str
    passed_over: bool = False


class Undo(Act[Undone], tag="store.undo", frozen=True):
    """Take back your own last act, while it still can be (stage, removal, tags, traffic); with `entry` only if that act
    is still the last one. One that cannot be taken back any more is passed over with `skip`: it stays as it is, and the
    next undo takes the one before."""

    entry: int | None = None
    skip: bool = False


class ShowUndo(Query[Undone], tag="store.show_undo", frozen=True):
    """What `undo` would take back."""


class ShowStatus(Query[Status], tag="store.status", frozen=True):
    """The daemon in one record."""


class Diagnose(Query[list[Finding]], tag="store.doctor", frozen=True):
    """Everything the daemon can check about itself."""


class Replay(Query[list[msgspec.Raw]], tag="store.replay", frozen=True):
    """Entries after a seq, as they were published: for a follower that missed some."""

    after: int
    limit: int = 1000


class BackedUp(Event, tag="store.backed_up", frozen=True):
    """A backup was written."""

    digest: str
    seq: int
    at: float


class Purged(Event, tag="store.purged", frozen=True):
    """Removed things are gone for good: runs and logged models wholly, of versions their files."""

    runs: tuple[str, ...]
    logged_models: tuple[str, ...]
    versions: tuple[str, ...]
    at: float
    files: int = 0


class ActUndone(Event, tag="store.act_undone", frozen=True):
    """Somebody took back an act of their own."""

    entry: int
    by: str
    at: float


class UndoPassedOver(Event, tag="store.undo_passed_over", frozen=True):
    """Somebody leaves an act of their own as it is, for undo to go on with the one before."""

    entry: int
    by: str
    at: float


class ModeChanged(Event, tag="store.mode_changed", frozen=True):
    """The store went read-only, or came back."""

    mode: Literal["read-only", "read-write"]
    why: str
    at: float


class ProfileSet(Event, tag="store.profile_set", frozen=True):
    """The store is kept under another profile: a later start that names none keeps to it."""

    profile: str
    before: str | None
    at: float
