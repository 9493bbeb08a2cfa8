"""Rows of a view taken in: every cell checked, sorted by time, kept as Parquet as the join reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import polars as pl

from quarterdeckd.features.joining import KNOWN, TIME
from quarterdeckd.features.lumps import write
from quarterdeckd.features.reading import collected, column, need, opened, refuse_null, times
from quarterstore.records.faults import got
from quarterstore.records.features import RowsResult, RowsSpec

OUTPUT: Final = "out/rows.parquet"


def run(spec: RowsSpec, report: Any) -> RowsResult:
    """Read, check, sort by event time (of equal times by when they were known, then as they came) and write."""
    view = spec.view
    report.progress("read", words=view.name)
    rows = opened(Path(spec.data), spec.format)
    wanted = {**{key.name: "key" for key in view.keys}, view.event_time: "event_time"}
    if spec.known == "column" and view.created_time:
        wanted[view.created_time] = "created_time"
    need(rows, {**wanted, **{each.name: "feature" for each in view.features}})
    frame = collected(rows.select(*wanted, *(each.name for each in view.features)))
    if frame.is_empty():
        raise got("file", "no row", "at least one row")
    report.progress("check", words=f"{frame.height:,} rows")
    kept = pl.DataFrame(
        [
            *(column(frame, key.name, key.kind) for key in view.keys),
            times(frame, view.event_time).alias(TIME),
            *([times(frame, view.created_time).alias(KNOWN)] if spec.known == "column" and view.created_time else []),
            *(column(frame, each.name, each.kind) for each in view.features),
        ]
    )
    refuse_null(kept, [key.name for key in view.keys])
    if spec.known == "event":
        kept = kept.with_columns(pl.col(TIME).alias(KNOWN))
    order = [TIME, KNOWN] if spec.known == "column" else [TIME]
    kept = kept.sort(order, maintain_order=True)
    write(kept, Path(OUTPUT))
    late = int((kept[KNOWN] > kept[TIME]).sum()) if spec.known == "column" else 0
    first, last = kept[TIME][0] / 1e6, kept[TIME][-1] / 1e6
    known_from = float((kept[KNOWN].sort()[0]) // 1_000_000) if spec.known == "column" else None
    return RowsResult(output=OUTPUT, rows=kept.height, first_at=first, last_at=last, late=late, known_from=known_from)
