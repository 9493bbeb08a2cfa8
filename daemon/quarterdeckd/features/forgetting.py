"""What is forgotten of an entity: every file of its views without its rows, and which training sets hold it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from quarterdeckd.features.joining import TIME
from quarterdeckd.features.lumps import OF, scanned, write
from quarterdeckd.features.reading import KINDS
from quarterstore.records.base import Record
from quarterstore.records.faults import Invalid, got
from quarterstore.records.feature_files import Cleaned, ForgetResult, ForgetSpec, ForgetView, Made
from quarterstore.records.features import Key, Lump


class Entity(Record, frozen=True):
    """The file that says whom: names of keys and their values as text, and something random."""

    keys: dict[str, str]
    salt: str


def run(spec: ForgetSpec, report: Any) -> ForgetResult:
    """Search, and write anew what holds it. Nothing of the entity is in the result or in the job's folder."""
    keys = entity_of(Path(spec.entity).read_bytes())
    cleaned: list[Cleaned] = []
    for view in spec.views:
        here = _matching(view.keys, keys)
        for place, (lump, digest) in enumerate(zip(view.lumps, view.digests, strict=True)):
            report.progress("search", place / len(view.lumps), view.view)
            found = _cleaned(view, lump, digest, here, Path("out") / f"{view.view}-{place}.parquet")
            cleaned.extend(found)
    report.progress("search", words=f"{len(spec.sets)} training sets")
    kinds = {key.name: key.kind for view in spec.views for key in view.keys}
    sets = tuple(each.id for each in spec.sets if _holds(each.file, keys, kinds))
    return ForgetResult(files=tuple(cleaned), sets=sets)


def entity_of(data: bytes) -> dict[str, str]:
    """The keys that the file names; `Invalid` where it is none."""
    try:
        return msgspec.json.decode(data, type=Entity).keys
    except msgspec.MsgspecError:
        raise got("entity", "a file that names no entity", "JSON with keys and salt") from None


def _matching(keys: tuple[Key, ...], values: Mapping[str, str]) -> pl.Expr:
    """Of the rows of a view, those of the entity."""
    kinds = {key.name: key.kind for key in keys}
    typed = [pl.col(name) == _typed(name, value, kinds[name]) for name, value in values.items()]
    return pl.all_horizontal(typed)


def _typed(name: str, value: str, kind: str) -> str | int:
    if kind == "text":
        return value
    try:
        return int(value)
    except ValueError:
        raise Invalid("got a value that is no integer, expected one", field=name) from None


def _cleaned(view: ForgetView, lump: Lump, digest: str, here: pl.Expr, path: Path) -> list[Cleaned]:
    rows = scanned(lump)
    removed = rows.select(here.sum()).collect(engine="streaming").item()
    if not removed:
        return []
    kept = rows.filter(~here).collect()
    if kept.is_empty():
        return [Cleaned(view=view.view, digest=digest, removed=removed, made=None)]
    of = lump.of
    if OF in kept.columns:
        there = sorted(kept[OF].unique())
        of = tuple(lump.of[place] for place in there)
        kept = kept.with_columns(pl.col(OF).replace_strict(there, list(range(len(there))), return_dtype=pl.UInt32))
    write(kept, path)
    made = Made(
        output=str(path),
        rows=kept.height,
        first_at=kept[TIME][0] / 1e6,
        last_at=kept[TIME][-1] / 1e6,
        span="",
        of=of,
    )
    return [Cleaned(view=view.view, digest=digest, removed=removed, made=made)]


def _holds(file: str, keys: Mapping[str, str], kinds: Mapping[str, str]) -> bool:
    rows = pl.scan_parquet(file, glob=False, hive_partitioning=False)
    there = rows.collect_schema()
    if any(name not in there for name in keys):
        return False
    cast = {
        name: pl.col(name).cast(KINDS["text" if kinds[name] == "text" else "integer"], strict=False) for name in keys
    }
    here = pl.all_horizontal(cast[name] == _typed(name, value, kinds[name]) for name, value in keys.items())
    return bool(rows.select(here.any()).collect(engine="streaming").item())
