"""A training set: rows of entities, each with the features that were known at its time, and an id made of all that
went in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from quarterdeckd.features.joining import KNOWN, TIME, as_of
from quarterdeckd.features.reading import KINDS, collected, column, need, opened, times
from quarterdeckd.features.rows import GROUP
from quarterstore.records.faults import Conflict, got
from quarterstore.records.features import JoinResult, JoinSpec, Wanted

OUTPUT: Final = "training_set.parquet"
STATUS: Final = "__status"
AGE: Final = "__age"


def run(spec: JoinSpec, report: Any) -> JoinResult:
    """Join view after view; the file has the columns of the entities, then the features, then for each view its status
    and the age of the value in seconds (`VIEW__status`, `VIEW__age`)."""
    rows = opened(Path(spec.entities), spec.format)
    keys = list(dict.fromkeys(key for view in spec.views for key in view.keys))
    need(rows, {spec.time: "time", **{key.name: "key" for key in keys}})
    frame = collected(rows)
    if frame.is_empty():
        raise got("entities", "no row", "at least one row")
    asked = pl.DataFrame([*(column(frame, key.name, key.kind) for key in keys), times(frame, spec.time).alias(TIME)])
    newest = int(asked[TIME].max() or 0)  # type: ignore[arg-type]
    statuses: dict[str, dict[str, int]] = {}
    used: list[tuple[str, ...]] = []
    for number, (view, sources) in enumerate(zip(spec.views, spec.sources, strict=True)):
        report.progress("join", number / len(spec.views), view.view)
        name = view.view.partition("@")[0]
        clash = [each.name for each in view.features if each.name in frame.columns]
        if clash:
            raise Conflict(f"{clash[0]} is a column of the entities and a feature of {view.view}", field="entities")
        mattering = [_matters(known, newest, spec) for known in view.known]
        used.append(tuple(source for source, does in zip(sources, mattering, strict=True) if does))
        found = as_of(
            asked,
            _values(view, mattering),
            [key.name for key in view.keys],
            [each.name for each in view.features],
            spec.reading,
            view.ttl,
        )
        statuses[name] = {str(each): int(n) for each, n in found["status"].value_counts().iter_rows()}
        frame = frame.hstack(found.rename({"status": f"{name}{STATUS}", "age": f"{name}{AGE}"}).get_columns())
    frame.write_parquet(OUTPUT, compression="zstd", compression_level=3, row_group_size=GROUP)
    return JoinResult(id=_identity(spec, used), output=OUTPUT, rows=frame.height, statuses=statuses, used=tuple(used))


def _matters(known: float | None, newest: int, spec: JoinSpec) -> bool:
    """Whether rows that were known from an instant on can be in the set: not where all of it is older."""
    if known is None:
        return True
    at = spec.reading.known_at
    return (spec.reading.how == "corrected" or known * 1e6 <= newest) and (at is None or known <= at)


def _values(view: Wanted, mattering: Sequence[bool]) -> pl.LazyFrame:
    """The rows of a view, file after file: of equal times a later file holds unless a row was known earlier."""
    keys, names = [key.name for key in view.keys], [each.name for each in view.features]
    parts = []
    for path, known, does in zip(view.files, view.known, mattering, strict=True):
        if not does:
            continue
        part = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        there = part.collect_schema()
        if known is not None:
            part = part.with_columns(pl.lit(round(known * 1e6), pl.Int64).alias(KNOWN))
        lacking = [  # older than the feature
            pl.lit(None, KINDS[each.kind]).alias(each.name) for each in view.features if each.name not in there
        ]
        parts.append(part.with_columns(lacking).select(*keys, TIME, KNOWN, *names))
    if not parts:
        kinds = {key.name: KINDS[key.kind] for key in view.keys} | {TIME: pl.Int64, KNOWN: pl.Int64}
        kinds |= {each.name: KINDS[each.kind] for each in view.features}
        return pl.LazyFrame(schema=kinds)
    return pl.concat(parts)


def _identity(spec: JoinSpec, used: Sequence[tuple[str, ...]]) -> str:
    """The hash of what went in, and of nothing else: not of files that could not matter."""
    views = [
        (view.view, view.keys, view.features, view.ttl, files) for view, files in zip(spec.views, used, strict=True)
    ]
    asked = msgspec.msgpack.encode((spec.digest, spec.time, spec.reading, views))
    return f"set-{hashlib.sha256(asked).hexdigest()[:24]}"
