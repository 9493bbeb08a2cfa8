"""Export and import: records as Parquet (and JSON to read), points as the Parquet they are kept in, files by their
hashes."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from quarterdeckd.services.transfer import new_ones
from quarterdeckd.work.backing_up import Part, bundle, part_of
from quarterdeckd.work.freeing import digests
from quarterstore.ledger.book import Book
from quarterstore.ledger.state import State
from quarterstore.records import transfer
from quarterstore.records.faults import NotFound, got
from quarterstore.records.places import Home
from quarterstore.records.wire import encode
from quarterstore.shelf import parquet
from quarterstore.shelf.artefacts import Artefacts

AT_ONCE = 1000
"""Records of one entry during an import: about 1 MB."""
POINT = {"key": "String", "step": "Int64", "time": "Float64", "value": "Float64", "run": "String", "batch": "String"}
"""The columns of a file of points, and their types in polars."""
RECORD = "_record"


class Transferring:
    """Writes exports and takes them in; runs in a thread, `speak` asks the writer and waits for it."""

    def __init__(self, home: Home, view: State, artefacts: Artefacts, speak: Callable[[Any], Any]) -> None:
        self._home = home
        self._view = view
        self._artefacts = artefacts
        self._speak = speak

    def export(self) -> transfer.Exported:
        """One tar: `records/BOOK.parquet` and `.jsonl`, `points/*.parquet`, `artefacts/ab/abcdef…`, a manifest."""
        folder = self._home.backups / f"export-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "records").mkdir(mode=0o700, parents=True)
        try:
            books = [self._view.books()[name] for name in transfer.BOOKS]
            rows = {book.name: list(book.rows.values()) for book in books}
            for book in books:
                _write_records(folder / "records", book, rows[book.name])
            named = digests(record for records in rows.values() for record in records)
            counts = {name: len(records) for name, records in rows.items()}
            target = folder / "export.tar"
            bundle(target, {"kind": "export", "counts": counts}, list(self._parts(folder, named)))
            digest, size = self._artefacts.adopt(target)
        finally:
            shutil.rmtree(folder)
        return transfer.Exported(digest=digest, size=size, counts=counts)

    def _parts(self, folder: Path, named: set[str]) -> Iterator[Part]:
        for path in sorted((folder / "records").iterdir()):
            yield part_of(f"records/{path.name}", path)
        for path in sorted((self._home.samples / "metrics").glob("day=*/*.parquet")):
            yield part_of(f"points/{path.parent.name}-{path.name}", parquet.checked(path))
        for path in sorted(self._artefacts.kept()):
            if path.name in named:
                yield Part(f"artefacts/{path.parent.name}/{path.name}", path, path.stat().st_size, path.name)

    def take_in(self, query: transfer.Import) -> transfer.Imported:
        """All is looked at before anything is taken. What was cut off goes on when it is asked again: what is here
        already, equal, is left."""
        arriving, known = {}, {}
        for name in query.records:
            if name not in transfer.BOOKS:
                raise got("records", name, ", ".join(transfer.BOOKS))
        for name in (each for each in transfer.BOOKS if each in query.records):
            every = _read_records(self._artefacts.checked(query.records[name]), name)
            arriving[name] = new_ones(self._view, name, every)
            known[name] = len(every) - len(arriving[name])
        frames = {digest: _read_points(self._artefacts.checked(digest)) for digest in query.points}
        for name, records in arriving.items():
            self._check_files(name, _decoded(self._view.books()[name], records))
        taken = {name: len(records) for name, records in arriving.items()}
        points = sum(len(frame) for frame in frames.values())
        if not query.dry_run:
            for name, records in arriving.items():
                for start in range(0, len(records), AT_ONCE):
                    self._speak(transfer.TakeIn(book=name, records=tuple(records[start : start + AT_ONCE])))
            for digest, frame in frames.items():
                path = self._home.samples / "metrics" / "day=imported" / f"import-{digest[:16]}.parquet"
                if not path.exists():
                    parquet.write(frame, path)
        return transfer.Imported(taken=taken, known=known, points=points)

    def _check_files(self, name: str, records: Iterator[Any]) -> None:
        """Every file that a record needs was uploaded before it."""
        for record in records:
            needed = [each.digest for each in getattr(record, "artefacts", ())]
            if name == "versions" and record.digest and record.freed is None:
                needed.append(record.digest)
            for digest in needed:
                if not self._artefacts.path(digest).exists():
                    raise NotFound(
                        f"{record.id}: got no file {digest[:16]}, expected it uploaded",
                        field=name,
                        next="qd import DIR",
                    )


def _decoded(book: Book[Any], records: list[bytes]) -> Iterator[Any]:
    decode = msgspec.msgpack.Decoder(book.kind).decode
    return (decode(record) for record in records)


def _write_records(folder: Path, book: Book[Any], rows: list[Any]) -> None:
    """Plain fields as columns that any reader can filter by, and the whole record beside them."""
    import polars

    kinds = {"VARCHAR": polars.String, "BIGINT": polars.Int64, "DOUBLE": polars.Float64, "BOOLEAN": polars.Boolean}
    columns = {
        name: polars.Series([getattr(row, name) for row in rows], dtype=kinds[kind])
        for name, kind in book.columns.items()
    }
    columns[RECORD] = polars.Series([encode(row) for row in rows], dtype=polars.Binary)
    parquet.write_into(polars.DataFrame(columns), folder / f"{book.name}.parquet")
    with (folder / f"{book.name}.jsonl").open("wb") as file:
        for row in rows:
            file.write(msgspec.json.encode(_speakable(msgspec.to_builtins(row))) + b"\n")


def _speakable(value: Any) -> Any:
    """NaN and infinities as text, because JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _speakable(inner) for key, inner in value.items()}
    return [_speakable(inner) for inner in value] if isinstance(value, list | tuple) else value


def _read_records(path: Path, name: str) -> list[bytes]:
    import polars

    try:
        frame = polars.read_parquet(path)
    except (polars.exceptions.PolarsError, OSError) as error:
        raise got(name, str(error).splitlines()[0][:100], "a Parquet file of an export") from None
    if RECORD not in frame.columns or frame.schema[RECORD] != polars.Binary:
        raise got(name, ", ".join(frame.columns)[:200], f"a column {RECORD} of bytes")
    found: list[bytes] = frame[RECORD].to_list()
    return found


def _read_points(path: Path) -> Any:
    import polars

    try:
        frame = polars.read_parquet(path)
    except (polars.exceptions.PolarsError, OSError) as error:
        raise got("points", str(error).splitlines()[0][:100], "a Parquet file of an export") from None
    if {name: str(kind) for name, kind in frame.schema.items()} != POINT:
        raise got("points", str(dict(frame.schema))[:200], f"the columns {', '.join(POINT)}")
    return frame
