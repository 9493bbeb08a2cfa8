"""A training set: rows of entities, each with the features that were known at its time, and an id made of all that
went in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl

from quarterdeckd.features.derived import FILL, Column, column_of, derived, plain
from quarterdeckd.features.joining import KNOWN, TIME, as_of
from quarterdeckd.features.lumps import of_kinds, scanned, write
from quarterdeckd.features.reading import KINDS, collected, column, need, numbered, opened, times
from quarterstore.records.faults import Conflict, got
from quarterstore.records.features import JoinResult, JoinSpec, Wanted
from quarterstore.records.training_sets import Used, identity, used

OUTPUT: Final = "out/training_set.parquet"
STATUS: Final = "__status"
AGE: Final = "__age"


class Rows(NamedTuple):
    """A training set in memory: its rows, of each view how many are PRESENT, EXPIRED, NOT_FOUND, and the files that
    could matter."""

    frame: pl.DataFrame
    statuses: dict[str, dict[str, int]]
    used: Used
    newest: int
    """The last time of a row, in microseconds since 1970."""


def run(spec: JoinSpec, report: Any) -> JoinResult:
    """Make the rows and leave them as a file."""
    made = rows_of(spec, report)
    write(made.frame, Path(OUTPUT))
    id_ = identity(spec, made.used)
    return JoinResult(id=id_, output=OUTPUT, rows=made.frame.height, statuses=made.statuses, used=made.used)


def rows_of(spec: JoinSpec, report: Any) -> Rows:
    """Join view after view: the columns of the entities, then of each view its features, its status and the age of the
    value in seconds (`VIEW__status`, `VIEW__age`). No row of the entities is lost; `Invalid` names what they lack."""
    rows = opened(Path(spec.entities), spec.format)
    keys = list(dict.fromkeys(key for view in spec.views for key in view.keys))
    need(rows, {spec.time: "time", **{key.name: "key" for key in keys}})
    frame = collected(rows)
    if frame.is_empty():
        raise got("entities", "no row", "at least one row")
    if spec.format == "csv":
        frame = numbered(frame, {spec.time, *(key.name for key in keys)})
    asked = pl.DataFrame([*(column(frame, key.name, key.kind) for key in keys), times(frame, spec.time).alias(TIME)])
    newest = int(asked[TIME].max() or 0)  # type: ignore[arg-type]
    statuses: dict[str, dict[str, int]] = {}
    mattering = used(spec, newest)
    for number, (view, files) in enumerate(zip(spec.views, mattering, strict=True)):
        report.progress("join", number / len(spec.views), view.view)
        name = view.view.partition("@")[0]
        found_by = (f"{name}{STATUS}", f"{name}{AGE}")
        for each in (*view.columns, *found_by):
            if each in frame.columns:
                what = "says how a value was found" if each in found_by else "is a feature"
                raise Conflict(f"{each} is a column there already and {what} of {view.view}", field="entities")
        read = [each.name for each in (*view.features, *view.inputs)]
        values = _values(view, files)
        found = as_of(asked, values, [key.name for key in view.keys], read, spec.reading, view.ttl)
        found = _computed(view, found, frame).drop(each.name for each in view.inputs)
        statuses[name] = {str(each): int(n) for each, n in found["status"].value_counts().iter_rows()}
        frame = frame.hstack(found.rename(dict(zip(("status", "age"), found_by, strict=True))).get_columns())
    return Rows(frame, statuses, mattering, newest)


def _values(view: Wanted, files: Sequence[str]) -> pl.LazyFrame:
    """The rows of a view, file after file: of equal times a later file holds unless a row was known earlier."""
    kinds = {key.name: KINDS[key.kind] for key in view.keys} | {TIME: pl.Int64, KNOWN: pl.Int64}
    kinds |= {each.name: KINDS[each.kind] for each in (*view.features, *view.inputs)}
    parts = [of_kinds(scanned(lump, files), kinds) for lump in view.lumps if set(lump.of).intersection(files)]
    return pl.concat(parts) if parts else pl.LazyFrame(schema=kinds)


def _computed(view: Wanted, found: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame:
    """With the features on demand, of what was joined and of what the rows give themselves."""
    if not view.on_demand:
        return found
    need(frame.lazy(), {each.name: f"request of {view.view}" for each in view.requests})
    columns = {each.name: _column(found[each.name], each.kind) for each in (*view.features, *view.inputs)}
    columns |= {each.name: _column(column(frame, each.name, each.kind), each.kind) for each in view.requests}
    made = derived(view.on_demand, columns, found.height)
    return found.with_columns(
        pl.Series(each.name, plain(made[each.name]), KINDS[each.kind]) for each in view.on_demand
    ).select(*view.columns, *(each.name for each in view.inputs), "status", "age")


def _column(series: pl.Series, kind: str) -> Column:
    """As `derived.column_of` has it, without a turn through Python for numbers."""
    if kind == "text":
        return column_of(series.to_list(), kind)
    missing = series.is_null()
    if kind != "boolean":
        series = series.cast(pl.Float64)
        missing |= ~series.is_finite().fill_null(False)
        series = pl.select(pl.when(~pl.lit(missing)).then(pl.lit(series))).to_series()
    return Column(series.fill_null(FILL[kind]).to_numpy(), missing.to_numpy())
