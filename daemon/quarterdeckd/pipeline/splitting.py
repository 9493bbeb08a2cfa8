"""The second step of a pipeline: which rows are learnt from and which are held out, so that neither side knows the
other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterdeckd.pipeline.files import Rows
from quarterstore.records.faults import Invalid, got
from quarterstore.records.pipelines import SplitSection
from quarterstore.records.tables import seconds

Indices = NDArray[np.int64]


class Split(NamedTuple):
    """Row numbers of both sides, each sorted, and what is to be said of them."""

    train: Indices
    test: Indices
    words: str
    figures: dict[str, Any]


def split(rows: Rows, section: SplitSection, time: str | None, group: str | None) -> Split:
    """Hold out `section.test` of the rows: at random (classes in proportion), the latest by time, or whole groups.

    At random and by group, rows that are equal in target and features go to one side; by time every held-out row is
    strictly later than every learnt one. A `Fault` where that cannot be done.
    """
    if not 0.0 < section.test < 1.0:
        raise got("split.test", section.test, "a share between 0 and 1")
    same = _same(rows.frame, [rows.plan.target, *(column.name for column in rows.plan.features)])
    rng = np.random.default_rng(section.seed)
    if section.by == "time":
        train, test, words = _by_time(rows.frame, _named("time", time), section.test)
    elif section.by == "group":
        train, test, words = _by_group(rows.frame, _named("group", group), section.test, rng)
    else:
        strata = rows.frame[rows.plan.target].to_list() if rows.plan.task == "classification" else None
        train, test = at_random(same, strata, section.test, rng)
        words = "at random" + (", classes in proportion" if strata is not None else "")
    _check(rows, train, test)
    both = len(np.intersect1d(same[train], same[test]))
    figures = {
        "train": len(train),
        "test": len(test),
        "by": section.by,
        "seed": section.seed,
        "duplicates": int(len(same) - len(np.unique(same))),
        "duplicates_on_both_sides": both,
    }
    told = [f"{len(train):,} rows to learn from, {len(test):,} held out {words}"]
    if figures["duplicates"]:
        told.append(f"{figures['duplicates']:,} rows are repeated" + (f", {both:,} on both sides" if both else ""))
    return Split(train, test, "; ".join(told), figures)


def at_random(
    same: Sequence[int] | Indices, strata: Sequence[str] | None, share: float, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """Shuffle and hold out `share` of each stratum, in whole groups of equal rows (`same` numbers them), at least one
    group of a stratum with two or more on either side. An equal row is counted to the stratum of its first one."""
    numbers = np.asarray(same)
    _, first, sizes = np.unique(numbers, return_index=True, return_counts=True)
    keys = np.zeros(len(first), dtype=np.int64)
    if strata is not None:
        keys = np.unique(np.asarray(strata, dtype=str), return_inverse=True)[1][first]
    held: list[Indices] = []
    for key in np.unique(keys):
        members = rng.permutation(np.flatnonzero(keys == key))
        if len(members) < 2:
            continue
        upto = np.cumsum(sizes[members])
        count = int(np.searchsorted(upto, round(share * upto[-1]), side="right"))
        held.append(members[: min(max(count, 1), len(members) - 1)])
    chosen = np.concatenate(held) if held else np.empty(0, dtype=np.int64)
    out = np.isin(numbers, numbers[first[chosen]])
    return np.flatnonzero(~out), np.flatnonzero(out)


def instants(values: pl.Series) -> NDArray[np.float64]:
    """A time column as numbers that order it: seconds of ISO 8601 texts, or the numbers themselves."""
    if values.dtype.is_numeric():
        found = values.cast(pl.Float64).to_numpy()
    else:
        distinct = {cell: seconds(cell) for cell in values.drop_nulls().unique().to_list() if cell}
        found = np.array([distinct.get(cell, np.nan) for cell in values.to_list()])
    if not np.isfinite(found).all():
        raise got(values.name, f"{int((~np.isfinite(found)).sum())} rows without a time", "a time in every row")
    return found


def _same(frame: pl.DataFrame, columns: list[str]) -> Indices:
    """A number for each row; equal rows have the same one (by value, not by a hash that could collide)."""
    return np.asarray(frame.select(pl.struct(columns).rank("dense").alias("same"))["same"].to_numpy(), dtype=np.int64)


def _named(what: str, column: str | None) -> str:
    if column is None:
        raise Invalid(f"got no {what} column, expected data.{what} for a split by {what}", field=f"data.{what}")
    return column


def _by_time(frame: pl.DataFrame, column: str, share: float) -> tuple[Indices, Indices, str]:
    try:
        at = instants(frame[column])
    except ValueError as error:
        raise got(column, str(error), "dates or times as ISO 8601 (2026-01-31 12:00), or numbers") from None
    border = float(np.sort(at)[round((1 - share) * len(at))]) if share * len(at) >= 1 else float(at.max())
    out = at >= border
    train, test = np.flatnonzero(~out), np.flatnonzero(out)
    if not len(train):
        raise got(column, "one time in too many rows", f"times that leave {1 - share:.0%} of the rows before the rest")
    shown = frame[column][int(test[np.argmin(at[test])])]
    return train, test, f"by {column}, all from {shown} on"


def _by_group(frame: pl.DataFrame, column: str, share: float, rng: np.random.Generator) -> tuple[Indices, Indices, str]:
    values = frame[column]
    blank = int(values.is_null().sum())
    if blank:
        raise got(column, f"{blank} rows without a group", "a group in every row")
    groups = np.asarray(values.rank("dense").to_numpy(), dtype=np.int64)
    train, test = at_random(groups, None, share, rng)
    if not len(train) or not len(test):
        raise got(column, "one group", "at least two groups")
    return train, test, f"by {column}, {len(np.unique(groups[test])):,} of {len(np.unique(groups)):,} groups"


def _check(rows: Rows, train: Indices, test: Indices) -> None:
    """Both sides must be able to do their part: classes to learn, rows to measure."""
    if len(test) < 5 or len(train) < 10:
        raise got("split.test", f"{len(train)} rows to learn from and {len(test)} held out", "at least 10 and 5")
    if rows.plan.task != "classification":
        return
    target = rows.frame[rows.plan.target]
    learnt = set(target[train].unique().to_list())
    if len(learnt) < 2:
        raise got(rows.plan.target, f"one class ({next(iter(learnt))}) in the rows to learn from", "at least two")
    unseen = set(target[test].unique().to_list()) - learnt
    if unseen:
        raise got(rows.plan.target, f"class {sorted(unseen)[0]} only in held-out rows", "each class to be learnt from")
