"""A batch on a real daemon: killed in its process and with its daemon, it goes on, and its file is the same."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from quarterdeckd.pipeline.progress import Report
from quarterdeckd.serving import batch
from quarterstore.records import batches, jobs, registry
from quarterstore.shelf.artefacts import Artefacts
from tests.small import onnx_file

pytestmark = pytest.mark.fault
ROWS = 200_000
CHUNK = "1000"


def until(found: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait for something to be so."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
        threading.Event().wait(0.005)
    return answer


@pytest.fixture
def rows(absent: Any) -> Path:
    """A file of rows, and a daemon that knows the version `m@1`."""
    absent.start()
    with absent.client() as client:
        digest, size = client.put(onnx_file())
        asked = registry.RegisterVersion("m", digest, size, "onnx", registry.Signature((), ()))
        client.ask(asked, timeout=60)
    values = np.random.default_rng(0).normal(size=(ROWS, 2)).astype(np.float32)
    path: Path = absent.folder / "rows.parquet"
    pl.DataFrame({"id": np.arange(ROWS), "x_0": values[:, 0], "x_1": values[:, 1]}).write_parquet(path)
    return path


def hashed(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def begun(daemon: Any, rows: Path, keep: str, chunks: int) -> tuple[Any, jobs.Job]:
    """A client, and a batch that has finished some chunks and not all."""
    client = daemon.client()
    digest, _ = client.put(rows)
    asked = batches.StartBatch(version="m@1", digest=digest, keep=(keep,), chunk=int(CHUNK))
    job: jobs.Job = client.ask(asked)
    work = daemon.home.batches / job.spec["key"]
    until(lambda: len(list(work.glob("*.arrow"))) >= chunks, f"{chunks} chunks")
    return client, job


def in_this_process(daemon: Any, job: jobs.Job, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the same batch, done in one go."""
    kept = Artefacts(daemon.home.artefacts, daemon.home.incoming)
    paths = {field: str(kept.path(job.spec[field])) for field in ("model", "data")}
    (daemon.folder / "alone").mkdir()
    monkeypatch.chdir(daemon.folder / "alone")
    monkeypatch.setattr("os.nice", lambda step: step)
    spec = replace(msgspec.convert(job.spec, batches.BatchSpec), work="chunks", **paths)
    with Report(Path("progress.jsonl")) as said:
        return Path(batch.run(spec, said).output).absolute()


def test_a_batch_killed_in_the_middle_goes_on_and_ends_with_the_same_bytes(
    absent: Any, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(out: str, keep: str) -> Any:
        words = ("batch", "m@1", str(rows), str(absent.folder / f"{out}.parquet"), "--keep", keep, "--chunk", CHUNK)
        return absent.qd(*words)

    first = asked("undisturbed", "id")
    assert first.returncode == 0, first.stderr
    # another kept column is another batch: its own undisturbed run is made after the broken one
    client, job = begun(absent, rows, "x_0", 20)
    running = until(lambda: client.ask(jobs.ShowJob(job=job.id)).pid, "process")
    os.kill(running, signal.SIGKILL)
    lost = until(lambda: client.ask(jobs.ShowJob(job=job.id)).ended and client.ask(jobs.ShowJob(job=job.id)), "end")
    assert lost.state == "LOST" and "SIGKILL" in lost.error
    client.close()
    again = asked("again", "x_0")
    assert again.returncode == 0 and "finished by an attempt before" in again.stderr, again.stderr
    found = pl.read_parquet(absent.folder / "again.parquet")
    assert len(found) == ROWS and not list(absent.home.batches.iterdir())
    whole = pl.read_parquet(absent.folder / "undisturbed.parquet")
    assert found["y"].equals(whole["y"]) and whole["id"].to_list() == list(range(ROWS))
    undisturbed = in_this_process(absent, job, monkeypatch)
    assert hashed(undisturbed) == hashed(absent.folder / "again.parquet")


def test_a_batch_outlives_its_daemon(absent: Any, rows: Path) -> None:
    client, job = begun(absent, rows, "id", 5)
    client.close()
    absent.stop(signal.SIGKILL)
    absent.start()
    with absent.client() as after:
        ended = until(lambda: (found := after.ask(jobs.ShowJob(job=job.id))).ended and found, "end")
        assert ended.state == "SUCCEEDED" and ended.result["rows"] == ROWS, ended.error
        assert after.ask(batches.StartBatch("m@1", job.spec["data"], keep=("id",), chunk=int(CHUNK))).id == job.id
        out = absent.folder / "out.parquet"
        after.get(ended.result["output"], out)
        assert pl.read_parquet(out)["id"].to_list() == list(range(ROWS))


def test_what_cannot_be_answered_is_said_and_leaves_no_file(absent: Any, rows: Path) -> None:
    out = absent.folder / "answers.parquet"
    pl.DataFrame({"x_0": [1.0], "x_2": [2.0]}).write_parquet(absent.folder / "other.parquet")
    (absent.folder / "text.parquet").write_text("no Parquet")
    for words, code, said in (
        (("m@9", str(rows)), 4, "version: got m@9"),
        (("m@1", str(absent.folder / "none.csv")), 2, "rows: got"),
        (("m@1", str(absent.folder / "text.parquet")), 2, "text.parquet"),
        (("m@1", str(absent.folder / "other.parquet")), 2, "data.column: got a file without the column x_1"),
    ):
        done = absent.qd("batch", *words, str(out))
        assert (done.returncode, done.stdout, out.exists()) == (code, "", False), (words, done)
        assert said in done.stderr and "Traceback" not in done.stderr, done.stderr
    other = absent.qd("batch", "m@1", str(rows), str(absent.folder / "answers.csv"))
    assert other.returncode == 2 and "a name that ends in .parquet" in other.stderr
    out.write_text("mine")
    refused = absent.qd("batch", "m@1", str(rows), str(out))
    assert refused.returncode == 5 and "--overwrite" in refused.stderr and out.read_text() == "mine"


def test_a_batch_says_which_version_it_was(absent: Any, rows: Path) -> None:
    """However it was named: a stage is another version tomorrow."""
    done = absent.qd("batch", "m@1.0.0", str(rows), str(absent.folder / "named.parquet"))
    assert done.returncode == 0 and f"{ROWS:,} rows answered by m@1 into" in done.stderr, done.stderr
