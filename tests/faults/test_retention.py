"""F33: three times the limit is written (of predictions 1.5 times per commit), the store stays below 1.1 times it."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import urllib.request
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records import deployments, governance, monitoring, predictions, registry, retention, runs, store
from tests.small import onnx_file

pytestmark = [pytest.mark.fault, pytest.mark.alone]
WIDTH = 16
ROWS = 50
"""Of one request."""


def signature() -> registry.Signature:
    """So many numbers in, one out."""
    return registry.Signature(
        inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, WIDTH)),),
        outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
        features=tuple(
            registry.Feature(name=f"f{each}", kind="number", input="x", index=each) for each in range(WIDTH)
        ),
        score="y",
    )


def serve(client: Any, model: str) -> str:
    """A version that answers at an endpoint of its name; the address."""
    digest, size = client.put(onnx_file(model, inputs=WIDTH))
    version = client.ask(
        registry.RegisterVersion(model=model, digest=digest, size=size, format="onnx", signature=signature())
    )
    for stage in ("Staging", "Production"):
        client.ask(registry.MoveStage(version=version.id, stage=stage, reason="a test"))  # type: ignore[arg-type]
    client.ask(deployments.Deploy(version=version.id))
    for _ in client.follow(0):
        if client.ask(deployments.ShowDeployment(endpoint=model)).live == version.id:
            break
    wanted = client.ask(deployments.ShowDeployment(endpoint=model)).epoch
    for _ in client.follow(0):
        state = client.ask(deployments.ShowServing())
        if state.hosts and all(host.ready and host.epoch >= wanted for host in state.hosts):
            return f"{state.address}/v2/models/{model}/infer"
    raise AssertionError("the feed ended")


def body(chance: random.Random) -> bytes:
    """Rows that do not compress well."""
    data = [chance.gauss(0, 1) for _ in range(ROWS * WIDTH)]
    tensor = {"name": "x", "shape": [ROWS, WIDTH], "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def posted(address: str, data: bytes) -> float:
    """Seconds of a prediction."""
    began = time.perf_counter()
    with urllib.request.urlopen(address, data, timeout=10) as answer:
        answer.read()
    return time.perf_counter() - began


def taken(*folders: Path) -> int:
    """Bytes of all files below folders, some of which come and go."""
    total = 0
    for folder in folders:
        for at, _, names in os.walk(folder):
            for name in names:
                with suppress(FileNotFoundError):
                    total += os.stat(os.path.join(at, name)).st_size
    return total


@contextmanager
def watched(measure: Callable[[], Any]) -> Iterator[list[Any]]:
    """What is measured twenty times a second meanwhile."""
    found: list[Any] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            found.append(measure())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def p99(times: list[float]) -> float:
    """Nearest rank."""
    return sorted(times)[int(0.99 * len(times))]


def purges(client: Any) -> list[Any]:
    """Entries about purges, the newest first."""
    return [each for each in client.ask(governance.ListAudit(text="note_purge")) if each.act == "retention.note_purge"]


@pytest.mark.parametrize("times_it", [1.5, pytest.param(3, marks=pytest.mark.slow)])
def test_predictions_stay_below_the_limit_while_more_is_written(absent: Any, report: Any, times_it: float) -> None:
    """Open segments count; the oldest go, those of the held endpoint all stay; callers do not notice."""
    limit_size, limit_rows = 2_000_000, 10_000
    requests = int(times_it * limit_rows) // ROWS
    chance = random.Random(33)
    absent.start()
    home = absent.home
    folders = (home.samples / "predictions", home.serving / "predictions")
    with absent.client(timeout=30) as client:
        held, free = serve(client, "held"), serve(client, "free")
        for _ in range(4):
            posted(held, body(chance))
        client.ask(retention.HoldSamples(on="endpoint", name="held", reason="a dispute"))
        before = [posted(free, body(chance)) for _ in range(60)]
        counted = predictions.CountPredictions(endpoint="free")
        while sum(client.ask(counted).versions.values()) < len(before):
            time.sleep(0.05)  # until they are folded: the smaller bound meets nothing that waits
        client.ask(retention.SetRetention(kind="predictions", size=limit_size, rows=limit_rows, days=7))
        with (
            absent.client(timeout=30) as looker,
            watched(lambda: (taken(*folders), looker.ask(retention.ShowRetention())[0].rows)) as seen,
        ):
            times = []
            for number in range(requests):
                began = time.perf_counter()
                times.append(posted(free, body(chance)))
                if number % 2:  # about 2,500 rows a second
                    time.sleep(max(0.0, 0.03 - (time.perf_counter() - began)))
        assert client.ask(predictions.CountPredictions(endpoint="held")).versions == {"held@1": 4}
        deadline, count, newest = time.monotonic() + 20, -1, []
        while len(newest) != count:  # a last purge may come between the two
            assert time.monotonic() < deadline, (len(newest), count)
            kept = client.ask(counted)
            count = sum(kept.versions.values())
            newest = client.ask(predictions.ListPredictions(endpoint="free", limit=1000))
        entries = purges(client)
        assert kept.dropped <= 0.05 * requests and 0 < count < requests, (kept, max(seen))
        assert min(each.at for each in newest) > time.time() - 60
    size, rows = max(each[0] for each in seen), max(each[1] for each in seen)
    report(
        "F33",
        requests * ROWS,
        0,
        33,
        size=f"{size / limit_size:.2f}",
        rows=f"{rows / limit_rows:.2f}",
        purges=len(entries),
        p99=f"{1000 * p99(before):.1f}->{1000 * p99(times):.1f}ms",
    )
    assert size <= 1.1 * limit_size and rows <= 1.1 * limit_rows
    assert 1 <= len(entries) <= 4 and "by rows" in entries[0].words
    assert p99(times) < 4 * p99(before) + 0.05


def points(run: str, number: int, count: int, chance: random.Random) -> runs.LogMetrics:
    """A batch of values that do not compress well."""
    return runs.LogMetrics(
        run=run,
        batch=f"{run}.{number}",
        keys=("loss",),
        key=bytes(2 * count),
        step=array("q", range(number * count, (number + 1) * count)).tobytes(),
        time=array("d", [time.time()] * count).tobytes(),
        value=array("d", [chance.random() for _ in range(count)]).tobytes(),
    )


def test_points_stay_below_the_limit_and_a_kill_in_a_purge_is_mended(absent: Any, report: Any) -> None:
    """Of runs that ended the oldest first; the one that is open keeps all; the limit that it exceeds alone is said."""
    limit_size, limit_rows, each = 2_000_000, 100_000, 5000
    chance = random.Random(34)
    absent.start(QD_CRASH_AT="purge.done")
    folder = absent.home.samples / "metrics"

    def logged(client: Any, count: int, ended: bool = True) -> str:
        run: str = client.ask(runs.StartRun(experiment="f33")).id
        for number in range(count // each):
            client.ask(points(run, number, each, chance))
        if ended:
            client.ask(runs.EndRun(run=run))
        return run

    with absent.client(timeout=30) as client:
        still, first = logged(client, 2 * each, ended=False), logged(client, 100_000)
        client.ask(retention.SetRetention(kind="points", size=limit_size, rows=limit_rows))
    assert absent.process is not None and absent.process.wait(20) == 137
    absent.start()
    with absent.client(timeout=30) as client:
        assert "a purge of" in client.ask(store.ShowStatus()).recovered
        for entry in client.follow(0):
            if entry.act == "retention.note_purge":
                break
        assert purges(client)[0].words.endswith("cut short by a stop and ended after it")
        asked: list[float] = []
        quiet = [_asked(client) for _ in range(100)]
        with (
            absent.client(timeout=30) as looker,
            watched(
                lambda: (taken(folder), looker.ask(retention.ShowRetention())[1].rows, asked.append(_asked(looker)))
            ) as seen,
        ):
            others = []
            for _ in range(30):
                others.append(logged(client, 2 * each))
                time.sleep(0.1)
        shown = client.ask(runs.ShowRun(run=first))
        assert shown.points_purged_at and "loss" in shown.metrics
        assert client.ask(runs.MetricHistory(run=first)) == []
        assert [len(curve.steps) for curve in client.ask(runs.MetricHistory(run=still, points=0))] == [2 * each]
        left = [bool(client.ask(runs.MetricHistory(run=run, points=2))) for run in others]
        assert left == sorted(left) and left[-1]
        words = absent.qd("run", "history", first)
        assert words.returncode == 0 and "were purged at" in words.stderr
        size, rows = max(one[0] for one in seen), max(one[1] for one in seen)
        report(
            "F33 points",
            30 * 2 * each,
            0,
            34,
            size=f"{size / limit_size:.2f}",
            rows=f"{rows / limit_rows:.2f}",
            purges=len(purges(client)),
            p99=f"{1000 * p99(quiet):.1f}->{1000 * p99(asked):.1f}ms",
        )
        assert size <= 1.1 * limit_size and rows <= 1.1 * limit_rows
        assert p99(asked) < 4 * p99(quiet) + 0.05
        client.ask(retention.HoldSamples(on="run", name=others[-1], reason="a dispute"))
        client.ask(retention.SetRetention(kind="points", rows=5000))
        for _ in client.follow(0):
            if found := client.ask(monitoring.ListAlerts()):
                break
        assert found[0].kind == "retention" and "are held (qd hold list)" in found[0].words
        assert absent.qd("doctor").returncode == 1
    absent.stop(signal.SIGTERM)


def _asked(client: Any) -> float:
    began = time.perf_counter()
    client.ask(runs.StartRun(experiment="asked"))
    return time.perf_counter() - began
