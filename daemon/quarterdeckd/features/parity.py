"""Whether what is read online is what is kept offline: a sample of entities, read both ways at one instant."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from quarterdeckd.features.joining import KNOWN, TIME, as_of
from quarterdeckd.features.lumps import of_kinds, scanned
from quarterdeckd.features.reading import KINDS
from quarterstore.records.faults import Conflict
from quarterstore.records.feature_checks import Mismatch, ParityResult, ParitySpec
from quarterstore.records.features import Reading
from quarterstore.shelf.entity_keys import key_bytes
from quarterstore.shelf.online import Online, Pushed

SHOWN: Final = 5


def run(spec: ParitySpec, report: Any) -> ParityResult:
    """Both sides at this instant."""
    if spec.online.folder and not Path(spec.online.folder).is_dir():
        raise Conflict(f"{spec.online.generation} is no longer read", field="view", next="ask again")
    report.progress("compare", words=f"{spec.sample:,} entities of {spec.wanted.view}")
    return compared(spec, time.time())


def compared(spec: ParitySpec, now: float) -> ParityResult:
    """Both sides at `now` (seconds since 1970). Offline: rows of the generation's files that were due when it was made,
    and what was pushed. What waits to be materialised is a lag and no mismatch: it is counted on neither side."""
    view = spec.wanted
    keys, names = [key.name for key in view.keys], [each.name for each in view.features]
    values = _due(spec)
    asked = _sample(values, keys, spec)
    moment = round(now * 1e6)
    reading = Reading(how="corrected")  # all that is known now
    asked = asked.with_columns(pl.lit(moment, pl.Int64).alias(TIME))
    offline = as_of(asked, values, keys, names, reading, view.ttl).rows()
    pushed = Pushed(Path(spec.pushed)) if Path(spec.pushed).is_dir() else None
    entities = asked.select(keys).rows()
    online = Online(spec.online, pushed).read(entities, now, names)
    since = _pushed_since(pushed, entities, spec)
    found = []
    for key, kept, read in zip(entities, offline, online, strict=True):
        if key in since:
            continue
        *features, status, age = kept
        differ = not _same([*features, age], [*read.values, read.age]) or status != read.status
        if differ:
            found.append(
                Mismatch(
                    keys=[str(part) for part in key],
                    features=tuple(names),
                    offline=[_plain(each) for each in features],
                    online=[_plain(each) for each in read.values],
                    statuses=(status, read.status),
                    ages=(age, read.age),
                )
            )
    compared = asked.height - len(since)
    words = f"{len(found):,} mismatches of {compared:,}"
    return ParityResult(view.view, compared, len(found), tuple(found[:SHOWN]), spec.online.generation, words)


def _pushed_since(pushed: Pushed | None, entities: Sequence[tuple[Any, ...]], spec: ParitySpec) -> set[tuple[Any, ...]]:
    """The entities that were pushed after the files were noted: what is read of them online is in no file yet."""
    if pushed is None:
        return set()
    newest = pushed.newest(spec.online.name, [key_bytes(key) for key in entities]) or [None] * len(entities)
    at = round(spec.at * 1e6)
    return {key for key, row in zip(entities, newest, strict=True) if row is not None and row[1] > at}


def _due(spec: ParitySpec) -> pl.LazyFrame:
    """The rows that ought to be read online."""
    view = spec.wanted
    kinds = {key.name: KINDS[key.kind] for key in view.keys} | {TIME: pl.Int64, KNOWN: pl.Int64}
    kinds |= {each.name: KINDS[each.kind] for each in view.features}
    made = round(spec.online.made * 1e6)
    parts = []
    for lump in view.lumps:
        if (there := set(spec.files).intersection(lump.of)) and spec.online.generation:
            rows = of_kinds(scanned(lump, there), kinds)
            parts.append(rows.filter((pl.col(TIME) <= made) & (pl.col(KNOWN) <= made)))
        if pushed := set(spec.pushed_files).intersection(lump.of):
            parts.append(of_kinds(scanned(lump, pushed), kinds))
    return pl.concat(parts) if parts else pl.LazyFrame(schema=kinds)


def _sample(values: pl.LazyFrame, keys: Sequence[str], spec: ParitySpec) -> pl.DataFrame:
    """Entities by the order of a hash of their keys and the seed; no row of them is read but the keys."""
    entities = values.select(keys).unique().collect()
    order = pl.struct(keys).hash(spec.seed)
    return entities.sort(order, *keys).head(spec.sample)


def _same(left: Sequence[Any], right: Sequence[Any]) -> bool:
    return all(_alike(one, other) for one, other in zip(left, right, strict=True))


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def _plain(value: Any) -> Any:
    """A value as JSON has it: what is no finite number as a text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
