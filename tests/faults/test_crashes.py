"""F1, F2, F19, F38: the daemon is killed at random and at named points; nothing that was answered is lost or done
twice."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from quarterstore.records import governance, registry, runs
from quarterstore.records.faults import Fault, IdReused
from quarterstore.records.ids import new_id
from tests.small import onnx_file

pytestmark = pytest.mark.fault
POINTS = (
    "journal.before",
    "journal.written",
    "journal.synced",
    "post.before",
    "post.after",
    "samples.written",
)


class Writer(threading.Thread):
    """Starts runs one after the other; remembers which were answered and which are unknown."""

    def __init__(self, daemon: Any) -> None:
        super().__init__(daemon=True)
        self._daemon = daemon
        self.answered: list[str] = []
        self.unknown: list[str] = []
        self.stopping = False

    def run(self) -> None:
        try:
            client = self._daemon.client(timeout=0.5)
        except Fault:
            return
        with client:
            while not self.stopping:
                run = new_id("run")
                try:
                    client.ask(runs.StartRun(experiment="crash", run=run))
                    self.answered.append(run)
                except Fault:
                    self.unknown.append(run)
                    return


def crash_cycles(daemon: Any, cycles: int, seed: int) -> dict[str, Any]:
    """Kill -9 after a random time under four writers, restart, compare; answers what was seen."""
    chance = random.Random(seed)
    answered: set[str] = set()
    unknown: set[str] = set()
    restarts: list[float] = []
    daemon.start()
    for _ in range(cycles):
        writers = [Writer(daemon) for _ in range(4)]
        for writer in writers:
            writer.start()
        threading.Event().wait(chance.uniform(0.0, 0.4))
        daemon.stop(signal.SIGKILL)
        for writer in writers:
            writer.stopping = True
            writer.join()
            answered.update(writer.answered)
            unknown.update(writer.unknown)
        began = time.monotonic()
        daemon.start()
        restarts.append(time.monotonic() - began)
    with daemon.client() as client:
        kept = {run.id for page in pages(client) for run in page}
        verdict = client.ask(governance.VerifyAudit())
    return {
        "answered": len(answered),
        "lost": sorted(answered - kept),
        "unasked": sorted(kept - answered - unknown),
        "audit": verdict,
        "restarts": sorted(restarts),
    }


def pages(client: Any) -> Any:
    """Every run, page by page."""
    after = None
    while True:
        page = client.ask(runs.ListRuns(limit=1000, after=after, sort="id"))
        yield page.runs
        after = page.next
        if after is None:
            return


@pytest.mark.alone
@pytest.mark.parametrize("cycles", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_no_answered_act_is_lost_when_the_daemon_is_killed_under_four_writers(absent: Any, cycles: int) -> None:
    """F1: the harness keeps the answers; after each kill every one of them is there, once."""
    seed = 7
    found = crash_cycles(absent, cycles, seed)
    restarts = found["restarts"]
    p95 = restarts[int(0.95 * len(restarts)) - 1]
    lost, answered = len(found["lost"]), found["answered"]
    print(f"F1 N={cycles} failures={lost} seed={seed} answered={answered} restart p95={p95:.2f}s")
    assert found["answered"] > cycles
    assert found["lost"] == []
    assert found["unasked"] == []
    assert found["audit"].ok


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_a_named_point_loses_nothing_that_was_answered(absent: Any, point: str) -> None:
    """F2: `_exit` exactly before or after the write, the sync, the posting; at the third time it is passed."""
    absent.start(QD_CRASH_AT=f"{point}:{2 if point.startswith('post') else 6}")
    answered = []
    with absent.client(timeout=3.0) as client:
        try:
            for number in range(40):
                run = client.ask(runs.StartRun(experiment="crash")).id
                answered.append(run)
                client.ask(batch(run, number), timeout=3.0)
        except Fault:
            pass
    assert absent.process is not None
    assert absent.process.wait(20) == 137, absent.log()
    absent.start()
    with absent.client() as client:
        kept = {run.id for page in pages(client) for run in page}
        assert set(answered) <= kept
        assert len(kept) <= len(answered) + 1
        assert client.ask(governance.VerifyAudit()).ok
    print(f"F2 point={point} answered={len(answered)} lost=0")


def batch(run: str, number: int) -> runs.LogMetrics:
    """One point."""
    from array import array

    return runs.LogMetrics(
        run=run,
        batch=f"batch-{run}-{number}",
        keys=("loss",),
        key=array("H", [0]).tobytes(),
        step=array("q", [number]).tobytes(),
        time=array("d", [1.0]).tobytes(),
        value=array("d", [0.5]).tobytes(),
    )


def test_the_same_request_id_has_one_effect_even_after_a_restart(absent: Any) -> None:
    """F19: sequential, concurrent, after kill -9, and with another body."""
    absent.start()
    with absent.client() as client:
        first = client.ask(runs.StartRun(experiment="once"), request="the-one")
        assert client.ask(runs.StartRun(experiment="once"), request="the-one") == first
        with pytest.raises(IdReused):
            client.ask(runs.StartRun(experiment="other"), request="the-one")
    answers: list[Any] = []

    def again() -> None:
        with absent.client() as client:
            answers.append(client.ask(runs.StartRun(experiment="crowd"), request="the-crowd"))

    in_parallel([again] * 8)
    assert len({answer.id for answer in answers}) <= 8
    absent.stop(signal.SIGKILL)
    absent.start()
    with absent.client() as client:
        assert client.ask(runs.StartRun(experiment="once"), request="the-one") == first
        with pytest.raises(IdReused):
            client.ask(runs.StartRun(experiment="other"), request="the-one")
        assert client.ask(runs.ListRuns(experiment="once")).total == 1
        assert client.ask(runs.ListRuns(experiment="crowd")).total == 1
    print("F19 N=4 failures=0")


def in_parallel(calls: list[Callable[[], None]]) -> None:
    """Run all at once, and wait."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_second_daemon_on_one_home_leaves_and_the_first_goes_on(absent: Any) -> None:
    """F38: the lock is on the store, not on the socket; a stale socket does not stop a start."""
    absent.start()
    assert absent.process is not None
    first = absent.process
    began = time.monotonic()
    absent.start(wait=False)
    second = absent.process
    assert second is not None and second.wait(10) == 5
    took = time.monotonic() - began
    absent.process = first
    with absent.client() as client:
        client.status()
    absent.stop(signal.SIGKILL)
    absent.start()
    print(f"F38 second daemon left after {took:.2f} s")
    assert took < 4.0


def test_fifty_promotions_at_once_have_one_winner(absent: Any) -> None:
    """F21: each asker has seen that nothing is in Production; one is first, the others are told who was."""
    absent.start()
    rounds, losers = 5, 0
    with absent.client() as client:
        for turn in range(rounds):
            model = f"model{turn}"
            digest, _ = client.put(onnx_file())
            versions = [client.ask(version_of(model, digest)).id for _ in range(10)]
            for version in versions:
                client.ask(registry.MoveStage(version=version, stage="Staging"))
            outcomes: list[str] = []

            def promote(version: str, outcomes: list[str] = outcomes) -> None:
                with absent.client(timeout=20.0) as own:
                    try:
                        own.ask(registry.MoveStage(version=version, stage="Production", former="none"))
                        outcomes.append("won")
                    except Fault as fault:
                        outcomes.append(fault.line())

            in_parallel([lambda version=version: promote(version) for version in versions])  # type: ignore[misc]
            assert outcomes.count("won") == 1, outcomes
            assert all(model in words for words in outcomes if words != "won")
            losers += len(outcomes) - 1
            live = [found for found in client.ask(registry.ListVersions(model=model)) if found.stage == "Production"]
            assert len(live) == 1
    print(f"F21 N={rounds} rounds of 10, {losers} conflicts, failures=0")


def version_of(model: str, digest: str) -> registry.RegisterVersion:
    """A version of an uploaded file, with the signature said."""
    tensor = registry.Tensor(name="x", datatype="FP32", shape=(-1, 2))
    shape = registry.Signature(inputs=(tensor,), outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),))
    return registry.RegisterVersion(model=model, digest=digest, size=1, format="onnx", signature=shape)
