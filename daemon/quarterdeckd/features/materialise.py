"""The newest value of each entity of a view, as it is known now, written as a generation that hosts read."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import polars as pl

from quarterdeckd.features.joining import KNOWN, TIME
from quarterdeckd.features.lumps import of_kinds, scanned
from quarterdeckd.features.reading import KINDS
from quarterstore.records.features import FeatureView, Lump
from quarterstore.records.online import MaterialiseResult, MaterialiseSpec
from quarterstore.shelf import online
from quarterstore.shelf.entity_keys import LONGEST, key_bytes

AT_ONCE: Final = 100_000
"""Entities that are made ready at a time."""
Pair = tuple[bytes, bytes]


def run(spec: MaterialiseSpec, report: Any) -> MaterialiseResult:
    """Of each entity the value with the latest event time up to `made` among those known by then, of equal ones that
    known last; on top of the generation before, if there is one. Begun again it begins anew: nobody sees a part."""
    began = time.perf_counter()
    if spec.before is not None and not spec.files:
        return _unchanged(spec)
    frames, waiting, rows = [], [], 0
    for number, lump in enumerate(spec.lumps):
        words = f"{spec.view.name}: file {number + 1} of {len(spec.lumps)}"
        report.progress("read", number / len(spec.lumps), words)
        frame = _rows(lump, spec.view, spec.files)
        due = _due(frame, round(spec.made * 1e6))
        rows += frame.height
        if due.height < frame.height:
            waiting += [each for each in lump.of if each in spec.files]
        frames.append(_latest(due, spec.view))
    fresh = _merged_frames(frames, spec.view)
    report.progress("write", words=f"{fresh.height:,} entities")
    before = online.pairs_in(Path(spec.folder) / spec.before.id) if spec.before is not None else iter(())
    folder = Path(spec.folder) / spec.generation
    count = online.write(folder, _merged(before, _pairs(fresh, spec.view)))
    newest = _newest(fresh, spec)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return MaterialiseResult(
        generation=spec.generation,
        waiting=tuple(waiting),
        entities=count,
        rows=rows,
        newest=newest,
        seconds=time.perf_counter() - began,
        size=size,
    )


def _unchanged(spec: MaterialiseSpec) -> MaterialiseResult:
    before = spec.before
    assert before is not None
    return MaterialiseResult(
        generation=before.id,
        waiting=before.waiting,
        entities=before.entities,
        rows=0,
        newest=before.newest,
        seconds=0.0,
        size=before.size,
        unchanged=True,
    )


def _rows(lump: Lump, view: FeatureView, files: Collection[str]) -> pl.DataFrame:
    """The rows of a view that came in certain files: keys, both times, and every feature."""
    kinds: dict[str, Any] = {key.name: KINDS[key.kind] for key in view.keys}
    kinds |= {TIME: pl.Int64(), KNOWN: pl.Int64(), **{each.name: KINDS[each.kind] for each in view.features}}
    rows = of_kinds(scanned(lump, files), kinds)
    return (rows.sort(TIME, KNOWN, maintain_order=True) if len(lump.of) > 1 else rows).collect()


def _due(frame: pl.DataFrame, made: int) -> pl.DataFrame:
    """The rows that hold, and were known, at an instant (microseconds): nearly always all of them."""
    there = frame.select((pl.col(TIME) <= made) & (pl.col(KNOWN) <= made)).to_series()
    return frame if there.all() else frame.filter(there)


def _latest(frame: pl.DataFrame, view: FeatureView) -> pl.DataFrame:
    """The last row of each entity; a file is in the order of its times."""
    return frame.unique([key.name for key in view.keys], keep="last", maintain_order=False)


def _merged_frames(frames: list[pl.DataFrame], view: FeatureView) -> pl.DataFrame:
    """The latest of what several files say; of equal times the later file holds."""
    if len(frames) == 1:
        return frames[0]
    return _latest(pl.concat(frames).sort(TIME, KNOWN, maintain_order=True), view)


def _pairs(frame: pl.DataFrame, view: FeatureView) -> list[Pair]:
    """Rows as the store keeps them, in the order of its keys: nearly that of the columns, so the sort finds little."""
    names = [key.name for key in view.keys]
    ordered = frame.sort(names)
    pairs: list[Pair] = []
    for part in ordered.iter_slices(AT_ONCE):
        values = part.select(pl.exclude(names)).rows()
        pairs += zip(_keys(part.select(names)), map(online.packed, values), strict=True)
    pairs.sort(key=itemgetter(0))
    return pairs


def _keys(frame: pl.DataFrame) -> Iterable[bytes]:
    """`key_bytes` of each row; of one short text, as most keys are, at once in a column."""
    if frame.width == 1 and frame.schema.dtypes() == [pl.String]:
        [column] = frame.get_columns()
        longest: Any = column.str.len_bytes().max()
        if longest <= LONGEST - 2 and not column.str.contains("\0", literal=True).any():
            return frame.select(pl.concat_str(pl.lit("\2"), column, pl.lit("\0")).cast(pl.Binary)).to_series().to_list()
    return map(key_bytes, frame.rows())


def _merged(before: Iterator[Pair], fresh: Iterable[Pair]) -> Iterator[Pair]:
    """Both in the order of their keys; of one key the later row, of equal ones the fresh one."""
    old = next(before, None)
    for key, row in fresh:
        while old is not None and old[0] < key:
            yield old
            old = next(before, None)
        if old is not None and old[0] == key:
            row = row if online.times_in(row) >= online.times_in(old[1]) else old[1]
            old = next(before, None)
        yield key, row
    while old is not None:
        yield old
        old = next(before, None)


def _newest(fresh: pl.DataFrame, spec: MaterialiseSpec) -> float | None:
    found: list[float] = [] if fresh.is_empty() else [fresh[TIME].max() / 1e6]  # type: ignore[operator, list-item]
    if spec.before is not None and spec.before.newest is not None:
        found.append(spec.before.newest)
    return max(found, default=None)
