"""The projection: DuckDB tables made from the journal, for questions too wide for memory; may be thrown away and made
again."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec

from quarterstore.ledger.book import Book, Changes
from quarterstore.ledger.journal import GENESIS, Entry, Head
from quarterstore.ledger.shape import shape_of
from quarterstore.records.base import Record
from quarterstore.records.faults import Corrupt, TimedOut
from quarterstore.shelf.arrow import ArrowStream
from quarterstore.shelf.files import NO_ROOM

SCHEMA = 1
"""Grows when the projection's own tables change; a difference means: make it again."""

_ENTRY_COLUMNS = {
    "seq": "BIGINT",
    "at": "DOUBLE",
    "actor": "VARCHAR",
    "act": "VARCHAR",
    "words": "VARCHAR",
    "key": "VARCHAR",
    "request": "VARCHAR",
    "body": "VARCHAR",
    "hash": "VARCHAR",
    "position": "BIGINT",
}


MANY = 5_000
"""Rows from which polars is worth its import (0.2 s)."""


class Posting(NamedTuple):
    """An entry on its way into the projection."""

    entry: Entry
    hash: bytes
    position: int


class Posted(NamedTuple):
    """How far the projection has come: the newest entry it holds and where that lies in the journal."""

    head: Head
    position: int


class Damaged(Exception):
    """The projection cannot be used; the journal can make it again."""

    def no_room(self) -> bool:
        """Whether the disk is to blame and not the file: DuckDB passes the system's words on."""
        return any(os.strerror(number) in str(self) for number in NO_ROOM)


@contextmanager
def _damage() -> Iterator[None]:
    """What DuckDB cannot read, or what it reads and is no record, is a projection to make again."""
    try:
        yield
    except (duckdb.Error, msgspec.DecodeError, ValueError) as error:
        raise Damaged(str(error).splitlines()[0]) from error


class Database:
    """The one connection to the projection's file; readers get cursors of their own."""

    def __init__(self, path: Path, books: dict[str, Book[Any]]) -> None:
        self.books = books
        self.path = path
        self.damage = ""
        self.on_damage: Callable[[], None] = lambda: None
        self._fingerprint = _fingerprint(books)
        self._readers = 0
        self._aside: Path | None = None
        self._quiet = threading.Condition()
        self._open()

    def _open(self) -> None:
        with _damage():
            self._connection = duckdb.connect(
                str(self.path),
                config={
                    "threads": 2,
                    "memory_limit": "1GB",
                    "enable_external_access": "false",
                    "autoinstall_known_extensions": "false",
                    "autoload_known_extensions": "false",
                },
            )

    def check(self) -> None:
        """Make the tables of a new projection; raise `Damaged` for one made for other records."""
        with _damage():
            if self._connection.execute("SELECT count(*) FROM duckdb_tables()").fetchone() == (0,):
                self._create()
            if self._connection.execute("SELECT fingerprint FROM head").fetchone() != (self._fingerprint,):
                raise Damaged("it was made for another version of the records")

    def _create(self) -> None:
        run = self._connection.execute
        run("BEGIN")
        run("CREATE TABLE head (seq BIGINT, hash VARCHAR, position BIGINT, fingerprint VARCHAR)")
        run("INSERT INTO head VALUES (0, ?, 0, ?)", [bytes(32).hex(), self._fingerprint])
        run(f"CREATE TABLE entries ({_declared(_ENTRY_COLUMNS)})")
        for book in self.books.values():
            run(f"CREATE TABLE {_quoted(book.name)} ({_declared(_table_columns(book))})")
        run("COMMIT")

    def posted(self) -> Posted:
        """How far the projection has come."""
        with self._quiet, _damage(), self._connection.cursor() as cursor:
            row = cursor.execute("SELECT seq, hash, position FROM head").fetchone()
            if row is None:
                raise Damaged("it has no head")
            return Posted(Head(row[0], bytes.fromhex(row[1])), row[2])

    def load(self) -> None:
        """Fill the books from the tables."""
        for book in self._kept_books():
            decode = msgspec.msgpack.Decoder(book.kind).decode
            with _damage():
                found = self._connection.execute(f"SELECT _key, _record FROM {_quoted(book.name)} ORDER BY _key")
                book.rows.update((key, decode(record)) for key, record in found.fetchall())

    def _kept_books(self) -> list[Book[Any]]:
        """The books of which there are rows: one question for all, where one each took 45 ms of every start."""
        counts = (f"SELECT {number}, count(*) FROM {_quoted(name)}" for number, name in enumerate(self.books))
        with _damage():
            found = self._connection.execute(" UNION ALL ".join(counts)).fetchall()
        books = list(self.books.values())
        return [books[number] for number, count in sorted(found) if count]

    def post(self, changes: Changes, postings: Sequence[Posting]) -> None:
        """Write what changed and the head in one transaction."""
        self._begin()
        with _damage():
            for name, rows in _by_book(changes).items():
                keys = [key for key, _ in rows]
                self._connection.execute(
                    f"DELETE FROM {_quoted(name)} WHERE _key IN (SELECT unnest(?::VARCHAR[]))", [keys]
                )
                self._insert(self.books[name], rows)
            if postings:
                self._insert_entries(postings)
            self._commit(postings[-1] if postings else None)

    def post_all(self, chunks: Iterable[Sequence[Posting]], changes: Callable[[], Changes]) -> int:
        """Fill an empty projection in one transaction, the entries a chunk at a time, and answer how many there were;
        `changes` is asked last."""
        count, last = 0, None
        self._begin()
        for chunk in chunks:
            with _damage():
                self._insert_entries(chunk)
            count, last = count + len(chunk), chunk[-1]
        with _damage():
            for name, rows in _by_book(changes()).items():
                self._insert(self.books[name], rows)
            self._commit(last)
        return count

    def _begin(self) -> None:
        with _damage():
            self._connection.execute("BEGIN")

    def _commit(self, last: Posting | None) -> None:
        if last is not None:
            self._connection.execute(
                "UPDATE head SET seq = ?, hash = ?, position = ?", [last.entry.seq, last.hash.hex(), last.position]
            )
        self._connection.execute("COMMIT")

    def _insert(self, book: Book[Any], rows: Iterable[tuple[str, Record | None]]) -> None:
        encode = msgspec.msgpack.Encoder().encode
        kept = [(key, record) for key, record in rows if record is not None]
        columns: dict[str, list[Any]] = {"_key": [key for key, _ in kept]}
        for name in book.columns:
            columns[name] = [getattr(record, name) for _, record in kept]
        columns["_record"] = [encode(record) for _, record in kept]
        self._bulk(book.name, _table_columns(book), columns)

    def _insert_entries(self, postings: Sequence[Posting]) -> None:
        columns: dict[str, list[Any]] = {
            name: [getattr(posting.entry, name) for posting in postings]
            for name in ("seq", "at", "actor", "act", "words", "key", "request")
        }
        columns["body"] = [posting.entry.body.hex() for posting in postings]
        columns["hash"] = [posting.hash.hex() for posting in postings]
        columns["position"] = [posting.position for posting in postings]
        self._bulk("entries", _ENTRY_COLUMNS, columns)

    def _bulk(self, table: str, kinds: dict[str, str], columns: dict[str, list[Any]]) -> None:
        """Insert columns of equal length, in the table's order."""
        count = len(next(iter(columns.values())))
        if count >= MANY:
            self._bulk_by_arrow(table, kinds, columns)
        elif count:
            self._bulk_by_json(table, kinds, columns)

    def _bulk_by_json(self, table: str, kinds: dict[str, str], columns: dict[str, list[Any]]) -> None:
        """One JSON text for all rows (bytes as base64), taken apart by DuckDB: 9 us a row here, against 20 for list
        parameters and 400+ for executemany, and without polars' 60 MB in a daemon that only follows its journal."""
        shape = msgspec.json.encode([{name: "VARCHAR" if kind == "BLOB" else kind for name, kind in kinds.items()}])
        picked = ", ".join(
            f"from_base64(r.{_quoted(name)})" if kind == "BLOB" else f"r.{_quoted(name)}"
            for name, kind in kinds.items()
        )
        rows = [dict(zip(kinds, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        self._connection.execute(
            f"INSERT INTO {_quoted(table)} SELECT {picked} FROM (SELECT unnest(from_json(?, '{shape.decode()}')) AS r)",
            [msgspec.json.encode(rows).decode()],
        )

    def _bulk_by_arrow(self, table: str, kinds: dict[str, str], columns: dict[str, list[Any]]) -> None:
        """The columns as an Arrow stream made by polars: 3 us a row; for a projection that is made again."""
        import polars

        types = {
            "VARCHAR": polars.String,
            "BIGINT": polars.Int64,
            "DOUBLE": polars.Float64,
            "BOOLEAN": polars.Boolean,
            "BLOB": polars.Binary,
        }
        frame = polars.DataFrame([polars.Series(name, columns[name], types[kind]) for name, kind in kinds.items()])
        self._connection.register("many", ArrowStream(frame))
        try:
            self._connection.execute(f"INSERT INTO {_quoted(table)} SELECT * FROM many")
        finally:
            self._connection.unregister("many")

    def query(self, sql: str, parameters: Sequence[Any] = (), *, seconds: float = 10.0) -> list[tuple[Any, ...]]:
        """Rows of a statement of our own, with bound values, on a cursor of its own; interrupted at the deadline.
        Raises `TimedOut`, and `Corrupt` where the file cannot be read: then `on_damage` is told."""
        with self._quiet:
            try:
                cursor = self._connection.cursor()
            except duckdb.Error as error:
                raise Corrupt("got a projection that is closed", field="projection", next="ask again") from error
            self._readers += 1
        timer = threading.Timer(seconds, cursor.interrupt)
        timer.start()
        try:
            return cursor.execute(sql, list(parameters)).fetchall()
        except duckdb.InterruptException as error:
            raise TimedOut(f"got no answer in {seconds:g} s", field="query") from error
        except duckdb.Error as error:
            self.damage = str(error).splitlines()[0]
            self.on_damage()
            raise Corrupt(
                f"got a damaged projection ({self.damage}), expected none", field="projection", next="ask again"
            ) from error
        finally:
            timer.cancel()
            cursor.close()
            with self._quiet:
                self._readers -= 1
                self._quiet.notify_all()

    def places(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Where the entries beyond `after` lie in the journal, each with the hash of the one before it, to check it by;
        oldest first."""
        rows = self.query(
            "SELECT e.position, coalesce((SELECT hash FROM entries AS p WHERE p.seq = e.seq - 1), ?) "
            "FROM (SELECT seq, position FROM entries WHERE seq > ? ORDER BY seq LIMIT ?) AS e ORDER BY e.seq",
            [GENESIS.hex(), after, limit],
        )
        return [(position, bytes.fromhex(before)) for position, before in rows]

    def reopen(self) -> Posted:
        """Close and open the same file, when no reader is in it: after a write that found no room DuckDB refuses
        everything until then, and what was committed is there. DuckDB hands out one instance a path, so nobody may
        hold the old one."""
        with self._quiet:
            while self._readers:
                self._quiet.wait()
            self._connection.close()
            self._open()
            self.check()
            return self.posted()

    def begin_again(self, why: str) -> Path:
        """Put the file aside and open an empty one; says where the old one is. What was put aside since the start is
        the one worth keeping: what was begun after it and not finished goes."""
        with self._quiet:
            while self._readers:
                self._quiet.wait()
            self._connection.close()
            if self._aside is None:
                self._aside = damaged_aside(self.path, why)
            else:
                for suffix in ("", ".wal"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self._open()
            self.check()
            self.damage = ""
        return self._aside

    def close(self) -> None:
        """Checkpoint and close."""
        self._connection.close()


def _by_book(changes: Changes) -> dict[str, list[tuple[str, Record | None]]]:
    by_book: dict[str, list[tuple[str, Record | None]]] = {}
    for (name, key), record in changes.items():
        by_book.setdefault(name, []).append((key, record))
    return by_book


def _fingerprint(books: dict[str, Book[Any]]) -> str:
    tables = {book.name: (book.columns, book.kind.__qualname__) for book in books.values()}
    made_of = [SCHEMA, _ENTRY_COLUMNS, tables, shape_of(book.kind for book in books.values())]
    return hashlib.sha256(msgspec.json.encode(made_of, order="sorted")).hexdigest()


def _table_columns(book: Book[Any]) -> dict[str, str]:
    return {"_key": "VARCHAR", **book.columns, "_record": "BLOB"}


def _declared(columns: dict[str, str]) -> str:
    return ", ".join(f"{_quoted(name)} {kind}" for name, kind in columns.items())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def damaged_aside(path: Path, why: str) -> Path:
    """Move a projection that cannot be used out of the way, with its write-ahead log; says where it went."""
    for number in range(1, 1000):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        if not aside.exists():
            for suffix in ("", ".wal"):
                part = path.with_name(path.name + suffix)
                if part.exists():
                    part.rename(aside.with_name(aside.name + suffix))
            return aside
    raise Corrupt(f"got 999 damaged projections beside {path.name} ({why}), expected somebody to look", field="store")
