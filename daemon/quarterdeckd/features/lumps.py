"""The rows of a file of a view: those that came in certain files, with the time each was known."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from quarterdeckd.features.joining import KNOWN
from quarterstore.records.features import Lump

OF: Final = "__of"
"""In a file that was made of several: the place, among its `of`, of the one that a row came in."""
GROUP: Final = 131_072


def scanned(lump: Lump, used: Collection[str] | None = None) -> pl.LazyFrame:
    """Every column that is there, with `KNOWN`, and `OF` where the file has one; only rows of `used` where that is
    given."""
    rows = pl.scan_parquet(lump.file, glob=False, hive_partitioning=False)
    if lump.known is not None:
        rows = rows.with_columns(pl.lit(round(lump.known * 1e6), pl.Int64).alias(KNOWN))
    if used is not None and any(each not in used for each in lump.of):
        rows = rows.filter(pl.col(OF).is_in([place for place, each in enumerate(lump.of) if each in used]))
    return rows


def of_kinds(rows: pl.LazyFrame, kinds: Mapping[str, Any]) -> pl.LazyFrame:
    """These columns in this order; one that the rows are older than is null."""
    there = rows.collect_schema()
    lacking = [pl.lit(None, kind).alias(name) for name, kind in kinds.items() if name not in there]
    return rows.with_columns(lacking).select(*kinds)


def write(rows: pl.DataFrame, path: Path) -> None:
    """As every file of a view is written, sorted by whoever calls."""
    path.parent.mkdir(exist_ok=True)
    rows.write_parquet(path, compression="zstd", compression_level=3, row_group_size=GROUP)
