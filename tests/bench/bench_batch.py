"""A file of rows through the small net: `qd batch` as a job, rows a second and the worker's memory; beside it a bare
script that does the same from Parquet to Parquet, and session.run alone on a matrix that is there already."""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import polars as pl
from benching import counted, deck, report
from serving_bench import WIDTH, network

from quarterdeck.client import Client
from quarterstore.records import batches, jobs, registry

ROWS = counted(10_000_000, 300_000)
CHUNK = 131_072
THREADS = 2
BLOCK = 4096
BLOCKS = (1024, 4096, 16_384)
REPEATS = counted(3, 1)


def written(path: Path) -> None:
    """The rows, as a file of large row groups, made and written in pieces."""
    draw = np.random.default_rng(1)
    parts = [path.with_name(f"part-{start}.parquet") for start in range(0, ROWS, 1_000_000)]
    for start, part in zip(range(0, ROWS, 1_000_000), parts, strict=True):
        many = min(1_000_000, ROWS - start)
        pl.DataFrame({f"x_{n}": draw.normal(size=many).astype(np.float32) for n in range(WIDTH)}).write_parquet(part)
    pl.scan_parquet(parts).sink_parquet(path, row_group_size=1_000_000)
    for part in parts:
        part.unlink()


def session() -> onnxruntime.InferenceSession:
    """The net, one thread a run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(network(0), options, providers=["CPUExecutionProvider"])


def bare() -> float:
    """Rows a second of session.run over blocks of a matrix that is there, two threads, at the best size of a block."""
    net, matrix = session(), np.random.default_rng(0).normal(size=(CHUNK, WIDTH)).astype(np.float32)

    def over(block: int) -> float:
        places = list(range(0, CHUNK, block)) * max(1, ROWS // CHUNK // len(BLOCKS))
        began = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            for half in (places[::2], places[1::2]):
                pool.submit(lambda some: [net.run(None, {"x": matrix[at : at + block]}) for at in some], half)
        return len(places) * block / (time.perf_counter() - began)

    return max(over(block) for block in BLOCKS)


def over_columns(path: Path, out: Path) -> float:
    """Rows a second of a bare script: Polars streams the file, two threads make tensors of its columns and run them
    block by block, and the answers are written as `qd batch` writes them; no check, no bound of memory, no restart."""
    net = session()

    def answered(frame: pl.DataFrame) -> np.ndarray[Any, Any]:
        places = range(0, len(frame), BLOCK)
        return np.concatenate([net.run(None, {"x": frame[at : at + BLOCK].to_numpy(order="c")})[0] for at in places])

    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        chunks = [pool.submit(answered, each) for each in pl.scan_parquet(path).collect_batches(chunk_size=CHUNK)]
        answers = np.concatenate([each.result() for each in chunks])
    columns = {"y_0": np.ascontiguousarray(answers[:, 0]), "y_1": np.ascontiguousarray(answers[:, 1])}
    whole = pl.LazyFrame(columns).select(pl.lit("m@1").alias("version"), "y_0", "y_1")
    whole.sink_parquet(out, compression="zstd", compression_level=1, row_group_size=CHUNK)
    return ROWS / (time.perf_counter() - began)


def memory(pid: int | None) -> int:
    """The most resident bytes a process had."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def answered(client: Client, digest: str, chunk: int) -> tuple[float, int]:
    """Rows a second of one batch, and the most resident bytes its worker had."""
    job = client.ask(batches.StartBatch(version="m@1", digest=digest, chunk=chunk), timeout=60)
    most = 0
    while (job := client.ask(jobs.ShowJob(job=job.id))).ended is None:
        most = max(most, memory(job.pid))
        threading.Event().wait(0.05)
    if job.state != "SUCCEEDED":
        raise SystemExit(f"{job.state}: {job.error}")
    result = msgspec.convert(job.result, batches.BatchResult)
    return result.rows / result.seconds, most


def main() -> None:
    """One file, a batch several times (another size of chunk is another batch) with both floors beside each."""
    with deck() as daemon, daemon.client() as client:
        path = daemon.folder / "rows.parquet"
        written(path)
        model, size = client.put(network(0))
        client.ask(registry.RegisterVersion("m", model, size, "onnx", registry.Signature((), ())), timeout=60)
        digest, _ = client.put(path)
        speeds, most, alone, columns = [], [], [], []
        for repeat in range(REPEATS):
            columns.append(over_columns(path, daemon.folder / "floor.parquet"))
            speed, memory_of_it = answered(client, digest, CHUNK - repeat)
            speeds.append(speed)
            most.append(memory_of_it / 1e6)
            alone.append(bare())
        speed = statistics.median(speeds)
        report(
            "batch",
            figure=f"{ROWS:,} rows of the small net from Parquet to Parquet, rows/s",
            values=speeds,
            floor="a bare script over the same columns, from Parquet to Parquet, rows/s",
            floors=columns,
            reach=">= 80 % of the floor",
            met=speed >= 0.8 * statistics.median(columns),
        )
        report(
            "batch beside session.run",
            figure=f"{ROWS:,} rows of the small net from Parquet to Parquet, rows/s",
            values=speeds,
            floor="session.run alone on a matrix that is there, two threads, the best block, rows/s",
            floors=alone,
            reach="none: reading and writing need the same two cores",
            met=True,
        )
        report(
            "batch memory",
            figure=f"resident MB of the worker over {ROWS:,} rows",
            values=most,
            reach="< 600 MB",
            met=max(most) < 600,
        )


main()
