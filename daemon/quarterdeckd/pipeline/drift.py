"""The drift job: a version's training rows against a window of its recorded predictions, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from quarterdeckd.measures.drift import compare
from quarterdeckd.pipeline.progress import Report
from quarterstore.records.faults import Corrupt, Invalid, got
from quarterstore.records.monitoring import DriftResult, DriftSpec
from quarterstore.records.predictions import column_of

ROUTE = ("endpoint", "version", "at")


def run(spec: DriftSpec, report: Report) -> DriftResult:
    """Read the columns of the features from both sides and compare them.

    A file that is no Parquet, or a recorded one without `endpoint`, `version` and `at`, is `Invalid` and names it.
    """
    wanted = [feature.name for feature in spec.features]
    report.progress("read", 0.0, "reference rows")
    reference = _columns([_reference(spec.reference, wanted)], wanted)
    report.progress("read", 0.3, f"recorded predictions, {len(spec.current)} files")
    current = _columns([_window(file, spec, wanted) for file in spec.current], ["at", *wanted])
    report.progress("compare", 0.6, f"{len(wanted)} features")
    result = compare(reference, current, spec.features, spec.rule)
    report.progress("compare", 1.0, result.words)
    return result


def _reference(file: str, wanted: Sequence[str]) -> pl.DataFrame:
    rows, known = _scanned(file)
    return _collected(file, rows.select([name for name in wanted if name in known]))


def _window(file: str, spec: DriftSpec, wanted: Sequence[str]) -> pl.DataFrame:
    """The rows of one recorded file that this version answered at this endpoint, since <= at <= until."""
    rows, known = _scanned(file)
    absent = [name for name in ROUTE if name not in known]
    if absent:
        raise got(Path(file).name, f"no column {', '.join(absent)}", "a file of recorded predictions")
    here = (
        (pl.col("endpoint").cast(pl.String) == spec.endpoint)
        & (pl.col("version").cast(pl.String) == spec.version)
        & pl.col("at").is_between(spec.since, spec.until)
    )
    # `at` counts rows that kept no feature
    needed = {"at": "at"} | {name: column_of(name) for name in wanted if column_of(name) in known}
    return _collected(file, rows.filter(here).select(pl.col(column).alias(name) for name, column in needed.items()))


def _scanned(file: str) -> tuple[pl.LazyFrame, set[str]]:
    try:
        rows = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        return rows, set(rows.collect_schema())
    except FileNotFoundError:
        raise Invalid(f"got no file {file}, expected a Parquet file", field=Path(file).name) from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise got(Path(file).name, _short(error), "a Parquet file") from None


def _collected(file: str, rows: pl.LazyFrame) -> pl.DataFrame:
    try:
        return rows.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Corrupt(f"got {_short(error)}, expected the rows of a Parquet file", field=Path(file).name) from None


def _short(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def _columns(frames: Sequence[pl.DataFrame], wanted: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Each wanted column that at least one file holds; a file without it adds blanks, so that rows stay counted."""
    found = {name for frame in frames for name in frame.columns}
    names = [name for name in dict.fromkeys(wanted) if name in found]
    return {name: np.concatenate([_array(frame, name) for frame in frames]) for name in names}


def _array(frame: pl.DataFrame, name: str) -> np.ndarray[Any, Any]:
    if name not in frame.columns:
        return np.full(frame.height, None, dtype=object)
    column = frame.get_column(name)
    if isinstance(column.dtype, pl.List | pl.Array):  # a request of several rows
        column = column.explode()
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    kept = column if column.dtype == pl.Boolean else column.cast(pl.String, strict=False)
    return np.array(kept.to_list(), dtype=object)
