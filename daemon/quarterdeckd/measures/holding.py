"""Which outcomes hold, and what they say of the answers of each version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from quarterstore.records.outcomes import LABEL, ArmOutcome, Unit

ANSWERED = ("id", "row", "version")


def scanned(paths: Sequence[Path]) -> pl.LazyFrame:
    """The rows of files of outcomes. Those kept before points were are each of a caller of its own."""
    found = []
    for path in paths:
        rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        found.append(rows if "dealt" in rows.collect_schema() else rows.with_columns(dealt=pl.col("id").hash()))
    return pl.concat(found, how="diagonal")


def values(paths: Sequence[Path], endpoint: str, since_epoch: int = 0) -> pl.LazyFrame:
    """Every value that was given for answers of an endpoint from an epoch on, in the order in which a later one takes
    the place of an earlier one."""
    return (
        scanned(paths)
        .filter((pl.col("endpoint") == endpoint) & (pl.col("epoch") >= since_epoch))
        .sort("time", "came", "line")
    )


def holding(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The one value of each answer that holds: the last that is not late."""
    return rows.filter(~pl.col("late")).unique(ANSWERED, keep="last", maintain_order=True)


def right() -> pl.Expr:
    """Whether the prediction is the label: the same text, or the same number."""
    as_number = pl.col("prediction").cast(pl.Float64, strict=False)
    return ((pl.col("prediction") == pl.col("value")) | (as_number == pl.col("number"))).fill_null(False)


def by_arm(
    paths: Sequence[Path], endpoint: str, metric: str, since_epoch: int, unit: Unit = "answer"
) -> dict[str, ArmOutcome]:
    """What came of the answers of each version; see `ArmOutcome` and `Unit`."""
    if not paths:
        return {}
    rows = values(paths, endpoint, since_epoch)
    if unit != "answer":
        rows = rows.filter(pl.col("dealt").is_not_null())
    held = holding(rows)
    value = right().cast(pl.Float64) if metric == LABEL else pl.col("number")
    units = held.select("version", "dealt", value.alias("v"))
    if unit == "caller":
        units = units.group_by("version", "dealt").agg(pl.col("v").mean())
    of_value = units.group_by("version").agg(
        n=pl.len(),
        mean=pl.col("v").mean(),
        m2=((pl.col("v") - pl.col("v").mean()) ** 2).sum(),
        successes=(pl.col("v") > 0).sum(),
    )
    only_late = (
        rows.filter("late").select(ANSWERED).unique().join(held.select(ANSWERED), on=ANSWERED, how="anti")
    ).select("version")
    counted, late = pl.collect_all([of_value, only_late.group_by("version").len()])
    lates = dict(late.iter_rows())
    found = {
        version: ArmOutcome(version=version, n=n, mean=mean, m2=m2, successes=successes, late=lates.pop(version, 0))
        for version, n, mean, m2, successes in counted.iter_rows()
    }
    for version, number in lates.items():
        found[version] = ArmOutcome(version=version, n=0, mean=0.0, m2=0.0, successes=0, late=number)
    return found


def labelled(paths: Sequence[Path], endpoint: str, version: str, since: float) -> tuple[int, int]:
    """Of the answers that a version gave at an endpoint at `since` (seconds of the epoch) or later: how many have a
    label in time, and how many of those were right."""
    if not paths:
        return 0, 0
    given = values(paths, endpoint).filter((pl.col("version") == version) & (pl.col("at") >= since))
    n, right_ones = holding(given).select(pl.len(), right().sum()).collect().row(0)
    return int(n), int(right_ones)


def came_after(paths: Sequence[Path], endpoint: str, moment: float) -> int:
    """Answers of an endpoint whose first value came after a moment; a value that is corrected is no new row."""
    if not paths:
        return 0
    given = scanned(paths).filter(pl.col("endpoint") == endpoint).group_by("id", "row").agg(pl.col("came").min())
    return int(given.filter(pl.col("came") > moment).select(pl.len()).collect().item())


def answered(paths: Sequence[Path], since_epoch: int = 0) -> dict[str, int]:
    """Rows that each version answered to a caller from an epoch on, in files of recorded predictions."""
    counts: dict[str, int] = {}
    for path in paths:
        rows = pl.scan_parquet(path, glob=False, hive_partitioning=False).filter(
            (pl.col("epoch") >= since_epoch) & (pl.col("status") == 200) & (pl.col("role") != "shadow")
        )
        for version, number in rows.group_by("version").len().collect().iter_rows():
            counts[version] = counts.get(version, 0) + number
    return counts
