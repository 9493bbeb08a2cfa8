"""Opening a store: the lock, the heads of journal and projection compared, the state loaded or made again."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from quarterstore.ledger.anchor import Anchor
from quarterstore.ledger.book import Changes
from quarterstore.ledger.database import Damaged, Database, Posting, damaged_aside
from quarterstore.ledger.folding import fold_entry
from quarterstore.ledger.journal import Entry, Head, Journal, newest, read, read_at
from quarterstore.ledger.state import State
from quarterstore.records.faults import Conflict, Corrupt, Protocol
from quarterstore.records.places import Home
from quarterstore.shelf.files import make_folder, write_whole

STORE = 1
"""Version of what lies on disk; a newer one is refused untouched."""

RESERVE = 5 * 1024 * 1024
"""Bytes kept aside, so that on a full disk cancelling, deleting and auditing still work."""

CHUNK = 20_000
"""Entries that are in memory at once while a projection is made again."""

UPLOAD_KEPT = 86_400.0
"""Seconds after which half an upload goes at the next start."""


class Ledger:
    """An open store: journal, state and projection, agreed with one another."""

    def __init__(
        self,
        home: Home,
        journal: Journal,
        database: Database,
        state: State,
        lock: int,
        recovered: str,
        owed: Owed,
        lacking: str,
    ) -> None:
        self.home = home
        self.journal = journal
        self.database = database
        self.state = state
        self.recovered = recovered
        self.owed = owed
        """What could not be posted at the start, and why (`lacking`): a full disk."""
        self.lacking = lacking
        self._lock = lock

    def entry(self, seq: int) -> Entry:
        """A posted entry, read from the journal under its hash."""
        [(position, before)] = self.database.places(seq - 1, 1)
        return read_at(self.home.journal, position, before)

    def reserve(self, keep: bool) -> bool:
        """Keep room aside or free it; answers whether it is kept."""
        if keep:
            return keep_reserve(self.home.reserve)
        self.home.reserve.unlink(missing_ok=True)
        return False

    def close(self) -> None:
        """Close everything; the lock goes last."""
        self.journal.close()
        self.database.close()
        os.close(self._lock)


def lock_home(home: Home) -> int:
    """Hold the home: one daemon a store. `Conflict` names the process that holds it."""
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise Conflict(
            f"got {home.root}, held by process {holder or 'unknown'}; expected no other daemon", field="home"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def check_version(home: Home) -> None:
    """Refuse a store written by a newer Quarterdeck, before anything in it is touched."""
    path = home.root / "store.json"
    if not path.exists():
        write_whole(path, msgspec.json.encode({"store": STORE}))
        return
    try:
        found = int(msgspec.json.decode(path.read_bytes())["store"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"got an unreadable {path.name}, expected its version", field="store") from error
    if found < 1:
        raise Corrupt(f"got version {found} in {path.name}, expected 1 to {STORE}", field="store")
    if found > STORE:
        raise Protocol(
            f"got version {found}, expected at most {STORE}; it is untouched",
            field="store",
            next="install the Quarterdeck that wrote it",
        )


@contextmanager
def _no_collections() -> Iterator[None]:
    """While a state is made: all of it is kept, and looking through it for garbage was a third of the time (100,000
    entries)."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def open_ledger(home: Home) -> Ledger:
    """Open a store or make one: lock, compare the heads, load the state, fold what the projection lacks."""
    lock = lock_home(home)
    try:
        check_version(home)
        for folder in (home.journal, home.artefacts, home.samples, home.incoming, home.jobs, home.serving, home.keys):
            make_folder(folder)
        keep_reserve(home.reserve)
        _drop_old_uploads(home.incoming)
        with _no_collections():
            return _open(home, lock)
    except BaseException:
        os.close(lock)
        raise


def _open(home: Home, lock: int) -> Ledger:
    said: list[str] = []
    state = State()
    try:
        database, known = _projection(home, state)
    except Damaged as damage:
        state = State()
        if damage.no_room():
            home.reserve.unlink(missing_ok=True)
            database, known = _projection(home, state)
        else:
            aside = damaged_aside(home.database, str(damage))
            said.append(f"projection made again ({damage}; the old one is {aside.name})")
            database, known = _projection(home, state)
    journal = Journal(home.journal, max(known, Anchor(home.anchor).read()))
    if journal.recovered:
        said.append(journal.recovered)
    posted, owed, lacking = _brought_up(home.journal, state, database, known.seq)
    if posted:
        said.append(f"posted {posted} entries the projection lacked")
    if lacking:
        said.append(f"the projection still lacks {len(owed.postings)} entries ({lacking})")
    return Ledger(home, journal, database, state, lock, "; ".join(said), owed, lacking)


def _brought_up(journal: Path, state: State, database: Database, known: int) -> tuple[int, Owed, str]:
    """Fold and post what the projection lacks beyond entry `known`: how many were posted, or what is owed and why."""
    owed = Owed({}, [])
    try:
        if known == 0:
            return fill(journal, state, database), owed, ""
        owed = behind(journal, state, known)
        if owed.postings:
            database.post(owed.changes, owed.postings)
        return len(owed.postings), Owed({}, []), ""
    except Damaged as damage:
        if known == 0:
            state.clear()
            owed = behind(journal, state, 0)
        return 0, owed, str(damage)


def _projection(home: Home, state: State) -> tuple[Database, Head]:
    """The projection, opened and read into the state, and its head; `Damaged` when it cannot be."""
    database = Database(home.database, state.books())
    try:
        database.check()
        known, position = database.posted()
        _check_head(home.journal, known, position)
        database.load()
    except BaseException:
        database.close()  # DuckDB hands out one instance a path: an open one would be met again at the next try
        raise
    return database, known


def _check_head(journal: Path, known: Head, position: int) -> None:
    """The projection's newest entry must be in the journal, under the same hash: else one of them is not ours."""
    if known.seq == 0:
        return
    try:
        entry = read_at(journal, position)
    except (OSError, msgspec.DecodeError, ValueError, Corrupt) as error:
        last = newest(journal).seq
        lost = f"{known.seq - last} acknowledged changes missing"
        raise Corrupt(
            f"got entry {last} as the last whole one, expected {known.seq}: {lost}",
            field="journal",
        ) from error
    if entry.seq != known.seq:
        raise Corrupt(f"got entry {entry.seq} where the projection saw {known.seq}", field="journal")


class Owed(NamedTuple):
    """What the projection lacks of the journal: the rows that changed, and the entries."""

    changes: Changes
    postings: list[Posting]


def behind(journal: Path, state: State, after: int) -> Owed:
    """Fold the entries beyond `after`; what has to be posted of them."""
    postings = [posting for chunk in _folded(journal, state, after) for posting in chunk]
    return Owed(state.take(), postings)


def _folded(journal: Path, state: State, after: int, until: int | None = None) -> Iterator[list[Posting]]:
    """Fold the entries beyond `after` (to `until`, when given) into the state, a chunk at a time."""
    chunk: list[Posting] = []
    for found in read(journal, after, until):
        state.begin()  # nothing of the journal is rolled back: what was there before is not kept
        fold_entry(state, found.entry)
        chunk.append(Posting(found.entry, found.hash, found.position))
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def fill(journal: Path, state: State, database: Database, until: int | None = None) -> int:
    """Fold the whole journal (to entry `until`, when given) and post it to an empty projection; answers how many
    entries there were."""
    return database.post_all(_folded(journal, state, 0, until), state.take)


def make_again(journal: Path, database: Database, until: int, why: str) -> Path:
    """Make a damaged projection again from the journal while the daemon runs, until entry `until`; says where the old
    one is. Queries wait for the empty file, not for its rows."""
    aside = database.begin_again(why)
    with _no_collections():
        fill(journal, State(), database, until)
    return aside


def rebuild(home: Home) -> tuple[int, float]:
    """Make the projection again from the journal alone, beside the store; answers entries and seconds."""
    began = time.perf_counter()
    state = State()
    path = home.database.with_name("rebuilt.duckdb")
    path.unlink(missing_ok=True)
    database = Database(path, state.books())
    database.check()
    with _no_collections():
        count = fill(home.journal, state, database)
    database.close()
    return count, time.perf_counter() - began


def _drop_old_uploads(incoming: Path) -> None:
    """What was being taken over of a job is taken over again; half an upload can go on for a day."""
    for path in incoming.iterdir():
        if path.name.startswith("adopt-") or time.time() - path.stat().st_mtime > UPLOAD_KEPT:
            path.unlink()


def keep_reserve(path: Path) -> bool:
    """Write the reserve where there is as much room beside it, so that a store on the edge does not change its mind at
    every act; answers whether it is there: on a full disk there is none, and none is needed to start."""
    if path.exists() and path.stat().st_size == RESERVE:
        return True
    if shutil.disk_usage(path.parent).free < 2 * RESERVE:
        return False
    try:
        path.write_bytes(bytes(RESERVE))
    except OSError:
        path.unlink(missing_ok=True)
        return False
    return True
