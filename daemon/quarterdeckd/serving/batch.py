"""A batch: a file of rows through one version, chunk by chunk; a chunk that is finished is never done again."""

from __future__ import annotations

import os
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import polars as pl

from quarterdeckd.compression.onnx import checked_onnx
from quarterdeckd.serving.columns import answers_of, feed_of, needed
from quarterdeckd.serving.session import Loaded
from quarterstore.records.batches import BatchResult, BatchSpec
from quarterstore.records.faults import Invalid, got, missing
from quarterstore.records.names import drawn
from quarterstore.shelf.files import sync_folder

NICE = 10
"""Behind everything that answers a caller."""
SAID_EVERY = 0.25


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
    rows = _rows(spec, work)
    _check_columns(spec, loaded, rows.collect_schema())
    total = int(rows.select(pl.len()).collect().item())
    if not total:
        raise got("data", "no row", "at least one row")
    parts = [work / f"{number:08d}.parquet" for number in range(-(-total // spec.chunk))]
    resumed = sum(part.exists() for part in parts)
    _answer(spec, loaded, rows, parts, report)
    sync_folder(work)
    report.progress("join", words=f"{total:,} rows")
    output, not_finite = _joined(parts, spec.chunk)
    return BatchResult(
        output=str(output),
        rows=total,
        not_finite=not_finite,
        resumed=resumed,
        seconds=round(time.perf_counter() - began, 3),
    )


def _rows(spec: BatchSpec, work: Path) -> pl.LazyFrame:
    """The rows, to be read in slices. A CSV file is turned into Parquet once: a slice of it would be found by counting
    lines from its start."""
    path = Path(spec.data)
    try:
        if spec.format == "parquet":
            rows = pl.scan_parquet(path)
            rows.collect_schema()
            return rows
        turned = work / "rows.parquet"
        if not turned.exists():
            aside = work / "rows.part"
            pl.scan_csv(path, infer_schema=False).sink_parquet(aside, compression="zstd", row_group_size=spec.chunk)
            aside.rename(turned)
        return pl.scan_parquet(turned)
    except (pl.exceptions.PolarsError, OSError) as error:
        words = drawn(str(error).splitlines()[0], longest=200)
        raise got("data", f"a file that Polars does not read ({words})", f"a {spec.format} file") from None


def _check_columns(spec: BatchSpec, loaded: Loaded, schema: pl.Schema) -> None:
    """Before anything is answered: every column that the version takes is there and of a kind that can fit."""
    columns = needed(loaded)
    for column in columns.values():
        kind = schema.get(column.name)
        if kind is None:
            if not column.optional:
                raise missing("data.column", column.name, schema.names())
            continue
        fits = kind.is_numeric() or kind in (pl.String, pl.Boolean) or (kind.is_temporal() and not column.text)
        if not fits or (column.text and kind not in (pl.String, pl.Categorical, pl.Enum, pl.Boolean)):
            raise got(f"data.{column.name}", str(kind), "text" if column.text else f"numbers ({column.datatype})")
    for name in spec.keep:
        if name not in schema:
            raise missing("keep", name, schema.names())


def _answer(spec: BatchSpec, loaded: Loaded, rows: pl.LazyFrame, parts: list[Path], report: Any) -> None:
    """Every part that is not there yet, a few at a time: ONNX Runtime and Polars both let other threads run."""
    columns = needed(loaded)
    wanted = list(dict.fromkeys((*(each for each in columns if each in rows.collect_schema()), *spec.keep)))
    sliced = rows.select(wanted)

    def one(number: int) -> int:
        frame = sliced.slice(number * spec.chunk, spec.chunk).collect()
        try:
            feed = feed_of(frame, columns, loaded)
        except Invalid as fault:
            fault.message = f"{fault.message} (rows count from {number * spec.chunk:,} here)"
            raise
        found = answers_of(dict(zip(loaded.names, loaded.run(feed), strict=True)), spec.signature, len(frame))
        clash = next((name for name in spec.keep if name in found), None)
        if clash is not None:
            raise got("keep", clash, f"a column that is no answer ({', '.join(found)})")
        version = pl.Series("version", [spec.version]).new_from_index(0, len(frame))
        _write(pl.DataFrame([*(frame[name] for name in spec.keep), version, *found.values()]), parts[number])
        return len(frame)

    done, said = sum(part.exists() for part in parts), 0.0
    threads = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, "chunk") as pool:
        waiting: set[Future[int]] = set()
        try:
            for number in (number for number, part in enumerate(parts) if not part.exists()):
                waiting.add(pool.submit(one, number))
                if len(waiting) > threads:
                    over, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    done += sum(1 for each in over if each.result())
                if time.monotonic() - said > SAID_EVERY:
                    said = time.monotonic()
                    report.progress("answer", done / len(parts), f"chunk {done:,} of {len(parts):,}")
            for each in waiting:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    report.progress("answer", 1.0, f"chunk {len(parts):,} of {len(parts):,}")


def _write(frame: pl.DataFrame, part: Path) -> None:
    aside = part.with_suffix(".part")
    frame.write_parquet(aside, compression="zstd", compression_level=1)
    with aside.open("rb+") as file:
        os.fsync(file.fileno())
    aside.rename(part)


def _joined(parts: list[Path], chunk: int) -> tuple[Path, int]:
    """The parts as one file, a row group each, in order, in one thread: the same parts are the same bytes."""
    out = Path("out")
    out.mkdir(exist_ok=True)
    whole = pl.scan_parquet(parts)
    whole.sink_parquet(out / "answers.parquet", compression="zstd", compression_level=1, row_group_size=chunk)
    floats = [name for name, kind in whole.collect_schema().items() if kind.is_float()]
    if not floats:
        return out / "answers.parquet", 0
    bad = whole.filter(~pl.all_horizontal(pl.col(floats).is_finite())).select(pl.len())
    return out / "answers.parquet", int(bad.collect(engine="streaming").item())
