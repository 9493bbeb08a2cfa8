"""F6: the disk is full; writing stops with a reason, reading and taking back go on, and writing resumes by itself."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records import governance, registry, runs, store
from quarterstore.records.faults import Failed, Full
from quarterstore.records.places import Home
from tests.small import onnx_file

pytestmark = pytest.mark.fault
SIZE = 48
"""MiB of the small disk."""
TOLD_WITHIN, RESUMED_WITHIN = 1.0, 10.0
"""Seconds: twice the promises of 500 ms and 5 s."""


class SmallDisk:
    """A daemon whose home is a tmpfs of its own, in a user namespace that a waiting process holds open."""

    def __init__(self, daemon: Any) -> None:
        self.daemon = daemon
        self.inside = daemon.home.root
        self.inside.mkdir(mode=0o700)
        mount = f"mount -t tmpfs -o size={SIZE}m,mode=700 tmpfs {self.inside} && echo ready && exec cat"
        words = ["unshare", "-Urm", "sh", "-c", mount]
        self.holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.holder.stdout is not None and self.holder.stderr is not None
        if self.holder.stdout.readline() != b"ready\n":
            pytest.skip(f"no small disk can be mounted here: {self.holder.stderr.read().decode()[-200:]}")
        self.root = Path(f"/proc/{self.holder.pid}/root{self.inside}")
        outside = Home(self.root)
        outside.runtime = daemon.home.runtime
        daemon.home = outside
        self.ballast = self.root / "ballast"

    def start(self) -> None:
        """Start the daemon inside, and wait until it answers."""
        enter = ["nsenter", "-t", str(self.holder.pid), "-U", "-m", "--preserve-credentials"]
        words = [*enter, sys.executable, "-m", "quarterdeckd", "--home", str(self.inside)]
        with (self.daemon.folder / "log").open("ab") as log:
            self.daemon.process = subprocess.Popen(words, env=self.daemon.environ, stderr=log, stdout=log)
        self.daemon.answer()

    def fill(self) -> None:
        """Write until nothing more fits."""
        with self.ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                while True:
                    try:
                        file.write(bytes(size))
                    except OSError as error:
                        assert error.errno == errno.ENOSPC
                        break

    def free(self) -> None:
        """Make room again."""
        self.ballast.unlink()

    def end(self) -> None:
        """Let the disk go."""
        self.daemon.stop(signal.SIGKILL)
        assert self.holder.stdin is not None
        self.holder.stdin.close()
        self.holder.wait(30)


@pytest.fixture
def small(absent: Any) -> Iterator[SmallDisk]:
    """A daemon on a disk of 48 MiB."""
    for tool in ("unshare", "nsenter"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: no small disk can be made here")
    made = SmallDisk(absent)
    yield made
    made.end()


def start_run(client: Any, size: int = 10) -> str:
    """A run whose parameters take about `size` bytes in the journal."""
    run: runs.Run = client.ask(
        runs.StartRun(experiment="full", params={f"p{n}": "x" * 1000 for n in range(size // 1000)})
    )
    return run.id


def write_until_full(client: Any) -> tuple[list[str], Full, float]:
    """Acts until one is refused; those answered, the fault, and how long the refused one took."""
    answered: list[str] = []
    for _ in range(400):
        began = time.monotonic()
        try:
            answered.append(start_run(client, 30_000))
        except Full as fault:
            return answered, fault, time.monotonic() - began
    raise AssertionError("400 acts of 30 kB fitted on a full disk")


def check_reads(client: Any, run: str, digest: str, data: bytes) -> None:
    """What reads must go on, all of them."""
    assert client.ask(runs.ShowRun(run=run)).id == run
    assert client.ask(runs.ListRuns(experiment="full", limit=10)).total > 0
    assert client.ask(runs.MetricHistory(run=run))[0].values == [0.5]
    assert client.ask(store.GetBlob(digest=digest)).data == data
    assert client.ask(governance.VerifyAudit()).ok
    assert client.ask(governance.ListAudit(limit=5))
    assert client.status() is not None


def point(run: str, batch: str = "b") -> runs.LogMetrics:
    """One point."""
    return runs.LogMetrics(
        run=run,
        batch=batch,
        keys=("loss",),
        key=array("H", [0]).tobytes(),
        step=array("q", [0]).tobytes(),
        time=array("d", [1.0]).tobytes(),
        value=array("d", [0.5]).tobytes(),
    )


def resumed(client: Any) -> float:
    """Seconds until an act is taken again."""
    began = time.monotonic()
    while True:
        try:
            start_run(client)
            return time.monotonic() - began
        except Full:
            assert time.monotonic() - began < RESUMED_WITHIN
            time.sleep(0.1)


@pytest.mark.alone
def test_a_full_disk_stops_writing_with_a_reason_and_writing_resumes_by_itself(small: SmallDisk, report: Any) -> None:
    """Promise: read-only with a clear reason, no crash loop, nothing answered is lost, no restart needed."""
    small.start()
    daemon = small.daemon
    data = onnx_file(size=50_000)
    with daemon.client(timeout=20.0) as client:
        answered = [start_run(client) for _ in range(20)]
        client.ask(point(answered[0]))
        digest, size = client.put(data)
        model = client.ask(version_of(digest, size))
        small.fill()
        more, fault, took = write_until_full(client)
        answered += more
        assert "read-only" in fault.line()
        assert took < TOLD_WITHIN
        check_reads(client, answered[0], digest, data)
        with pytest.raises(Full):
            client.put(os.urandom(3_000_000))
        with pytest.raises(Full):
            client.ask(point(answered[1], "more"))
        # what frees room or takes back goes on, from the reserve
        for run in answered[-5:]:
            client.ask(runs.EndRun(run=run))
            client.ask(runs.RemoveRun(run=run))
        client.ask(registry.RemoveVersion(version=model.id))
        with pytest.raises(Full):
            start_run(client)
        check_reads(client, answered[0], digest, data)
        assert daemon.process.poll() is None
        small.free()
        back = resumed(client)
        assert daemon.process.poll() is None, daemon.log()
        check_reads(client, answered[0], digest, data)
    lost = lost_of(daemon, answered)
    small.daemon.stop(signal.SIGKILL)
    small.start()
    lost |= lost_of(daemon, answered)
    report("F6", len(answered), len(lost), None, told=f"{took * 1000:.0f}ms", resumed=f"{back:.2f}s")
    assert not lost


def version_of(digest: str, size: int) -> registry.RegisterVersion:
    """A version of uploaded bytes, with the signature said."""
    x = registry.Tensor(name="x", datatype="FP32", shape=(-1, 2))
    shape = registry.Signature(inputs=(x,), outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),))
    return registry.RegisterVersion(model="m", digest=digest, size=size, format="onnx", signature=shape)


def lost_of(daemon: Any, answered: list[str]) -> set[str]:
    """Answered runs that are not there."""
    with daemon.client() as client:
        page = client.ask(runs.ListRuns(experiment="full", limit=1000, removed=True))
        assert client.ask(governance.VerifyAudit()).ok
        assert not client.status().stale
        return set(answered) - {run.id for run in page.runs}


def test_a_daemon_killed_on_a_full_disk_starts_there_and_answers(small: SmallDisk, report: Any) -> None:
    """A restart needs room for nothing: no crash loop under a unit that restarts it."""
    small.start()
    daemon = small.daemon
    with daemon.client(timeout=20.0) as client:
        answered = [start_run(client) for _ in range(20)]
        client.ask(point(answered[0]))
        digest, _ = client.put(b"kept")
        small.fill()
        answered += write_until_full(client)[0]
    for _ in range(2):
        daemon.stop(signal.SIGKILL)
        began = time.monotonic()
        small.start()
        took = time.monotonic() - began
        with daemon.client(timeout=20.0) as client:
            check_reads(client, answered[0], digest, b"kept")
    with daemon.client(timeout=20.0) as client:
        small.fill()
        answered += write_until_full(client)[0]
        small.free()
        back = resumed(client)
    lost = lost_of(daemon, answered)
    report("F6-restart", 2, len(lost), None, start=f"{took:.2f}s", resumed=f"{back:.2f}s")
    assert not lost


def test_a_projection_that_found_no_room_is_whole_again_when_there_is_room(small: SmallDisk, report: Any) -> None:
    """The journal has room ahead when the projection has none: those acts are kept, and shown, and nothing piles up."""
    small.start()
    daemon = small.daemon
    with daemon.client(timeout=20.0) as client:
        answered = [start_run(client) for _ in range(5)]
        client.ask(governance.ListAudit(limit=5))
        small.fill()
        for _ in range(4):
            answered.append(start_run(client, 50_000))
            posted(client)
            assert {run.id for run in client.ask(runs.ListRuns(experiment="full", limit=1000)).runs} == set(answered)
        stale = client.status().stale
    daemon.stop(signal.SIGKILL)
    small.start()
    with daemon.client(timeout=20.0) as client:
        assert {run.id for run in client.ask(runs.ListRuns(experiment="full", limit=1000)).runs} == set(answered)
        small.free()
        began = time.monotonic()
        while posted(client) != len(answered) or client.status().stale:
            assert time.monotonic() - began < RESUMED_WITHIN + 5, (client.status().stale, daemon.log())
            time.sleep(0.2)
        back = time.monotonic() - began
        assert daemon.process.poll() is None
    aside = [path.name for path in small.root.glob("*.damaged-*")]
    lost = lost_of(daemon, answered)
    report("F6-projection", 4, len(lost), None, stale=bool(stale), aside=len(aside), whole=f"{back:.2f}s")
    assert not lost
    assert len(aside) <= 1


def posted(client: Any) -> int:
    """How many starts of runs the audit trail lists; on a full disk it may say that it cannot."""
    try:
        return len(client.ask(governance.ListAudit(limit=1000, text="runs.start")))
    except Failed:
        return -1
