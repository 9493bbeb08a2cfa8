"""The second step of a pipeline: which rows are learnt from and which are held out, so that neither side knows the
other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterdeckd.pipeline.crossing import Indices, crossings
from quarterdeckd.pipeline.files import Rows
from quarterstore.records.faults import Invalid, Refused, got, missing
from quarterstore.records.pipelines import SplitSection
from quarterstore.records.tables import seconds


class Split(NamedTuple):
    """Row numbers of both sides, each sorted, and what is to be said of them."""

    train: Indices
    test: Indices
    words: str
    figures: dict[str, Any]
    leak: str = ""
    """What is on both sides, and why it may be."""


def split(rows: Rows, section: SplitSection, time: str | None, group: str | None) -> Split:
    """Hold out `section.test` of the rows: at random (classes in proportion), the latest by time, whole groups, or what
    the hash of a key says.

    At random and by group, rows that are equal in target and features go to one side; by time every held-out row is
    strictly later than every learnt one. A `Fault` where that cannot be done; `Refused` with the counts where times,
    entities or equal rows are on both sides and no reason is given.
    """
    if not 0.0 < section.test < 1.0:
        raise got("split.test", section.test, "a share between 0 and 1")
    same = _same(rows.frame, [rows.plan.target, *(column.name for column in rows.plan.features)])
    train, test, words = _sides(rows, section, time, group, same)
    _check(rows, train, test)
    at = instants(rows.frame[time]) if time is not None else None
    leaks = crossings(same, at, rows.frame[group] if group is not None else None, train, test)
    if leaks and not section.allow_leak:
        raise Refused(
            f"got {'; '.join(leaks)}, expected nothing on both sides",
            field="split",
            next="split otherwise, leave it out, or say why it may be: --allow-leak REASON, which is kept",
        )
    figures: dict[str, Any] = {
        "train": len(train),
        "test": len(test),
        "by": section.by,
        "seed": section.seed,
        "duplicates": int(len(same) - len(np.unique(same))),
    }
    told = [f"{len(train):,} rows to learn from, {len(test):,} held out {words}"]
    if figures["duplicates"]:
        told.append(f"{figures['duplicates']:,} rows are repeated")
    leak = f"{'; '.join(leaks)}: allowed, {section.allow_leak}" if leaks else ""
    if leak:
        figures["leak"] = leak
        told.append(f"LEAK {leak}")
    return Split(train, test, "; ".join(told), figures, leak)


def _sides(
    rows: Rows, section: SplitSection, time: str | None, group: str | None, same: Indices
) -> tuple[Indices, Indices, str]:
    """Which rows are learnt from and which are held out, and by what, in words."""
    rng = np.random.default_rng(section.seed)
    if section.by == "time":
        return _by_time(rows, _named("time", time), section.test)
    if section.by == "group":
        return _by_group(rows.frame, _named("group", group), same, section.test, rng)
    if section.by == "hash":
        return _by_hash(rows.frame, _key(rows, section, group), section)
    strata = rows.frame[rows.plan.target].to_list() if rows.plan.task == "classification" else None
    train, test = at_random(same, strata, section.test, rng)
    return train, test, "at random" + (", classes in proportion" if strata is not None else "")


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


def _by_time(rows: Rows, column: str, share: float) -> tuple[Indices, Indices, str]:
    cells = rows.frame[column]
    try:
        at = instants(cells)
    except ValueError as error:
        raise got(column, str(error), "dates or times as ISO 8601 (2026-01-31 12:00), or numbers") from None
    border = float(np.sort(at)[round((1 - share) * len(at))]) if share * len(at) >= 1 else float(at.max())
    out = at >= border
    train, test = np.flatnonzero(~out), np.flatnonzero(out)
    if not len(train):
        raise got(column, "one time in too many rows", f"times that leave {1 - share:.0%} of the rows before the rest")
    shown = cells[int(test[np.argmin(at[test])])]
    if isinstance(shown, float) and rows.table.column(column).kind == "time":  # a time of Parquet is read as seconds
        shown = datetime.fromtimestamp(shown, UTC).isoformat(timespec="seconds")
    return train, test, f"by {column}, all from {shown} on"


def _by_group(
    frame: pl.DataFrame, column: str, same: Indices, share: float, rng: np.random.Generator
) -> tuple[Indices, Indices, str]:
    values = frame[column]
    blank = int(values.is_null().sum())
    if blank:
        raise got(column, f"{blank} rows without a group", "a group in every row")
    groups = np.asarray(values.rank("dense").to_numpy(), dtype=np.int64) - 1
    together = joined(groups, same)
    if np.bincount(together).max() > (1 - share / 2) * len(groups):
        together = groups  # too much hangs together; what is on both sides is said
    train, test = at_random(together, None, share, rng)
    if not len(train) or not len(test):
        raise got(column, "one group", "at least two groups")
    return train, test, f"by {column}, {len(np.unique(groups[test])):,} of {len(np.unique(groups)):,} groups"


def _key(rows: Rows, section: SplitSection, group: str | None) -> list[str]:
    for name in section.key:
        if name not in rows.frame.columns:
            raise missing("split.key", name, rows.frame.columns)
    return list(section.key) or ([group] if group else [rows.plan.target, *(one.name for one in rows.plan.features)])


def _by_hash(frame: pl.DataFrame, key: list[str], section: SplitSection) -> tuple[Indices, Indices, str]:
    """A row is held out where the hash of its key, as a share of all hashes, is below `test`, in every file."""
    blank = int(frame.select(pl.any_horizontal(pl.col(key).is_null()).sum()).item()) if section.key else 0
    if blank:
        raise got("split.key", f"{blank} rows without a key", "a key in every row")
    texts = frame.select(pl.concat_str(pl.col(key).cast(pl.String).fill_null(""), separator="\x1f").alias("key"))["key"]
    seed = section.seed.to_bytes(8, "little", signed=True)
    held = {text: _share(text, seed) < section.test for text in texts.unique().to_list()}
    out = np.array([held[text] for text in texts.to_list()], dtype=bool)
    named = ", ".join(key) if section.key or len(key) == 1 else "the whole row"
    return np.flatnonzero(~out), np.flatnonzero(out), f"by the hash of {named}"


def _share(text: str, seed: bytes) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=seed).digest(), "little") / 2.0**64


def joined(groups: Indices, same: Indices) -> Indices:
    """A number a row, the same for groups (0 to k - 1) that have an equal row in common, also by way of others."""
    pairs = pl.DataFrame({"group": groups, "same": same}).unique().sort("same", "group")
    linked = pairs.filter(pl.col("same").is_duplicated())
    above = list(range(int(groups.max()) + 1))

    def top(group: int) -> int:
        while above[group] != group:
            above[group] = above[above[group]]
            group = above[group]
        return group

    for _, members in linked.group_by("same", maintain_order=True).agg("group").iter_rows():
        for other in members[1:]:
            above[top(other)] = top(members[0])
    return np.array([top(group) for group in range(len(above))], dtype=np.int64)[groups]


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
