"""The rows of a file, or those that two differ by, counted in a throw-away process: `python -m
quarterdeckd.pipeline.rows A FORMAT [B FORMAT]`."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import msgspec
import polars as pl

from quarterdeckd.features.reading import UNREADABLE, said
from quarterstore.records.datasets import RowDifference
from quarterstore.records.faults import Fault, got
from quarterstore.records.tables import unquoted

MOST_MEMORY = 8 * 1024**3
SEEDS = (0, 1)
"""Two hashes of 64 bits a row: among 100 million rows two different ones are alike once in 10^22 comparisons."""


def scanned(path: Path, format_: str) -> pl.LazyFrame:
    """A file as texts: CSV as it is written, Parquet as polars writes its values; what is missing is empty."""
    frame = pl.scan_csv(path, infer_schema=False) if format_ == "csv" else pl.scan_parquet(path)
    if format_ == "csv":
        frame = frame.rename(unquoted(path, frame.collect_schema().names()))
    return frame.select(pl.all().cast(pl.String).fill_null(""))


def difference(before: tuple[Path, str], after: tuple[Path, str]) -> RowDifference:
    """Rows of each file that the other has not, each as often as it is there, over the columns that both have; the
    order of rows and of columns is no difference. Raises `Invalid` for a file that cannot be read."""
    try:
        frames = [scanned(*each) for each in (before, after)]
        names = [frame.collect_schema().names() for frame in frames]
        both = sorted(set(names[0]) & set(names[1]))
        if both:
            counts, added, removed = _counted(frames, both)
        else:
            counts = [_rows(frame) for frame in frames]
            removed, added = counts
    except (*UNREADABLE, UnicodeDecodeError) as error:
        raise got("dataset", said(error), "rows that can be read") from None
    return RowDifference(
        rows_before=counts[0],
        rows_after=counts[1],
        added=added,
        removed=removed,
        columns_added=tuple(name for name in names[1] if name not in names[0]),
        columns_removed=tuple(name for name in names[0] if name not in names[1]),
    )


def count(path: Path, format_: str) -> int:
    """How many rows a file has. Raises `Invalid` for one that cannot be read."""
    try:
        return _rows(scanned(path, format_))
    except (*UNREADABLE, UnicodeDecodeError) as error:
        raise got("dataset", said(error), "rows that can be read") from None


def _rows(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect(engine="streaming").item())


def _counted(frames: list[pl.LazyFrame], both: list[str]) -> tuple[list[int], int, int]:
    row = pl.struct(both)
    hashes = [
        frame.select(
            *(row.hash(seed).alias(f"h{seed}") for seed in SEEDS),
            pl.lit(side == 0).cast(pl.Int64).alias("before"),
            pl.lit(side == 1).cast(pl.Int64).alias("after"),
        )
        for side, frame in enumerate(frames)
    ]
    totals = pl.concat(hashes).group_by(*(f"h{seed}" for seed in SEEDS)).agg(pl.sum("before"), pl.sum("after"))
    more = pl.col("after") - pl.col("before")
    found = totals.select(
        pl.sum("before"),
        pl.sum("after"),
        more.clip(lower_bound=0).sum().alias("added"),
        (-more).clip(lower_bound=0).sum().alias("removed"),
    ).collect(engine="streaming")
    before, after, added, removed = (int(value) for value in found.row(0))
    return [before, after], added, removed


def main(argv: list[str]) -> int:
    """Print the count, or the difference, as JSON, or the fault's line on stderr."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    try:
        sides = [(Path(path), format_) for path, format_ in zip(argv[1::2], argv[2::2], strict=True)]
        found = count(*sides[0]) if len(sides) == 1 else difference(sides[0], sides[1])
    except Fault as fault:
        print(fault.line(), file=sys.stderr)
        return 1
    print(msgspec.json.encode(found).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
