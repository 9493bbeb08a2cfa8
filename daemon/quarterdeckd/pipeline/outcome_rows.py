"""The rows of a file of outcomes, CSV or Parquet, a piece at a time: every cell checked, a bad one named by line and
column."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import polars as pl

from quarterstore.records.faults import Invalid, got, missing
from quarterstore.records.names import LONGEST, checked_text, drawn
from quarterstore.records.outcomes import LABEL
from quarterstore.records.tables import check_parquet, header_of, number, rows_of

PIECE = 100_000
"""Rows that are held at a time."""
KNOWN = ("id", "key", "row", "value", "time")
LATEST = 253_402_300_800.0
"""The year 10,000 in seconds from 1970."""
MOST_ROW = 2**31 - 1
SCHEMA: dict[str, Any] = {
    "line": pl.Int64,
    "name": pl.String,
    "row": pl.Int32,
    "value": pl.String,
    "number": pl.Float64,
    "time": pl.Float64,
}
"""Of a piece: `name` is the id or the key, `number` the value where it is one, `time` null where the file has none."""


class Shape(NamedTuple):
    """How a file is laid out: whether its rows are named by `id` or `key`, and which optional columns it has."""

    by: str
    timed: bool
    columns: tuple[str, ...]


class Piece(NamedTuple):
    """Some rows of a file, a frame of `SCHEMA`, and which share of the file is read with them."""

    rows: pl.DataFrame
    read: float


def pieces(path: Path, format_: str, metric: str) -> tuple[Shape, Iterator[Piece]]:
    """The layout and the rows, at most `PIECE` at a time. Faults (`Invalid`) name the line (of Parquet: the row, from
    1) and the column."""
    if format_ == "parquet":
        return _parquet(path, metric)
    file = path.open(encoding="utf-8-sig", newline="")
    rows = rows_of(Path("file"), file)
    header = header_of(Path("file"), rows)
    return _shape(header), _csv(file, path.stat().st_size, rows, header, metric)


def _shape(names: Sequence[str]) -> Shape:
    for name in names:
        if name not in KNOWN:
            raise missing("column", name, KNOWN)
    named = [name for name in ("id", "key") if name in names]
    if len(named) != 1:
        raise got("columns", ", ".join(names), "one of id and key")
    if "value" not in names:
        raise got("columns", ", ".join(names), "a column value")
    if named == ["key"] and "row" in names:
        raise got("columns", "row beside key", "row beside id: a key names the last answer, not a row of it")
    return Shape(named[0], "time" in names, tuple(names))


# CSV


def _csv(
    file: TextIO, size: int, rows: Iterator[tuple[int, list[str]]], header: list[str], metric: str
) -> Iterator[Piece]:
    any_ = False
    with file:
        while batch := list(islice(rows, PIECE)):
            any_ = True
            for line, fields in batch:
                if len(fields) != len(header):
                    raise got(f"line {line}", f"{len(fields)} fields", f"{len(header)} as in the header")
            cells = dict(zip(header, zip(*(fields for _, fields in batch), strict=True), strict=True))
            yield Piece(_frame([line for line, _ in batch], "line", cells, metric), file.buffer.tell() / size)
    if not any_:
        raise Invalid("got a header and no row, expected at least one row", field="file")


# Parquet


def _parquet(path: Path, metric: str) -> tuple[Shape, Iterator[Piece]]:
    check_parquet(path)
    try:
        scanned = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        schema = scanned.collect_schema()
        shape = _shape(list(schema))
        for name, dtype in schema.items():
            _check_type(name, dtype)
        total = int(scanned.select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        raise got("file", str(error).splitlines()[0][:200], "a Parquet file that Polars reads") from None
    if not total:
        raise Invalid("got no row, expected at least one row", field="file")
    return shape, _parquet_rows(scanned, shape, total, metric)


def _check_type(name: str, dtype: Any) -> None:
    """`Invalid` for a column of a type that its name does not allow; a time must say where it was."""
    text = dtype in (pl.String, pl.Categorical, pl.Enum)
    fits = {
        "row": dtype.is_integer(),
        "time": dtype.is_numeric() or text or (dtype == pl.Datetime and dtype.time_zone is not None),
        "value": dtype.is_numeric() or text or dtype == pl.Boolean,
    }.get(name, text or dtype.is_integer())
    if not fits:
        raise got(name, f"a column of {dtype}", "a time with its zone" if name == "time" else "texts or numbers")


def _parquet_rows(scanned: pl.LazyFrame, shape: Shape, total: int, metric: str) -> Iterator[Piece]:
    for start in range(0, total, PIECE):
        try:
            frame = scanned.slice(start, PIECE).collect()
        except pl.exceptions.PolarsError as error:
            raise got("file", str(error).splitlines()[0][:200], "a Parquet file that Polars reads") from None
        cells = {name: _texts(frame[name]) for name in shape.columns}
        end = start + frame.height
        yield Piece(_frame(range(start + 1, end + 1), "row", cells, metric), end / total)


def _texts(column: pl.Series) -> list[str]:
    """A column as the cells of a CSV file would say it; what is missing is an empty cell."""
    if column.dtype == pl.Datetime:
        return [repr(each / 1e6) if each is not None else "" for each in column.dt.epoch("us").to_list()]
    if column.dtype.is_float():
        return ["" if each is None else repr(each) for each in column.to_list()]
    return list(column.cast(pl.String).fill_null("").to_list())


# cells


def _frame(lines: Sequence[int], word: str, cells: Mapping[str, Sequence[str]], metric: str) -> pl.DataFrame:
    by = "id" if "id" in cells else "key"
    value = _label if metric == LABEL else _measure
    columns: dict[str, Any] = {
        "line": lines,
        "name": _each(lines, word, by, cells[by], _name),
        "row": _each(lines, word, "row", cells["row"], _row) if "row" in cells else [0] * len(lines),
        "value": (values := _each(lines, word, "value", cells["value"], value)),
        "number": [_number(each) for each in values],
        "time": _each(lines, word, "time", cells["time"], _time) if "time" in cells else [None] * len(lines),
    }
    return pl.DataFrame(columns, schema=SCHEMA)


def _each(lines: Sequence[int], word: str, column: str, cells: Sequence[str], read: Any) -> list[Any]:
    """Each cell read; the first that cannot be is named."""
    found: list[Any] = []
    for line, cell in zip(lines, cells, strict=True):
        try:
            found.append(read(cell.strip()))
        except ValueError as error:
            raise got(f"{word} {line}, {column}", drawn(cell, longest=60) or "nothing", str(error)) from None
        except Invalid as fault:
            raise Invalid(fault.message, field=f"{word} {line}, {column}") from None
    return found


def _name(cell: str) -> str:
    if not cell or len(cell) > LONGEST:
        raise ValueError(f"1 to {LONGEST} characters")
    return cell


def _row(cell: str) -> int:
    if not (cell.isascii() and cell.isdigit()) or len(cell) > 10 or int(cell) > MOST_ROW:
        raise ValueError("the number of a row, from 0")
    return int(cell)


def _label(cell: str) -> str:
    """A label as it is kept: 1 and 1.0 are one class, and so are true and True; 007 is a text."""
    if cell.lower() in ("true", "false"):
        return cell.capitalize()
    if number(cell):
        found = float(cell)
        return str(int(found)) if found.is_integer() and abs(found) < 2**53 else repr(found)
    if cell.isascii() and cell.isprintable() and 0 < len(cell) <= LONGEST:
        return cell
    return checked_text("value", cell)


def _measure(cell: str) -> str:
    """A number as it is kept: true and false are 1 and 0."""
    lower = cell.lower()
    found = _number("1" if lower == "true" else "0" if lower == "false" else cell)
    if found is None:
        raise ValueError("a finite number")
    return repr(found)


def _number(cell: str) -> float | None:
    try:
        found = float(cell)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _time(cell: str) -> float:
    seconds = _number(cell)
    if seconds is None:
        try:
            when = datetime.fromisoformat(cell)
        except ValueError:
            raise ValueError("seconds since 1970, or ISO 8601 with its zone") from None
        if when.tzinfo is None:
            raise ValueError("a time with its zone, such as 2026-03-01T12:00Z")
        seconds = when.timestamp()
    if not 0 <= seconds < LATEST:
        raise ValueError("a time from 1970 to 9999")
    return seconds
