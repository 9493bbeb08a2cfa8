"""What a table of rows holds: the kinds of its columns, what is missing, how many different values.

Standard library only, because the console reads a file with it before any daemon has seen it.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from quarterstore.records.base import Record
from quarterstore.records.datasets import Column
from quarterstore.records.faults import Invalid, TooLarge, got, missing
from quarterstore.records.names import checked_text, drawn

Kind = Literal["number", "integer", "text", "boolean", "time"]
KINDS: Final[tuple[Kind, ...]] = ("number", "integer", "text", "boolean", "time")
MISSING: Final = ("", "?", "NA", "NaN")
"""Cells that stand for "not known", after blanks around them are cut off."""

LONGEST_LINE: Final = 1024 * 1024
"""Characters of one line of a CSV file; a longer one is refused after reading this much of it."""
MOST_COLUMNS: Final = 10_000
MOST_CLASSES: Final = 1000
"""A target with more different texts than this is an identifier, not a class."""
FEW: Final = 20
"""An integer target with at most this many different values is taken for classes."""
COUNTED: Final = 200_000
"""Different values of a column that are counted exactly; beyond it `distinct` is None."""
BATCH: Final = 5000

_integer = re.compile(r"[+-]?(?:0|[1-9]\d*)\Z", re.ASCII)
_number = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)
_leading_zero = re.compile(r"0\d", re.ASCII)
_time = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?\Z", re.ASCII)
_WORDS: Final = (frozenset({"yes", "no"}), frozenset({"true", "false"}), frozenset({"y", "n"}), frozenset({"t", "f"}))


class Table(Record, frozen=True):
    """A file as it was read: its columns in order, its rows, and for each column with at most `MOST_CLASSES` + 1
    different values those values (sorted) and how many rows have each; `sequence` names integer columns that count the
    rows."""

    columns: tuple[Column, ...]
    rows: int
    values: dict[str, tuple[str, ...]]
    sequence: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    counts: dict[str, dict[str, int]] = {}

    def column(self, name: str) -> Column:
        """One column by its name; `KeyError` when there is none."""
        return {column.name: column for column in self.columns}[name]


def read(path: Path, *, blank: Iterable[str] = MISSING, kinds: dict[str, str] | None = None) -> Table:
    """The table of a CSV file (comma, UTF-8, one header line), read once as a stream.

    `blank` are the cells that count as missing; `kinds` overrides the guess for a column. Faults name the line or
    the column, what was got and what was expected; no more than `LONGEST_LINE` characters of a line are ever held.
    """
    _check_size(path)
    asked = _checked_kinds(kinds or {})
    blanks = frozenset(("", *(cell.strip() for cell in blank)))
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = rows_of(path, file)
        header = header_of(path, rows)
        for name in asked:
            if name not in header:
                raise missing("columns", name, header)
        seen = [_Seen(blanks) for _ in header]
        count = _read_into(seen, header, rows)
    if not count:
        raise Invalid("got a header and no row, expected at least one row", field=path.name)
    columns = tuple(_column(name, one, asked.get(name), count) for name, one in zip(header, seen, strict=True))
    return Table(
        columns,
        count,
        {
            column.name: tuple(sorted(one.distinct))
            for column, one in zip(columns, seen, strict=True)
            if not one.many and len(one.distinct) <= MOST_CLASSES + 1
        },
        tuple(c.name for c, one in zip(columns, seen, strict=True) if one.sequence and count > FEW),
        tuple(note for c, one in zip(columns, seen, strict=True) for note in _odd(c, one)),
        {
            name: {cell: number for cell, number in one.counts.items() if cell not in blanks}
            for name, one in zip(header, seen, strict=True)
            if one.counts is not None
        },
    )


def check_parquet(path: Path) -> None:
    """A fault unless the file begins and ends as Parquet does (`PAR1`)."""
    _check_size(path)
    with path.open("rb") as file:
        first = file.read(4)
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4))
        last = file.read(4)
    if first != b"PAR1" or last != b"PAR1":
        raise got(path.name, f"a file that begins with {first!r} and ends with {last!r}", "Parquet (PAR1 at both ends)")


def number(cell: str) -> bool:
    """Whether a cell is a finite decimal number as it stands; `007` is text, as in a code or a postcode."""
    return bool(_number.match(cell)) and not _leading_zero.match(cell.lstrip("+-"))


def seconds(cell: str) -> float:
    """An ISO 8601 date or time as seconds since 1970 (UTC where it names no zone)."""
    when = datetime.fromisoformat(cell)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


# reading


class _Seen:
    """What one column showed so far."""

    __slots__ = ("blanks", "counts", "distinct", "first", "last", "many", "missing", "sequence", "shapes")

    def __init__(self, blanks: frozenset[str]) -> None:
        self.blanks = blanks
        self.missing = 0
        self.many = False
        self.sequence = True
        self.last: int | None = None
        self.distinct: set[str] = set()
        self.counts: Counter[str] | None = Counter()
        self.shapes: dict[str, int] = {}
        """Kind of cell -> how many different values had it."""

    def add(self, cells: Sequence[str]) -> None:
        cells = [cell.strip() for cell in cells]
        self._follow(cells)
        fresh = set(cells)
        gone = fresh & self.blanks
        if gone:
            self.missing += sum(cells.count(blank) for blank in gone)
            fresh -= gone
        fresh -= self.distinct
        for cell in fresh:
            shape = _shape(cell)
            self.shapes[shape] = self.shapes.get(shape, 0) + 1
        if self.counts is not None:
            self.counts.update(cells)
            if len(self.counts) > MOST_CLASSES + 1 + len(self.blanks):
                self.counts = None
        if self.many:
            return
        self.distinct |= fresh
        self.many = len(self.distinct) > COUNTED

    def _follow(self, cells: Sequence[str]) -> None:
        if not self.sequence:
            return
        try:
            numbers = [int(cell) for cell in cells]
        except ValueError:
            self.sequence = False
            return
        start = numbers[0] if self.last is None else self.last + 1
        self.sequence = numbers == list(range(start, start + len(numbers)))
        self.last = numbers[-1]


def _shape(cell: str) -> str:
    if number(cell):
        return "integer" if _integer.match(cell) else "number"
    if _time.match(cell) and _is_time(cell):
        return "time"
    return "text"


def _is_time(cell: str) -> bool:
    try:
        datetime.fromisoformat(cell)
    except ValueError:
        return False
    return True


def _column(name: str, seen: _Seen, asked: str | None, rows: int) -> Column:
    if asked:
        _check_asked(name, asked, seen)
    distinct = None if seen.many else len(seen.distinct)
    return Column(name, asked or _kind(seen), seen.missing, distinct)


def _kind(seen: _Seen) -> Kind:
    shapes = set(seen.shapes)
    if not shapes:
        return "text"
    if shapes == {"integer"}:
        return "integer"
    if shapes <= {"integer", "number"}:
        return "number"
    if shapes == {"time"}:
        return "time"
    if not seen.many and len(seen.distinct) == 2 and frozenset(map(str.lower, seen.distinct)) in _WORDS:
        return "boolean"
    return "text"


def _check_asked(name: str, asked: str, seen: _Seen) -> None:
    fits = {"number": {"integer", "number"}, "integer": {"integer"}, "time": {"time"}}.get(asked)
    if fits is not None and not set(seen.shapes) <= fits:
        odd = next((cell for cell in sorted(seen.distinct) if _shape(cell) not in fits), "another value")
        raise got(name, odd, f"{asked} in every cell (as columns.{name} says)")


def _odd(column: Column, seen: _Seen) -> list[str]:
    """A note where a text column is a number in nearly every cell: a missing marker that is not in the list."""
    numbers = seen.shapes.get("integer", 0) + seen.shapes.get("number", 0)
    others = sum(seen.shapes.values()) - numbers
    if column.kind != "text" or numbers < 20 or others > 3:
        return []
    cells = islice((cell for cell in sorted(seen.distinct) if not number(cell)), 3)
    shown = ", ".join(repr(drawn(cell, longest=20)) for cell in cells)
    return [f"{drawn(column.name)} is text because of {shown}; add it to data.missing if it means missing"]


def _check_size(path: Path) -> None:
    if not path.is_file():
        raise got("file", str(path), "a file that is there")
    if path.stat().st_size == 0:
        raise Invalid("got an empty file, expected a header line and rows", field=path.name)


def _checked_kinds(kinds: dict[str, str]) -> dict[str, str]:
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise got(f"columns.{name}", kind, "one of " + ", ".join(KINDS))
    return kinds


def _lines(path: Path, file: Iterable[str]) -> Iterator[str]:
    """Lines of a file, none longer than `LONGEST_LINE`: 200 MB without an end are refused after the first of them."""
    readline = file.readline  # type: ignore[attr-defined]
    place = 0
    while True:
        place += 1
        try:
            line: str = readline(LONGEST_LINE + 1)
        except UnicodeDecodeError as error:
            raise got(path.name, f"byte 0x{error.object[error.start]:02x} near line {place}", "UTF-8 text") from None
        if not line:
            return
        if len(line) > LONGEST_LINE:
            raise TooLarge(
                f"got a line of more than {LONGEST_LINE:,} characters, expected at most that many",
                field=f"{path.name} line {place}",
            )
        yield line


def rows_of(path: Path, file: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each row of a CSV file that is not blank, the header's too; faults name the line."""
    before = csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader(_lines(path, file), strict=True)
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:
        raise got(f"{path.name} line {reader.line_num}", str(error), "comma-separated fields") from None
    finally:
        csv.field_size_limit(before)


def unquoted(path: Path, names: list[str]) -> dict[str, str]:
    """Of the columns of a CSV file as Polars names them, those that are named otherwise: it leaves both quotes that
    stand for one (RFC 4180, 2.7). Faults name the line."""
    if not any('""' in name for name in names):
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        _, fields = next(rows_of(path, file), (0, []))
    return {name: field for name, field in zip(names, fields, strict=False) if '""' in name and name != field}


def header_of(path: Path, rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    """The names of the columns, which are the first row: at least two, each once."""
    _, fields = next(rows, (0, []))
    names = [field.strip() for field in fields]
    if len(names) == 1 and (other := next((one for one in ";\t|" if one in names[0]), None)):
        raise got(path.name, f"{other!r} between the fields", "','")
    if not names:
        raise got(path.name, "an empty file", "a first line with the names of the columns")
    if len(names) < 2:
        raise got(path.name, "1 column", "at least two")
    if len(names) > MOST_COLUMNS:
        raise TooLarge(f"got {len(names):,} columns, expected at most {MOST_COLUMNS:,}", field=path.name)
    first: dict[str, int] = {}
    for place, name in enumerate(names, 1):
        if not name:
            raise got(f"{path.name} column {place}", "a blank name", "a name in the header line")
        checked_text(f"{path.name} column {place}", name)
        if name in first:
            raise got(f"{path.name} column {place}", f"the name {name} again", f"another than column {first[name]} has")
        first[name] = place
    if all(number(name) for name in names):
        raise got(path.name, f"numbers in the first line ({names[0]}, {names[1]} …)", "the names of the columns")
    return names


def _read_into(seen: list[_Seen], header: list[str], rows: Iterator[tuple[int, list[str]]]) -> int:
    """Add every row to its columns, `BATCH` rows at a time (a column's new values are looked at once each)."""
    count = 0
    while batch := list(islice(rows, BATCH)):
        for place, fields in batch:
            if len(fields) != len(header):
                raise got(f"line {place}", f"{len(fields)} fields", f"{len(header)} as in the header")
        count += len(batch)
        for one, cells in zip(seen, zip(*(fields for _, fields in batch), strict=True), strict=True):
            one.add(cells)
    return count
