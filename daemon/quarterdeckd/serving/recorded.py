"""Recorded traffic as rows that a version can be asked again, and why some of it cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from quarterdeckd.serving.columns import Column
from quarterstore.records.names import drawn
from quarterstore.records.predictions import column_of

FIXED = {
    "id": pl.String,
    "row": pl.Int32,
    "at": pl.Float64,
    "version": pl.String,
    "status": pl.Int32,
    "latency": pl.Float64,
    "prediction": pl.String,
    "score": pl.Float64,
}
"""What is read of every row beside the features."""
HASHED = "^[0-9a-f]{32}$"
"""What the recording rule makes of a value that must not be read (`records.predictions.hashed`)."""
BLANK = 60
"""Characters of a name in a reason."""


class Recorded(NamedTuple):
    """Rows in the order of their time, id and row, each wanted feature in its own column (`feature`, blank where it was
    not kept) and `why` it cannot be asked again, null where it can; `older` rows of the window are beyond the limit."""

    rows: pl.DataFrame
    older: int


class Window(NamedTuple):
    """What is read: answers given after `since` and up to `until` (seconds of the epoch), the newest `limit` rows."""

    since: float
    until: float
    limit: int


def recorded(
    files: Sequence[str], window: Window, columns: Mapping[str, Column], features: Mapping[str, Sequence[str]]
) -> Recorded:
    """Read the rows of a window; `features` names what each version that may have answered takes. A file that was
    purged meanwhile is passed over."""
    scans = [_scanned(path, window) for path in files if Path(path).exists()]
    times = pl.concat([pl.Series("at", [], pl.Float64), *(scan.select("at").collect()["at"] for scan in scans)])
    first = times.top_k(window.limit).min() if len(times) else 0.0
    frames = [_typed(scan.filter(pl.col("at") >= first).collect(), columns, features) for scan in scans]
    empty = _typed(pl.DataFrame(schema=FIXED), columns, features)
    rows = pl.concat([empty, *frames]).unique(["id", "row"]).sort("at", "id", "row").tail(window.limit)
    return Recorded(rows, len(times) - len(rows))


def _scanned(path: str, window: Window) -> pl.LazyFrame:
    rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    inside = (pl.col("at") > window.since) & (pl.col("at") <= window.until)
    return rows.filter(inside & (pl.col("role") != "shadow"))


def _typed(rows: pl.DataFrame, columns: Mapping[str, Column], features: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """The fixed columns, `why`, and the features in the kinds that `columns.feed_of` takes."""
    told = pl.col("prediction").is_null() & pl.col("score").is_null()
    reasons: list[pl.Expr] = [
        pl.when(pl.col("status") != 200).then(pl.lit("it was answered with an error")),
        pl.when(told).then(pl.lit("no answer was kept")),
    ]
    values = []
    for column in columns.values():
        name = column_of(column.name)
        if name not in rows.columns:
            rows = rows.with_columns(pl.lit(None, pl.String).alias(name))
        given = pl.col(name)
        text = rows.schema[name] == pl.String
        hashed = given.str.contains(HASHED) if text else pl.lit(False)
        value = _value(given, column, text)
        values.append(pl.when(~hashed).then(value).alias(f"feature.{column.name}"))
        reasons += _reasons(column, given, value, hashed, features)
    fixed = [pl.col(name).cast(kind) for name, kind in FIXED.items()]
    return rows.select(*fixed, pl.coalesce(reasons).alias("why"), *values)


def _value(given: pl.Expr, column: Column, text: bool) -> pl.Expr:
    if column.text:
        return given.cast(pl.String)
    if column.datatype == "BOOL" and text:
        given = given.replace({"true": "1", "false": "0"})
    return given.cast(pl.Float64, strict=False)


def _reasons(
    column: Column, given: pl.Expr, value: pl.Expr, hashed: pl.Expr, features: Mapping[str, Sequence[str]]
) -> Iterable[pl.Expr]:
    """Why a row cannot be asked again for the sake of one feature."""
    name = drawn(column.name, longest=BLANK)
    without = [version for version, taken in features.items() if column.name not in taken]
    foreign = pl.col("version").is_in(without)
    yield pl.when(hashed).then(pl.lit(f"{name} was kept as a hash"))
    if not column.optional:
        yield pl.when(given.is_null() & foreign).then(
            pl.format(f"another signature: {name.replace('{', '').replace('}', '')} is not taken by {{}}", "version")
        )
    yield pl.when(given.is_null() & ~foreign).then(pl.lit(f"{name} was not kept"))
    yield pl.when(given.is_not_null() & value.is_null()).then(pl.lit(f"{name} holds what does not fit"))


def named(rows: pl.DataFrame, columns: Mapping[str, Column]) -> pl.DataFrame:
    """The features alone, under their own names."""
    return rows.select(pl.col(f"feature.{name}").alias(name) for name in columns)
