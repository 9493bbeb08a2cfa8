"""A batch: a file of rows through one version, chunk by chunk; a chunk that is finished is never done again."""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from quarterdeckd.compression.onnx import checked_onnx
from quarterdeckd.serving.columns import Column, answers_of, feed_of, joined, needed, tables_of
from quarterdeckd.serving.fitting import check_columns, scanned, unread
from quarterdeckd.serving.session import DTYPES, Loaded
from quarterstore.records.batches import BatchResult, BatchSpec
from quarterstore.records.faults import Invalid, got
from quarterstore.shelf.files import sync_folder

NICE = 10
"""Behind everything that answers a caller."""
SAID_EVERY = 0.25
SPAN = 64 * 1024**2
"""Bytes of rows that are read at once: a slice of a Parquet row group costs a look at all of its columns."""
BLOCK = 512 * 1024
"""Bytes of input that are run at once, and the fewest and most rows of it: beyond that the layers between leave the
second-level cache (131,072 rows of a 32-64-64-2 net took 1.5 times as long a row)."""
FEWEST, MOST = 256, 4096
KEPT = (pl.Int64(), pl.Float64())
"""What a kept column of a CSV file may be, other than text."""


def run(spec: BatchSpec, report: Any) -> BatchResult:
    """Check the columns, answer each chunk, put the chunks together; `Invalid` names the column that does not fit.

    Chunks are cut by their number alone and each is written aside and renamed, so that a run after `kill -9` does those
    that are missing, and its file has the bytes of a run that nothing disturbed.
    """
    began = time.perf_counter()
    os.nice(NICE)
    checked_onnx(Path(spec.model))
    loaded = Loaded(Path(spec.model), spec.digest, spec.signature)
    work = Path(spec.work)
    work.mkdir(parents=True, exist_ok=True)
    rows = scanned(Path(spec.data), spec.format)
    check_columns(spec, loaded.inputs, rows.collect_schema())
    if spec.format == "csv":
        rows = _typed(_turned(rows, spec, work), spec.keep)
    total = int(rows.select(pl.len()).collect().item())
    if not total:
        raise got("data", "no row", "at least one row")
    parts = [work / f"{number:08d}.arrow" for number in range(-(-total // spec.chunk))]
    resumed = sum(part.exists() for part in parts)
    _answer(spec, loaded, rows, parts, report)
    sync_folder(work)
    report.progress("join", words=f"{total:,} rows")
    output, not_finite = _joined(spec, parts)
    return BatchResult(
        output=str(output),
        rows=total,
        not_finite=not_finite,
        resumed=resumed,
        seconds=round(time.perf_counter() - began, 3),
    )


def _turned(rows: pl.LazyFrame, spec: BatchSpec, work: Path) -> pl.LazyFrame:
    """The rows of a CSV file, turned into Parquet once: a slice would be found by counting lines from the start."""
    turned = work / "rows.parquet"
    if not turned.exists():
        aside = work / "rows.part"
        try:
            rows.sink_parquet(aside, compression="zstd", row_group_size=spec.chunk)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise unread(error, spec.format) from None
        aside.rename(turned)
    return pl.scan_parquet(turned)


def _typed(rows: pl.LazyFrame, keep: tuple[str, ...]) -> pl.LazyFrame:
    """Kept columns of text as the numbers that they are: of the first kind that writes each value as the file does, so
    that `007` stays text; a column without any value stays what it is."""
    same = [
        pl.col(name).cast(kind, strict=False).cast(pl.String).eq_missing(pl.col(name)).all().alias(f"{place} {kind}")
        for place, name in enumerate(keep)
        for kind in KEPT
    ]
    counts = [pl.col(name).count().alias(f"{place}") for place, name in enumerate(keep)]
    found = rows.select(*same, *counts).collect(engine="streaming").row(0, named=True) if keep else {}
    typed = [
        pl.col(name).cast(next(kind for kind in (*KEPT, pl.String()) if found.get(f"{place} {kind}", True)))
        for place, name in enumerate(keep)
        if found[f"{place}"]
    ]
    return rows.with_columns(typed)


def _answer(spec: BatchSpec, loaded: Loaded, rows: pl.LazyFrame, parts: list[Path], report: Any) -> None:
    """Every part that is not there yet. Spans of chunks are read here, while threads answer the chunks of the span
    before; ONNX Runtime and Polars both let other threads run."""
    columns = needed(loaded.inputs, spec.signature)
    wanted = list(dict.fromkeys((*(each for each in columns if each in rows.collect_schema()), *spec.keep)))
    sliced = rows.select(wanted)
    span = max(1, SPAN // (_row_size(sliced) * spec.chunk))
    threads = min(4, (os.cpu_count() or 1) + 1)  # one more than cores: a chunk waits for the disk at its end
    undone = [number for number, part in enumerate(parts) if not part.exists()]
    done, said = len(parts) - len(undone), 0.0
    waiting: set[Future[None]] = set()

    def one(number: int, frame: pl.DataFrame) -> None:
        _write(_chunk(spec, loaded, columns, frame, number * spec.chunk), parts[number])

    def settle(most: int) -> None:
        nonlocal waiting, done, said
        while len(waiting) > most:
            over, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for each in over:
                each.result()
            done += len(over)
            if time.monotonic() - said > SAID_EVERY or done == len(parts):
                said = time.monotonic()
                report.progress("answer", done / len(parts), f"chunk {done:,} of {len(parts):,}")

    with ThreadPoolExecutor(threads, "chunk") as pool:
        try:
            for _, several in groupby(undone, lambda number: number // span):
                numbers = list(several)
                start, end = numbers[0] * spec.chunk, (numbers[-1] + 1) * spec.chunk
                read = sliced.slice(start, end - start).collect()
                settle(threads)  # so that no more than two spans and a little are held
                for number in numbers:
                    waiting.add(pool.submit(one, number, read.slice(number * spec.chunk - start, spec.chunk)))
            settle(0)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _row_size(rows: pl.LazyFrame) -> int:
    """Bytes that a row takes in memory, by the first ones."""
    first = rows.head(1000).collect()
    return max(1, int(first.estimated_size()) // len(first))


def _chunk(
    spec: BatchSpec, loaded: Loaded, columns: dict[str, Column], frame: pl.DataFrame, start: int
) -> pl.DataFrame:
    """The kept columns and the answers of a chunk, which is run in blocks that fit a processor's own cache."""
    try:
        tables = tables_of(frame, columns, loaded)
    except Invalid as fault:
        fault.message = f"{fault.message} (rows count from {start:,} here)"
        raise
    block = _block(loaded)
    places = range(0, len(frame), block)
    sizes = [min(block, len(frame) - place) for place in places]
    blocks = [
        dict(zip(loaded.names, loaded.run(feed_of(tables, loaded, place, rows)), strict=True))
        for place, rows in zip(places, sizes, strict=True)
    ]
    found = answers_of(joined(blocks, sizes), spec.signature)
    clash = next((name for name in spec.keep if name in found), None)
    if clash is not None:
        raise got("keep", clash, f"a column that is no answer ({', '.join(found)})")
    return pl.DataFrame([*(frame[name] for name in spec.keep), *found.values()])


def _block(loaded: Loaded) -> int:
    """Rows that are run at once: `BLOCK` bytes of input, whatever the chunk, so that the same chunk has the same
    answers to the last bit."""
    size = sum(
        max(1, math.prod(each.shape[1:])) * int(np.dtype(DTYPES[each.datatype]).itemsize) for each in loaded.inputs
    )
    return max(FEWEST, min(MOST, BLOCK // max(1, size)))


def _write(frame: pl.DataFrame, part: Path) -> None:
    """As Arrow's own bytes: it is encoded once, when the parts are put together."""
    aside = part.with_suffix(".part")
    frame.write_ipc(aside, compression="uncompressed")
    with aside.open("rb+") as file:
        os.fsync(file.fileno())
    aside.rename(part)


def _joined(spec: BatchSpec, parts: list[Path]) -> tuple[Path, int]:
    """The parts as one Parquet file, a row group each, in order: the same parts are the same bytes."""
    out = Path("out")
    out.mkdir(exist_ok=True)
    whole = pl.scan_ipc(parts)
    schema = whole.collect_schema()
    answers = [name for name in schema if name not in spec.keep]
    whole.select(*spec.keep, pl.lit(spec.version).alias("version"), *answers).sink_parquet(
        out / "answers.parquet", compression="zstd", compression_level=1, row_group_size=spec.chunk
    )
    floats = [name for name in answers if schema[name].is_float()]
    if not floats:
        return out / "answers.parquet", 0
    bad = whole.filter(~pl.all_horizontal(pl.col(floats).is_finite())).select(pl.len())
    return out / "answers.parquet", int(bad.collect(engine="streaming").item())
