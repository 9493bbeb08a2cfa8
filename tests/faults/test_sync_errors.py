"""F5: a sync fails with EIO; whoever asked is told, nothing is acknowledged, nothing is tried again, the restart reads
what is there."""

from __future__ import annotations

import time
from array import array
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from quarterstore.records import governance, runs, store
from quarterstore.records.faults import Fault, Unknown
from quarterstore.records.ids import new_id

pytestmark = pytest.mark.fault
LEAVE_WITHIN = 4.0
"""Twice the promise of two seconds, as every limit of time here."""


class Heard(NamedTuple):
    """What one asker was told."""

    answered: list[str]
    fault: Fault | None
    unsure: str
    at: float


def ask_until_it_fails(daemon: Any, most: int = 60) -> Heard:
    """Start runs one after the other until one is refused."""
    answered: list[str] = []
    with daemon.client(timeout=5.0) as client:
        for _ in range(most):
            run = new_id("run")
            try:
                client.ask(runs.StartRun(experiment="eio", run=run))
            except Fault as fault:
                return Heard(answered, fault, run, time.monotonic())
            answered.append(run)
    return Heard(answered, None, "", time.monotonic())


def kept(daemon: Any) -> set[str]:
    """The runs of a daemon that runs again, whose trail is whole."""
    with daemon.client() as client:
        assert client.ask(governance.VerifyAudit()).ok
        return {run.id for run in client.ask(runs.ListRuns(experiment="eio", limit=1000)).runs}


def syncs(path: Path) -> list[tuple[str, str, str]]:
    """Process, result and file of each sync the shim saw."""
    return [tuple(line.split(" ", 2)) for line in path.read_text().splitlines()]  # type: ignore[misc]


def tried_again(path: Path) -> list[str]:
    """Files that were synced again by the process in which their sync had failed."""
    failed: set[tuple[str, str]] = set()
    again: list[str] = []
    for process, result, file in syncs(path):
        if result == "EIO":
            failed.add((process, file))
        elif (process, file) in failed:
            again.append(file)
    return again


@pytest.mark.parametrize("nth", [2, 3, 7, 12])
def test_a_failed_sync_of_the_journal_is_told_and_the_daemon_leaves_for_a_restart(
    absent: Any, disk_of: Any, report: Any, nth: int
) -> None:
    """PostgreSQL's lesson: after a failed fsync the pages may be marked clean, so a second one proves nothing."""
    disk = disk_of(absent, "ordered")
    absent.start()
    absent.stop()
    absent.start(**disk.environ(SHIM_MATCH=".journal", SHIM_FAIL_AT=str(nth)))
    heard = ask_until_it_fails(absent)
    assert absent.process is not None
    code = absent.process.wait(30)
    left = time.monotonic() - heard.at
    assert isinstance(heard.fault, Unknown), heard.fault
    assert code == 75, absent.log()
    assert left < LEAVE_WITHIN
    assert len(heard.answered) == nth - 1
    assert tried_again(disk.log) == []
    began = time.monotonic()
    absent.start()
    back = time.monotonic() - began
    found = kept(absent)
    lost = set(heard.answered) - found
    report("F5", nth, len(lost), None, answered=len(heard.answered), left=f"{left:.2f}s", back=f"{back:.2f}s")
    assert not lost
    assert found <= {*heard.answered, heard.unsure}


def test_points_whose_sync_failed_are_not_acknowledged_and_the_daemon_leaves(
    absent: Any, disk_of: Any, report: Any
) -> None:
    """A durable batch says `synced`, or that nobody knows; the batches before it are there after the restart."""
    disk = disk_of(absent, "ordered")
    absent.start(**disk.environ(SHIM_MATCH="samples/metrics/", SHIM_FAIL_AT="6"))
    steps: list[int] = []
    with absent.client(timeout=1.0) as client:
        run = client.ask(runs.StartRun(experiment="eio")).id
        with pytest.raises(Unknown):
            for step in range(20):
                client.ask(durable(run, step))
                steps.append(step)
    assert absent.process is not None and absent.process.wait(30) == 75, absent.log()
    assert tried_again(disk.log) == []
    absent.start()
    with absent.client() as client:
        curve = client.ask(runs.MetricHistory(run=run))[0]
    lost = set(steps) - set(curve.steps)
    report("F5-samples", len(steps), len(lost))
    assert steps and not lost


def test_points_that_were_only_written_make_the_daemon_leave_too(absent: Any, disk_of: Any, report: Any) -> None:
    """Nobody waits for their sync, so the daemon itself must notice."""
    disk = disk_of(absent, "ordered")
    absent.start(**disk.environ(SHIM_MATCH=".log", SHIM_FAIL_AT="1"))
    with absent.client(timeout=1.0) as client:
        run = client.ask(runs.StartRun(experiment="eio")).id
        client.ask(durable(run, 0, durable=False))
    assert absent.process is not None and absent.process.wait(30) == 75, absent.log()
    assert "could not be synced" in absent.log()
    report("F5-relaxed", 1, 0)


def durable(run: str, step: int, durable: bool = True) -> runs.LogMetrics:
    """One point."""
    return runs.LogMetrics(
        run=run,
        batch=f"{run}-{step}",
        keys=("loss",),
        key=array("H", [0]).tobytes(),
        step=array("q", [step]).tobytes(),
        time=array("d", [1.0]).tobytes(),
        value=array("d", [0.5]).tobytes(),
        durable=durable,
    )


def test_an_upload_whose_sync_failed_is_not_kept_and_can_be_sent_again(absent: Any, disk_of: Any, report: Any) -> None:
    """The chunks of before the failure may be gone too: only an upload from its first byte makes them sure."""
    disk = disk_of(absent, "ordered")
    absent.start(**disk.environ(SHIM_MATCH="incoming/", SHIM_FAIL_AT="1"))
    data = b"m" * 100_000
    with absent.client() as client:
        with pytest.raises(Fault):
            client.put(data)
        assert list(absent.home.incoming.iterdir()) == []
        digest, _ = client.put(data)
        assert client.ask(store.GetBlob(digest=digest)).data == data
    report("F5-upload", 1, 0)


SOME = [1, 13, 18, 24]


@pytest.mark.parametrize(
    "nth", [*SOME, *[pytest.param(n, marks=pytest.mark.slow) for n in range(1, 41) if n not in SOME]]
)
def test_whichever_sync_fails_nothing_that_was_answered_is_lost(
    absent: Any, disk_of: Any, report: Any, nth: int
) -> None:
    """From the first sync of a store's first start on, of whatever file: keys, journal, projection, samples."""
    disk = disk_of(absent, "ordered")
    absent.start(wait=False, **disk.environ(SHIM_FAIL_AT=str(nth)))
    heard = Heard([], None, "", 0.0)
    try:
        absent.answer()
        heard = ask_until_it_fails(absent, 30)
    except (AssertionError, Fault):
        assert absent.process is not None and absent.process.wait(30) != 0
        assert "Traceback" not in absent.log(), absent.log()
    absent.stop()
    failed = [file for _, result, file in syncs(disk.log) if result == "EIO"]
    absent.start()
    lost = set(heard.answered) - kept(absent)
    where = Path(failed[0]).name if failed else "none"
    report("F5-any", nth, len(lost), None, answered=len(heard.answered), failed=where)
    assert not lost
    assert [file for file in tried_again(disk.log) if file.endswith(".journal")] == []
