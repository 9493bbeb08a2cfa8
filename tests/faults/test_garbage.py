"""Freeing the disk: what `gc` promises is what `du` falls by, and nothing that is named is ever taken."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records import registry, runs, store
from quarterstore.records.faults import Fault, NotFound
from quarterstore.shelf.files import on_disk
from tests.small import onnx_file

SHAPE = registry.Signature(
    inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
)


def used(folder: Path) -> int:
    return sum(on_disk(path) for path in folder.rglob("*") if path.is_file())


def run_with(daemon: Any, size: int, points: int = 0, experiment: str = "disk", data: bytes = b"") -> tuple[str, str]:
    """A finished run with one file (of random bytes) and some points; answers run and digest."""
    path = daemon.folder / "weights.bin"
    path.write_bytes(data or os.urandom(size))
    with daemon.client() as client, client.run(experiment) as run:
        digest = run.log_artefact(path)
        for step in range(points):
            run.log(loss=1.0 / (1 + step), step=step)
    return run.id, digest


def test_gc_frees_what_its_dry_run_promised_and_du_falls_by_that(daemon: Any, report: Any) -> None:
    home = daemon.home.root
    kept, kept_digest = run_with(daemon, 300_000, points=2_000)
    gone, gone_digest = run_with(daemon, 5_000_000, points=20_000)
    assert daemon.qd("run", "rm", gone).returncode == 0
    with daemon.client(timeout=60) as client:
        promised = client.ask(store.CollectGarbage(dry_run=True))
        before = used(home / "artefacts") + used(home / "samples")
        assert client.ask(runs.ShowRun(run=gone)).removed is not None
        freed = client.ask(store.CollectGarbage())
        fell = before - used(home / "artefacts") - used(home / "samples")
        assert (promised.runs, promised.files, promised.points) == (1, 1, 20_000)
        near = promised.size / 100
        assert abs(fell - promised.size) <= near and abs(freed.size - promised.size) <= near
        with pytest.raises(NotFound):
            client.ask(runs.ShowRun(run=gone))
        [curve] = client.ask(runs.MetricHistory(run=kept, points=0))
        assert len(curve.steps) == 2_000
        assert client.get(kept_digest, daemon.folder / "back.bin") == 300_000
        with pytest.raises(NotFound):
            client.get(gone_digest, daemon.folder / "gone.bin")
        again = client.ask(store.CollectGarbage(dry_run=True))
        assert (again.runs, again.files, again.points, again.size) == (0, 0, 0, 0)
    report("gc", 1, 0, None, promised=promised.size, fell=fell)


def test_a_file_that_something_in_sight_names_is_never_freed(daemon: Any) -> None:
    """The same bytes in a removed run and in a version that is registered."""
    data = onnx_file(size=10_000)
    run, digest = run_with(daemon, len(data), data=data)
    with daemon.client() as client:
        client.ask(registry.RegisterVersion(model="m", digest=digest, size=len(data), format="onnx", signature=SHAPE))
        client.ask(runs.RemoveRun(run=run))
        freed = client.ask(store.CollectGarbage())
        assert (freed.runs, freed.files) == (1, 0)
        assert client.ask(store.CollectGarbage(older=0.0)).files == 0
        assert client.get(digest, daemon.folder / "still") == len(data)


def test_a_version_whose_file_was_freed_stays_in_the_history_and_does_not_come_back(daemon: Any) -> None:
    path = daemon.folder / "model.bin"
    path.write_bytes(onnx_file(size=9_000))
    with daemon.client() as client:
        digest, size = client.put(path)
        for _ in range(2):
            client.ask(
                registry.RegisterVersion(model="freed", digest=digest, size=size, format="onnx", signature=SHAPE)
            )
        client.ask(registry.RemoveVersion(version="freed@1"))
        assert client.ask(store.CollectGarbage()).versions == 1
        assert client.ask(registry.ShowVersion(version="freed@1")).freed is not None
        assert client.get(digest, daemon.folder / "second") == size
        client.ask(registry.RemoveVersion(version="freed@2"))
        assert client.ask(store.CollectGarbage()).files == 1
    assert daemon.qd("undo").returncode == 4, "what was freed cannot be taken back"
    done = daemon.qd("registry", "restore", "--version", "freed@2")
    assert done.returncode == 6 and "freed by qd gc" in done.stderr


def test_what_was_removed_a_moment_ago_outlives_older_than(daemon: Any) -> None:
    run, _ = run_with(daemon, 1_000)
    daemon.qd("run", "rm", run)
    done = daemon.qd("gc", "--older-than", "1h")
    assert done.returncode == 0, done.stderr
    assert daemon.qd("undo").returncode == 0
    with daemon.client() as client:
        assert client.ask(runs.ShowRun(run=run)).removed is None
    bad = daemon.qd("gc", "--older-than", "a week")
    assert bad.returncode == 2 and "error: older-than: got a week" in bad.stderr


def test_kill_9_amid_a_collection_loses_nothing_that_is_named(daemon: Any) -> None:
    """Killed as soon as the entry is there: the next collection takes what is left over."""
    kept, kept_digest = run_with(daemon, 50_000, points=100, experiment="killed")
    gone = [run_with(daemon, 400_000, points=100, experiment="killed")[0] for _ in range(3)]
    with daemon.client(timeout=5) as client:
        for run in gone:
            client.ask(runs.RemoveRun(run=run))
    daemon.stop(signal.SIGTERM)
    daemon.start(QD_CRASH_AT="gc.purged")
    with daemon.client(timeout=5) as client, pytest.raises(Fault):
        client.ask(store.CollectGarbage())
    daemon.stop(signal.SIGKILL)
    daemon.start()
    with daemon.client(timeout=30) as client:
        assert client.ask(runs.ListRuns(experiment="killed", removed=True)).total == 1
        freed = client.ask(store.CollectGarbage())
        assert freed.points == 300
        [curve] = client.ask(runs.MetricHistory(run=kept, points=0))
        assert len(curve.steps) == 100
        assert client.get(kept_digest, daemon.folder / "kept") == 50_000
        assert all(finding.ok for finding in client.ask(store.Diagnose()))
