"""A file of rows through the small net: `qd batch` as a job, rows a second and the worker's memory; the floor is
session.run over the same columns in memory, in chunks of the same size on as many threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import polars as pl
from benching import counted, deck, report
from serving_bench import WIDTH, network

from quarterstore.records import batches, jobs, registry

ROWS = counted(10_000_000, 300_000)
CHUNK = 131_072
THREADS = 2


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


def bare(rows: int) -> float:
    """Rows a second of session.run on arrays that are there already."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(network(0), options, providers=["CPUExecutionProvider"])
    columns = [np.random.default_rng(n).normal(size=CHUNK).astype(np.float32) for n in range(WIDTH)]

    def one(_: int) -> None:
        session.run(None, {"x": np.ascontiguousarray(np.stack(columns, axis=1))})

    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, range(-(-rows // CHUNK))))
    return rows / (time.perf_counter() - began)


def memory(pid: int | None) -> int:
    """The most resident bytes a process had."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def main() -> None:
    """One file, one batch: speed and memory."""
    with deck() as daemon, daemon.client() as client:
        path = daemon.folder / "rows.parquet"
        written(path)
        model, size = client.put(network(0))
        client.ask(registry.RegisterVersion("m", model, size, "onnx", registry.Signature((), ())), timeout=60)
        floors = [bare(ROWS)]
        digest, _ = client.put(path)
        job = client.ask(batches.StartBatch(version="m@1", digest=digest, chunk=CHUNK), timeout=60)
        most = 0
        while (job := client.ask(jobs.ShowJob(job=job.id))).ended is None:
            most = max(most, memory(job.pid))
            threading.Event().wait(0.05)
        if job.state != "SUCCEEDED":
            raise SystemExit(f"{job.state}: {job.error}")
        floors.append(bare(ROWS))
        result = msgspec.convert(job.result, batches.BatchResult)
        speed = result.rows / result.seconds
        report(
            "batch",
            figure=f"{ROWS:,} rows of the small net from Parquet to Parquet, rows/s",
            values=[speed],
            floor="session.run over columns in memory, two threads, rows/s",
            floors=floors,
            reach=">= 80 % of the floor",
            met=speed >= 0.8 * min(floors),
        )
        report(
            "batch memory",
            figure=f"resident MB of the worker over {ROWS:,} rows",
            values=[most / 1e6],
            reach="< 600 MB",
            met=most < 600e6,
        )


main()
