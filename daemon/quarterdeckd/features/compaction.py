"""Few files of the many of a view: one a year or a month, sorted as the join reads, with where each row came from."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from quarterdeckd.features.joining import KNOWN, TIME
from quarterdeckd.features.lumps import OF, scanned, write
from quarterstore.records.feature_files import CompactResult, CompactSpec, Made
from quarterstore.records.features import Lump
from quarterstore.shelf.files import write_whole

FORMS = {"year": "%Y", "month": "%Y-%m"}


def run(spec: CompactSpec, report: Any) -> CompactResult:
    """Span after span; what an earlier attempt over the same files finished is taken over."""
    work = _work(spec)
    digests = list(dict.fromkeys(each for lump in spec.lumps for each in lump.of))
    rows = pl.concat([_told(lump, digests) for lump in spec.lumps], how="diagonal")
    span = pl.from_epoch(TIME, time_unit="us").dt.strftime(FORMS[spec.every])
    spans = sorted(rows.select(span.alias("span").unique()).collect(engine="streaming")["span"])
    resumed, made = 0, []
    for number, name in enumerate(spans):
        report.progress("compact", number / len(spans), name)
        note, part = work / f"{name}.json", work / f"{name}.parquet"
        if note.exists():
            resumed += 1
        else:
            _span(rows.filter(span == name), digests, name, part, note)
        made.append(msgspec.json.decode(note.read_bytes(), type=Made))
    out = Path("out")
    out.mkdir(exist_ok=True)
    for each in made:
        (work / f"{each.span}.json").unlink()
        os.replace(work / f"{each.span}.parquet", out / f"{each.span}.parquet")
    return CompactResult(parts=tuple(made), rows=sum(each.rows for each in made), resumed=resumed)


def _work(spec: CompactSpec) -> Path:
    """The folder of finished spans, emptied where it is of other files."""
    work = Path(spec.work)
    work.mkdir(parents=True, exist_ok=True)
    lumps = [(lump.of, lump.known, os.stat(lump.file).st_size) for lump in spec.lumps]
    wanted = hashlib.sha256(msgspec.msgpack.encode((spec.view, spec.every, lumps))).hexdigest()
    of = work / "of"
    if not of.exists() or of.read_text() != wanted:
        for path in work.iterdir():
            path.unlink()
        write_whole(of, wanted.encode())
    return work


def _told(lump: Lump, digests: list[str]) -> pl.LazyFrame:
    """The rows of a file with the place of where they came from among all of `digests`."""
    rows, places = scanned(lump), [digests.index(each) for each in lump.of]
    if OF in rows.collect_schema():
        told = pl.col(OF).replace_strict(list(range(len(places))), places, return_dtype=pl.UInt32)
    else:
        told = pl.lit(places[0], pl.UInt32)
    return rows.with_columns(told.alias(OF))


def _span(rows: pl.LazyFrame, digests: list[str], name: str, part: Path, note: Path) -> None:
    """One span, stable: of equal times the row that was known later, then the one that came later, is last."""
    kept = rows.collect().sort(TIME, KNOWN, maintain_order=True)
    there = sorted(kept[OF].unique())
    kept = kept.with_columns(pl.col(OF).replace_strict(there, list(range(len(there))), return_dtype=pl.UInt32))
    write(kept, part)
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    made = Made(
        output=f"out/{name}.parquet",
        rows=kept.height,
        first_at=kept[TIME][0] / 1e6,
        last_at=kept[TIME][-1] / 1e6,
        span=name,
        of=tuple(digests[place] for place in there),
    )
    write_whole(note, msgspec.json.encode(made))
