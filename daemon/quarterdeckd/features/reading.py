"""A file of rows or of entities as a frame of the columns that are wanted, each of its kind, times as microseconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from quarterstore.records.faults import got
from quarterstore.records.features import Kind
from quarterstore.records.names import drawn
from quarterstore.records.tables import MISSING, check_parquet, rows_of, unquoted

KINDS: Final[dict[Kind, Any]] = {
    "number": pl.Float64(),
    "integer": pl.Int64(),
    "text": pl.String(),
    "boolean": pl.Boolean(),
}
WORDS: Final = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
ISO: Final = (
    r"^(?<day>\d{4}-\d\d-\d\d)(?:[T ](?<minute>\d\d:\d\d)(?::(?<second>\d\d(?:\.\d+)?))?\s?"
    r"(?<zone>Z|[+-]\d\d(?::?\d\d)?)?)?$"
)
"""The zone as `+01:00`, as Polars writes it (`+0100`) or as PostgreSQL does (`+01`)."""
LATEST: Final = 253_402_300_800_000_000
"""The year 10,000 in microseconds."""


UNREADABLE: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""What Polars raises of a file: it panics, which is no `Exception`, where offsets in a Parquet footer lead past its
end."""


def said(error: BaseException) -> str:
    """What is wrong with a file, in words that may be drawn."""
    if isinstance(error, pl.exceptions.PanicException):
        return "a file whose parts contradict one another"
    return drawn((str(error).splitlines() or ["nothing"])[0], longest=200)


def opened(path: Path, format_: str) -> pl.LazyFrame:
    """The rows of a CSV (all text, blank cells null) or Parquet file; `Invalid` when it is none."""
    try:
        if format_ == "parquet":
            check_parquet(path)
            rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        else:
            rows = pl.scan_csv(path, infer_schema=False, null_values=list(MISSING), glob=False)
        names = rows.collect_schema().names()
        if format_ == "csv":
            _refuse_short(path, rows, names)
            if named := unquoted(path, names):
                rows = rows.rename(named)
                rows.collect_schema()
    except UNREADABLE as error:
        raise got("file", said(error), f"a {format_} file") from None
    return rows


def _refuse_short(path: Path, rows: pl.LazyFrame, names: Sequence[str]) -> None:
    """`Invalid` names the line with fewer fields than the header. Polars takes the rest for blank, so that only a file
    whose last column has blanks is read again."""
    if len(names) < 2 or not rows.select(pl.col(names[-1]).is_null().any()).collect().item():
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line, fields in rows_of(path, file):
            if len(fields) < len(names):
                raise got(f"line {line}", f"{len(fields)} fields", f"{len(names)} as in the header")


def collected(rows: pl.LazyFrame) -> pl.DataFrame:
    """The rows in memory; `Invalid` when the file breaks off."""
    try:
        return rows.collect()
    except UNREADABLE as error:
        raise got("file", said(error), "rows that can be read") from None


def need(rows: pl.LazyFrame, columns: Mapping[str, str]) -> None:
    """`Invalid` names the column that a file lacks, and what it is for."""
    there = rows.collect_schema().names()
    for column, what in columns.items():
        if column not in there:
            raise got(what, f"a file without the column {column}", f"it among {drawn(', '.join(there), longest=200)}")


def column(frame: pl.DataFrame, name: str, kind: Kind) -> pl.Series:
    """A column as its kind; NaN, which is how frames hold a number that is not known, is null. `Invalid` names the
    first row (from 1) whose cell is none, such as infinity."""
    found = frame[name].fill_nan(None) if frame[name].dtype.is_float() else frame[name]
    if kind == "number":
        number = found.cast(pl.Float64(), strict=False)
        cast = pl.select(pl.when(pl.lit(number).is_finite()).then(pl.lit(number))).to_series()
    elif kind == "text":
        cast = found.cast(pl.String, strict=False)
    elif kind == "boolean" and found.dtype == pl.String:
        cast = found.str.to_lowercase().replace_strict(WORDS, default=None, return_dtype=pl.Boolean)
    elif kind == "integer" and found.dtype.is_float():
        whole = found.cast(pl.Int64, strict=False)
        cast = pl.select(pl.when(pl.lit(whole) == pl.lit(found)).then(pl.lit(whole))).to_series()
    else:
        cast = found.cast(KINDS[kind], strict=False)
    _refuse(found, cast, name, f"{kind} or nothing")
    return cast.alias(name)


WHOLE: Final = r"^-?(0|[1-9]\d*)$"
DECIMAL: Final = r"^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$"
"""A code such as 007 is no number."""


def numbered(frame: pl.DataFrame, but: Collection[str]) -> pl.DataFrame:
    """The rows of a CSV file, what holds nothing but numbers as numbers; `but` are columns that stay texts."""
    return frame.with_columns(_numbers(frame[name]) for name in frame.columns if name not in but)


def _numbers(found: pl.Series) -> pl.Series:
    there = found.drop_nulls()
    if there.is_empty() or found.dtype != pl.String:
        return found
    if there.str.contains(WHOLE).all():
        whole = found.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == found.null_count() else found.cast(pl.Float64)
    return found.cast(pl.Float64) if there.str.contains(DECIMAL).all() else found


def times(frame: pl.DataFrame, name: str) -> pl.Series:
    """A column of times as microseconds since 1970 (Int64): datetimes, dates, ISO 8601 texts, seconds since 1970; one
    without a zone is UTC. None may be missing."""
    found = frame[name]
    if found.dtype == pl.Date:
        cast = found.cast(pl.Datetime("us")).cast(pl.Int64)
    elif found.dtype == pl.Datetime:
        cast = found.cast(pl.Datetime("us", found.dtype.time_zone)).cast(pl.Int64)  # type: ignore[attr-defined]
    elif found.dtype.is_numeric():
        cast = (found.cast(pl.Float64) * 1e6).round().cast(pl.Int64, strict=False)
    else:
        cast = _parsed(found.cast(pl.String, strict=False))
    cast = pl.select(pl.when(pl.lit(cast).is_between(0, LATEST)).then(pl.lit(cast))).to_series()
    _refuse(found, cast, name, "a time: ISO 8601, or seconds since 1970", blank=False)
    return cast.alias(name)


def _parsed(found: pl.Series) -> pl.Series:
    """Texts: numbers are seconds, the others ISO 8601."""
    seconds = (found.cast(pl.Float64, strict=False) * 1e6).round().cast(pl.Int64, strict=False)
    parts = found.str.extract_groups(ISO).struct.unnest()
    whole = pl.concat_str(
        pl.col("day"),
        pl.lit("T"),
        pl.col("minute").fill_null("00:00"),
        pl.lit(":"),
        pl.col("second").fill_null("00"),
        pl.col("zone").str.replace("Z", "+00").str.replace(":", "").str.pad_end(5, "0").fill_null("+0000"),
    )
    parsed = whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", time_zone="UTC", strict=False)
    return parts.select(pl.coalesce(pl.lit(seconds), parsed.cast(pl.Int64))).to_series()


def refuse_null(frame: pl.DataFrame, columns: Sequence[str]) -> None:
    """`Invalid` names the first row (from 1) without a key."""
    for name in columns:
        if (lacking := frame[name].is_null()).any():
            raise got(f"row {lacking.arg_max() + 1}, {name}", "nothing", "a key")  # type: ignore[operator]


def _refuse(found: pl.Series, cast: pl.Series, name: str, expected: str, *, blank: bool = True) -> None:
    wrong = cast.is_null() & found.is_not_null() if blank else cast.is_null()
    if wrong.any():
        row = wrong.arg_max()
        assert row is not None
        raise got(f"row {row + 1}, {name}", drawn(str(found[row]), longest=60), expected)
