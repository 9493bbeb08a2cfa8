"""F1, F2, F19, F21, F38: the daemon is killed at random and at named points; nothing that was answered is lost or done
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
from quarterstore.records.faults import Fault, IdReused, TimedOut, Unreachable
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
@pytest.mark.parametrize("cycles", [12, pytest.param(200, marks=pytest.mark.slow)])
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
    with absent.client(timeout=15.0) as client:
        try:
            for number in range(5000):  # until it is gone: a posting comes every 100 ms
                run = client.ask(runs.StartRun(experiment="crash")).id
                answered.append(run)
                client.ask(batch(run, number), timeout=15.0)
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


CHANGES = 1_000


def test_a_request_id_has_one_effect_however_often_and_whenever_it_is_sent(absent: Any) -> None:
    """F19: a thousand changes, each by four askers at once, once more after them, after kill -9, and with another
    body: one effect, the same bytes."""
    absent.start()
    asked = [(f"id-{number}", runs.StartRun(experiment="once", name=f"{number}")) for number in range(CHANGES)]
    told: list[list[bytes]] = []
    in_parallel([lambda: told.append(answers(absent, asked)) for _ in range(4)])
    told.append(answers(absent, asked))
    absent.stop(signal.SIGKILL)
    absent.start()
    told.append(answers(absent, asked))
    assert len(told) == 6 and all(each == told[0] for each in told) and len(set(told[0])) == CHANGES
    others = [(request, runs.StartRun(experiment="other")) for request, _ in asked]
    assert set(answers(absent, others)) == {b"IdReused"}
    with absent.client() as client:
        assert client.ask(runs.ListRuns(experiment="once")).total == CHANGES
        assert client.ask(runs.ListRuns(experiment="other")).total == 0
        with pytest.raises(IdReused):
            client.ask(others[0][1], request=others[0][0])
    print(f"F19 N={CHANGES} x 6 failures=0")


def answers(daemon: Any, asked: list[tuple[str, Any]]) -> list[bytes]:
    """What each request is answered, by one asker: the bytes, or the kind of the fault."""
    found = []
    with daemon.client() as client:
        for start in range(0, len(asked), 100):
            some = asked[start : start + 100]
            for request, act in some:
                client.transport.send(act, request)
            for request, act in some:
                answer = client.transport.receive(request, 20.0, act)
                found.append(answer.fault.kind.encode() if answer.fault else bytes(answer.body))
    return found


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
    absent.start(wait=False)
    second = absent.process
    assert second is not None and second.wait(30) == 5
    absent.process = first
    with absent.client() as client:
        client.status()
    absent.stop(signal.SIGKILL)
    absent.start()


@pytest.mark.parametrize("rounds", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_fifty_promotions_at_once_have_one_winner(absent: Any, rounds: int) -> None:
    """F21: each asker has seen that nothing is in Production; one is first, the others are told who was. In every
    other round the daemon is killed meanwhile, and who was not answered asks again under the same request id."""
    absent.start()
    chance, killed = random.Random(21), 0
    with absent.client() as client:
        digest, _ = client.put(onnx_file())
    for turn in range(rounds):
        model = f"model{turn}"
        with absent.client(timeout=30.0) as client:
            versions = [client.ask(version_of(model, digest)).id for _ in range(PROMOTED)]
            for version in versions:
                client.ask(registry.MoveStage(version=version, stage="Staging"))
        promotions = [Promotion(absent, version) for version in versions]
        gate = threading.Barrier(PROMOTED + 1)
        threads = [threading.Thread(target=each.run, args=(gate,)) for each in promotions]
        for thread in threads:
            thread.start()
        gate.wait(30)
        if turn % 2:
            time.sleep(chance.uniform(0.0, 0.05))
            absent.stop(signal.SIGKILL)
            absent.start()
            killed += 1
        for thread in threads:
            thread.join()
        outcomes = [each.outcome for each in promotions]
        (winner,) = [each.version for each in promotions if each.outcome == "won"]
        assert all(f"got {winner} in Production" in outcome for outcome in outcomes if outcome != "won"), outcomes
        with absent.client() as client:
            (tenure,) = client.ask(registry.ListTenures(model=model))
            live = [each.id for each in client.ask(registry.ListVersions(model=model)) if each.stage == "Production"]
        assert [tenure.version] == live == [winner] and tenure.until is None
    print(f"F21 N={rounds} rounds of {PROMOTED}, {killed} with a kill, failures=0")


PROMOTED = 50


class Promotion:
    """One asker of F21; tries until it is answered."""

    def __init__(self, daemon: Any, version: str) -> None:
        self._daemon = daemon
        self.version = version
        self.outcome = ""

    def run(self, gate: threading.Barrier) -> None:
        act = registry.MoveStage(version=self.version, stage="Production", former="none")
        request, client = new_id("promotion"), self._daemon.client(timeout=1.0)
        gate.wait(30)
        until = time.monotonic() + 60
        while not self.outcome and time.monotonic() < until:
            try:
                client = client or self._daemon.client(timeout=1.0)
                client.ask(act, request=request)
                self.outcome = "won"
            except (TimedOut, Unreachable):
                if client is not None:
                    client.close()
                client = None
            except Fault as fault:
                self.outcome = fault.line()
        if client is not None:
            client.close()


def version_of(model: str, digest: str) -> registry.RegisterVersion:
    """A version of an uploaded file, with the signature said."""
    tensor = registry.Tensor(name="x", datatype="FP32", shape=(-1, 2))
    shape = registry.Signature(inputs=(tensor,), outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),))
    return registry.RegisterVersion(model=model, digest=digest, size=1, format="onnx", signature=shape)
