"""F3: the power goes; what was synced is all that is left, and every answered act is in it."""

from __future__ import annotations

import random
import signal
import threading
from array import array
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records import governance, runs, store
from quarterstore.records.faults import Fault
from quarterstore.records.ids import new_id
from tests.decks import until

pytestmark = pytest.mark.fault
SEED = 7


class Writer(threading.Thread):
    """Speaks acts of every durable kind until the daemon is gone; remembers those that were answered."""

    def __init__(self, daemon: Any, number: int) -> None:
        super().__init__(daemon=True)
        self._daemon = daemon
        self._bytes = random.Random(new_id("x")).randbytes
        self.number = number
        self.begun: set[str] = set()
        self.ended: set[str] = set()
        self.files: dict[str, str] = {}
        self.points: dict[str, float] = {}

    def run(self) -> None:
        try:
            with self._daemon.client(timeout=2.0) as client:
                while True:
                    self._once(client)
        except Fault:
            return

    def _once(self, client: Any) -> None:
        run = new_id("run")
        client.ask(runs.StartRun(experiment=f"power-{self.number}", run=run))
        self.begun.add(run)
        value = float(len(self.points))
        client.ask(batch(run, value))
        self.points[run] = value
        digest, size = client.put(self._bytes(2000))
        client.ask(runs.LogArtefact(run=run, path="model.onnx", digest=digest, size=size))
        self.files[run] = digest
        client.ask(runs.EndRun(run=run))
        self.ended.add(run)


def batch(run: str, value: float) -> runs.LogMetrics:
    """One point, to be synced before it is answered."""
    return runs.LogMetrics(
        run=run,
        batch=f"batch-{run}",
        keys=("loss",),
        key=array("H", [0]).tobytes(),
        step=array("q", [0]).tobytes(),
        time=array("d", [1.0]).tobytes(),
        value=array("d", [value]).tobytes(),
        durable=True,
    )


def cycle(daemon: Any, disk: Any, seconds: float, **environ: str) -> tuple[list[Writer], int]:
    """Three writers, and some time after each has begun the power goes; answers what they heard and how many files
    lost something."""
    daemon.start(**disk.environ(**environ))
    writers = [Writer(daemon, number) for number in range(3)]
    for writer in writers:
        writer.start()
    until(lambda: all(writer.begun or not writer.is_alive() for writer in writers))
    threading.Event().wait(seconds)
    daemon.stop(signal.SIGKILL)
    for writer in writers:
        writer.join()
    return writers, disk.lose_power()


def missing(daemon: Any, writers: list[Writer]) -> list[str]:
    """Every answered thing that is not there, of a daemon that runs again."""
    gone: list[str] = []
    with daemon.client() as client:
        for writer in writers:
            for run in sorted(writer.begun):
                try:
                    found = client.ask(runs.ShowRun(run=run))
                except Fault as fault:
                    gone.append(f"{run}: {fault.line()}")
                    continue
                gone += [f"{run} is {found.state}"] * (run in writer.ended and found.state != "FINISHED")
                if run in writer.files:
                    gone += wrong_file(client, found, writer.files[run])
                if run in writer.points and found.metrics.get("loss") != writer.points[run]:
                    gone.append(f"{run} has points {found.metrics}")
        verdict = client.ask(governance.VerifyAudit())
        gone += [] if verdict.ok else [verdict.why]
    return gone


def wrong_file(client: Any, found: runs.Run, digest: str) -> list[str]:
    """What is wrong with the file a run answered to have."""
    if [artefact.digest for artefact in found.artefacts] != [digest]:
        return [f"{found.id} has files {found.artefacts}"]
    try:
        client.ask(store.GetBlob(digest=digest))
    except Fault as fault:
        return [f"{found.id}: {fault.line()}"]
    return []


@pytest.mark.parametrize("names", ["strict", "ordered"])
@pytest.mark.parametrize("cycles", [5, pytest.param(25, marks=pytest.mark.slow)])
def test_no_answered_act_is_lost_when_the_power_goes(
    absent: Any, shim: Path, disk_of: Any, report: Any, names: str, cycles: int
) -> None:
    """F3, promise 1: runs, durable points, files and ends of runs that were answered before the loss are there after
    it; half of the cycles with names as unsure as POSIX allows, half with names in order."""
    chance = random.Random(SEED)
    disk = disk_of(absent, names)
    answered, lost, differed = 0, [], 0
    for _ in range(cycles):
        writers, changed = cycle(absent, disk, chance.uniform(0.1, 0.4))
        differed += changed > 0
        absent.start(**disk.environ())
        lost += missing(absent, writers)
        answered += sum(len(writer.begun) + len(writer.ended) + len(writer.files) for writer in writers)
        absent.stop()
    report("F3", cycles, len(lost), SEED, names=names, answered=answered, cycles_that_lost_bytes=differed)
    assert lost == []
    assert answered > 3 * cycles
    assert differed > 0, "nothing was ever in the page cache alone: the shim saw nothing"


def test_the_control_without_its_syncs_does_lose_answered_acts(
    absent: Any, shim: Path, disk_of: Any, report: Any
) -> None:
    """F3: two of three syncs are ignored; a test that finds nothing missing then could not find anything ever."""
    chance = random.Random(SEED)
    disk = disk_of(absent, "ordered")
    absent.start(**disk.environ())  # keys and an empty store are durable: what is lost below is what was answered
    absent.stop()
    for tried in range(1, 6):
        writers, _ = cycle(absent, disk, chance.uniform(0.2, 0.4), SHIM_KEEP="3")
        absent.start(wait=False, **disk.environ())
        try:
            absent.answer()
            gone = missing(absent, writers)
        except (AssertionError, Fault) as fault:
            gone = [str(fault)[-200:]]  # it does not even start, and says so: that is a loss too
        absent.stop()
        if gone:
            report("F3-control", tried, 0, SEED, found=len(gone))
            return
    raise AssertionError("five power losses without syncs lost nothing")
