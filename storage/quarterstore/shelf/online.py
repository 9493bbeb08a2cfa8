"""Values of entities as they are read online: an LMDB environment per view and generation, and one of what was pushed
since.

A generation never changes: it is written aside and renamed when it is whole, so whoever reads sees one complete state
and needs no lock. What is pushed is in one environment of all views, which the daemon alone writes and everybody reads
by LMDB's own snapshots.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import lmdb
import msgspec

from quarterstore.records.faults import Full
from quarterstore.records.online import OnlineView, Status
from quarterstore.shelf.entity_keys import LONGEST, Key, key_bytes
from quarterstore.shelf.files import make_folder, sync_folder

CHUNK: Final = 65_536
"""Pairs that are written in one transaction."""
FIRST_SIZE: Final = 64 * 1024**2
PAGE: Final = 4096
PUSHED_SIZE: Final = 4 * 1024**3
"""Address space, not disk: what a generation covers is dropped again."""
READERS: Final = 512
_sequence = struct.Struct(">Q")
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode

Values = list[Any]


class Found(NamedTuple):
    """What is known of one entity: its values, null where there are none; `age` is in seconds, None without a row."""

    values: Values
    status: Status
    age: float | None


class Row(NamedTuple):
    """A row as it was pushed: its key, event time and the time it was known (microseconds since 1970), its values."""

    key: Key
    at: int
    known: int
    values: dict[str, Any]


def packed(row: Sequence[Any]) -> bytes:
    """A row of a generation: event time, the time it was known (both in microseconds since 1970), then the values in
    the generation's order."""
    return _pack(row)


def write(folder: Path, pairs: Iterable[tuple[bytes, bytes]]) -> int:
    """A new environment of (`key_bytes`, `packed`) in the order of the keys, each key once: there whole or not at
    all. Answers how many there are."""
    make_folder(folder.parent)
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    environment = lmdb.open(str(aside), map_size=FIRST_SIZE, lock=False, sync=False, metasync=False)
    count, source = 0, iter(pairs)
    try:
        while chunk := list(islice(source, CHUNK)):
            _room_for(environment, chunk)
            with environment.begin(write=True) as changing:
                _, added = changing.cursor().putmulti(chunk, append=True)
            if added != len(chunk):
                raise ValueError("keys are not in order, or one is there twice")
            count += added
        environment.sync(True)
    except (lmdb.DiskError, OSError) as error:
        raise _full(error) from None
    finally:
        environment.close()
    sync_folder(aside)
    os.rename(aside, folder)
    sync_folder(folder.parent)
    return count


def _room_for(environment: Any, chunk: list[tuple[bytes, bytes]]) -> None:
    """Let the map grow before it is full: twice what the chunk takes at most, a value beyond a page its own pages."""
    sizes = [len(value) for _, value in chunk]
    wanted = 2 * (sum(sizes) + len(chunk) * LONGEST) + sum(PAGE for size in sizes if size > PAGE // 4)
    known = environment.info()
    used = (known["last_pgno"] + 1) * PAGE
    if used + wanted + FIRST_SIZE // 4 > known["map_size"]:
        environment.set_mapsize(2 * (known["map_size"] + wanted))


def pairs_in(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of a generation in the order of their keys."""
    environment = _opened(folder)
    try:
        with environment.begin() as reading:
            yield from reading.cursor().iternext()
    finally:
        environment.close()


def times_in(row: bytes) -> tuple[int, int]:
    """Event time and time known of a row of a generation: the later of two rows is the one with the greater pair."""
    at, known, *_ = _unpack(row)
    return at, known


def _opened(folder: Path) -> Any:
    # a generation never changes and is never written again: no lock, and no reader's slot to be left behind
    return lmdb.open(str(folder), readonly=True, lock=False, create=False, max_readers=1, readahead=False)


class Pushed:
    """Rows that were pushed since a generation was made, of all views: the newest one of each entity, and a log of all
    that are not in a file of their view yet. The daemon alone opens it to write."""

    def __init__(self, folder: Path, *, writes: bool = False) -> None:
        if writes:
            make_folder(folder)
        self._environment = lmdb.open(
            str(folder), map_size=PUSHED_SIZE, max_dbs=3, max_readers=READERS, readonly=not writes, create=writes
        )
        self._rows = self._environment.open_db(b"rows", create=writes)
        self._log = self._environment.open_db(b"log", create=writes)
        self._notes = self._environment.open_db(b"notes", create=writes)

    def close(self) -> None:
        """Let go of the files."""
        self._environment.close()

    def newest(self, view: str, keys: Sequence[bytes]) -> list[Any] | None:
        """Of each key (event time, known, forgotten, sequence, values by name), None where nothing was pushed; None
        instead of the list where nothing was pushed at all."""
        with self._environment.begin(db=self._rows) as reading:
            if not reading.stat(self._rows)["entries"]:
                return None
            before = _of(view)
            return [None if (row := reading.get(before + key)) is None else _unpack(row) for key in keys]

    def push(self, view: str, rows: Sequence[Row]) -> int:
        """Keep rows, synced: from here on they are read. Of one entity the row with the latest event time holds, of
        equal ones the one that came last. Answers the sequence number of the last."""
        with self._writing() as changing:
            before = self._last(changing)
            for number, row in enumerate(rows, before + 1):
                self._hold(changing, view, row, number)
                logged = _pack((row.key, row.at, row.known, row.values))
                changing.put(_of(view) + _sequence.pack(number), logged, db=self._log)
            changing.put(b"last", _pack(before + len(rows)), db=self._notes)
        return before + len(rows)

    def _hold(self, changing: Any, view: str, row: Row, number: int) -> None:
        key = _of(view) + key_bytes(row.key)
        before = changing.get(key, db=self._rows)
        at, known, forgotten, _, values = _unpack(before) if before is not None else (0, 0, 0, 0, None)
        if values is None or (row.at, row.known) >= (at, known):
            changing.put(key, _pack((row.at, row.known, forgotten, number, row.values)), db=self._rows)

    def _last(self, changing: Any) -> int:
        found = changing.get(b"last", db=self._notes)
        return 0 if found is None else int(_unpack(found))

    def keys(self, view: str) -> list[bytes]:
        """The keys of the entities that were pushed or forgotten."""
        with self._environment.begin(db=self._rows) as reading:
            return [key[len(_of(view)) :] for key, _ in _within(reading.cursor(), view)]

    def logged(self, view: str, upto: int | None = None) -> list[tuple[int, Row]]:
        """What is in no file yet, in the order in which it came, up to a sequence number."""
        with self._environment.begin() as reading:
            found = [(number, Row(tuple(key), *rest)) for number, (key, *rest) in self._logged(reading, view)]
        return [(number, row) for number, row in found if upto is None or number <= upto]

    def _logged(self, reading: Any, view: str) -> Iterator[tuple[int, Any]]:
        for key, row in _within(reading.cursor(db=self._log), view):
            yield _sequence.unpack(key[-_sequence.size :])[0], _unpack(row)

    def waiting(self, view: str) -> int:
        """How many rows are in no file yet."""
        with self._environment.begin() as reading:
            return sum(1 for _ in _within(reading.cursor(db=self._log), view))

    def views_logged(self) -> list[str]:
        """The views that have rows which are in no file yet."""
        with self._environment.begin(db=self._log) as reading:
            found, cursor = [], reading.cursor()
            there = cursor.first()
            while there:
                view = cursor.key().partition(b"\0")[0]
                found.append(view.decode())
                there = cursor.set_range(view + b"\1")
        return found

    def note(self, view: str, upto: int, digest: str) -> None:
        """Note that the log up to a number becomes a file, before it is one: kept twice, it would be there twice."""
        with self._writing() as changing:
            noted = _listed(changing, self._notes, _of(view))
            changing.put(_of(view), _pack([*noted, (upto, digest)]), db=self._notes)

    def noted(self, view: str) -> list[tuple[int, str]]:
        """Up to which number the log became, or would have become, which file; what a generation covers is left out."""
        with self._environment.begin() as reading:
            return _listed(reading, self._notes, _of(view))

    def folded(self, view: str, upto: int) -> None:
        """Drop the log up to a number: it is in a file of the view that is kept."""
        with self._writing() as changing:
            for key, _ in list(_within(changing.cursor(db=self._log), view)):
                if _sequence.unpack(key[-_sequence.size :])[0] <= upto:
                    changing.delete(key, db=self._log)

    def covered(self, view: str, upto: int, made: int) -> None:
        """Drop what a generation that everybody reads has as well: rows up to a sequence number; of entities that were
        forgotten before it was `made` (microseconds), that they were."""
        with self._writing() as changing:
            noted = [each for each in _listed(changing, self._notes, _of(view)) if each[0] > upto]
            changing.put(_of(view), _pack(noted), db=self._notes)
            place = _of(view) + b"forgotten"
            later = [each for each in _listed(changing, self._notes, place) if each[1] > made]
            changing.put(place, _pack(later), db=self._notes)
            for key, row in list(_within(changing.cursor(db=self._rows), view)):
                at, known, forgotten, number, values = _unpack(row)
                gone = 0 if forgotten <= made else forgotten
                if gone == 0 and (values is None or number <= upto):
                    changing.delete(key, db=self._rows)
                elif gone != forgotten:
                    changing.put(key, _pack((at, known, gone, number, values)), db=self._rows)

    def forget(self, view: str, keys: Sequence[Key | bytes], at: int, forgetting: str) -> int:
        """Forget entities: from here on no generation that was made before `at` (microseconds since 1970) is read for
        them, and what was pushed is gone, also where it is in no file yet: of a key that is given as its bytes only
        what is read, a file may have it. Done again for the same forgetting, what was pushed since then stays. Answers
        how many pushed rows are gone."""
        whose = {tuple(key) for key in keys if not isinstance(key, bytes)}
        gone, place = 0, _of(view) + b"forgotten"
        with self._writing() as changing:
            done = _listed(changing, self._notes, place)
            again = any(each == forgetting for each, _ in done)
            for key in keys:
                self._hide(changing, _of(view) + (key if isinstance(key, bytes) else key_bytes(key)), at, again)
            if again:
                return 0
            for logged, row in list(_within(changing.cursor(db=self._log), view)):
                if tuple(_unpack(row)[0]) in whose:
                    changing.delete(logged, db=self._log)
                    gone += 1
            changing.put(place, _pack([*done, (forgetting, at)]), db=self._notes)
        return gone

    def _hide(self, changing: Any, key: bytes, at: int, keep: bool) -> None:
        """Read nothing of a generation before `at`; with `keep` what was pushed is read all the same."""
        before = changing.get(key, db=self._rows) if keep else None
        time, known, _, number, values = _unpack(before) if before is not None else (0, 0, 0, 0, None)
        changing.put(key, _pack((time, known, at, number, values)), db=self._rows)

    def _writing(self) -> _Writing:
        return _Writing(self._environment)


class _Writing:
    """A transaction that is synced when it ends; a full disk is said in our words. Slots of readers that died go."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment

    def __enter__(self) -> Any:
        self._environment.reader_check()
        self._changing = self._environment.begin(write=True)
        return self._changing

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                self._changing.commit()
            else:
                self._changing.abort()
        except lmdb.Error as full:
            raise _full(full) from None
        if isinstance(error, lmdb.Error):
            raise _full(error) from None


def _full(error: Exception) -> Full:
    return Full(f"online features cannot be written: {error}", field="disk", next="free some room: qd gc")


def _of(view: str) -> bytes:
    return view.encode() + b"\0"


def _listed(reading: Any, notes: Any, place: bytes) -> list[tuple[Any, Any]]:
    """The pairs of a note."""
    found = reading.get(place, db=notes)
    return [] if found is None else [(one, other) for one, other in _unpack(found)]


def _within(cursor: Any, view: str) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of one view."""
    before = _of(view)
    if cursor.set_range(before):
        for key, value in cursor.iternext():
            if not key.startswith(before):
                return
            yield key, value


class Online:
    """One view as it is read: its newest generation, and what was pushed since. One of a view a process: the next is
    given the one before. Nothing is closed: who reads in another thread reads to the end, then the last one lets go."""

    def __init__(self, view: OnlineView, pushed: Pushed | None, before: Online | None = None) -> None:
        self.view = view
        self._pushed = pushed
        self._generation: Any
        if before is not None and before.view.folder == view.folder:
            self._generation = before._generation  # LMDB opens a file once a process
        else:
            self._generation = _opened(Path(view.folder)) if view.folder else None
        self._made = round(view.made * 1e6)
        self._names = [each.name for each in view.features]
        self._place = {name: place for place, name in enumerate(view.columns, 2)}
        self._in_order = list(view.columns) == self._names
        self._ttl = None if view.ttl is None else round(view.ttl * 1e6)

    def read(
        self, keys: Sequence[Key | bytes], now: float, names: Sequence[str] | None = None, *, stale: bool = False
    ) -> list[Found]:
        """Of each key the values of `names` (the view's own features, in its order, where they are left out), as they
        hold at `now` (seconds since 1970). A value older than the ttl is EXPIRED and null, with its age; `stale` gives
        it all the same. A key may be one of `some`."""
        encoded = [key if isinstance(key, bytes) else key_bytes(key) for key in keys]
        moment = round(now * 1e6)
        wanted = self._names if names is None else names
        places = None if names is None and self._in_order else [self._place.get(name) for name in wanted]
        pushed = self._pushed.newest(self.view.name, encoded) if self._pushed is not None else None
        found = []
        for number, row in enumerate(self._made_of(encoded)):
            made = None if row is None else _unpack(row)
            if pushed is not None and (other := pushed[number]) is not None:
                at, values = self._later(made, other, wanted, places)
            elif made is not None:
                at, values = made[0], _picked(made, places)
            else:
                values = None
            if values is None:
                found.append(Found([None] * len(wanted), "NOT_FOUND", None))
            else:
                found.append(self._aged(moment - at, values, stale))
        return found

    def _made_of(self, encoded: Sequence[bytes]) -> list[Any]:
        if self._generation is None:
            return [None] * len(encoded)
        with self._generation.begin() as reading:
            return [reading.get(key) for key in encoded]

    def _later(
        self, made: Any, pushed: Any, wanted: Sequence[str], places: Sequence[int | None] | None
    ) -> tuple[int, Values | None]:
        """The later of what was made and what was pushed: its event time and its values. Nothing is read of a
        generation that was made before the entity was forgotten."""
        at, known, forgotten, _, values = pushed
        holds = made is not None and (not forgotten or forgotten < self._made)
        if holds and (values is None or (made[0], made[1]) > (at, known)):
            return made[0], _picked(made, places)
        return at, None if values is None else [values.get(name) for name in wanted]

    def _aged(self, past: int, values: Values, stale: bool) -> Found:
        if self._ttl is not None and past > self._ttl:
            return Found(values if stale else [None] * len(values), "EXPIRED", past / 1e6)
        return Found(values, "PRESENT", past / 1e6)

    def keys(self) -> list[bytes]:
        """The keys of the generation as they are kept."""
        return self.some(2**62)

    def some(self, count: int) -> list[bytes]:
        """Up to so many keys of the generation as they are kept, spread over all of it."""
        if self._generation is None:
            return []
        with self._generation.begin() as reading:
            step = max(1, reading.stat()["entries"] // count)
            return list(islice(reading.cursor().iternext(values=False), 0, step * count, step))


def _picked(made: Values, places: Sequence[int | None] | None) -> Values:
    """The values of a row of a generation behind its two times: all of them, or those at some places."""
    return made[2:] if places is None else [None if place is None else made[place] for place in places]
