"""A purge of points while acts are asked and predictions are made: their P99 before and meanwhile."""

from __future__ import annotations

import random
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any

from benching import counted, deck, quantile, report
from serving_bench import Caller, serve

from quarterstore.records import retention, runs, store

RUNS = counted(60, 6)
POINTS = 20_000
ROUNDS = counted(4, 1)
QUIET = counted(400, 50)


def fill(client: Any) -> None:
    """Finished runs of so many points, folded; many share a file, so that a purge has to write files anew."""
    chance = random.Random(1)
    for number in range(RUNS):
        run = client.ask(runs.StartRun(experiment="filled", name=f"run {number}")).id
        batch = runs.LogMetrics(
            run=run,
            batch=f"{run}.0",
            keys=("loss",),
            key=bytes(2 * POINTS),
            step=array("q", range(POINTS)).tobytes(),
            time=array("d", [time.time()] * POINTS).tobytes(),
            value=array("d", [chance.random() for _ in range(POINTS)]).tobytes(),
        )
        client.ask(batch)
        client.ask(runs.EndRun(run=run))
    client.ask(store.CollectGarbage(dry_run=True), timeout=600)  # folds them


def acted(client: Any) -> float:
    """Milliseconds of an act."""
    began = time.perf_counter()
    client.ask(runs.StartRun(experiment="asked"))
    return 1000 * (time.perf_counter() - began)


def predicted(caller: Caller) -> float:
    """Milliseconds of a prediction."""
    began = time.perf_counter()
    caller()
    return 1000 * (time.perf_counter() - began)


def meanwhile(work: Callable[[], float], over: threading.Event, found: list[float]) -> None:
    """Again and again until it is over, once at least."""
    found.append(work())
    while not over.is_set():
        found.append(work())


def purged(client: Any, rows: int) -> float:
    """Set a limit and wait until it is met; seconds."""
    began = time.perf_counter()
    client.ask(retention.SetRetention(kind="points", rows=rows))
    while client.ask(retention.ShowRetention(), timeout=60)[1].rows > rows:  # waits for a purge that is under way
        time.sleep(0.05)
    return time.perf_counter() - began


def main() -> None:
    """Half of the points go, each time."""
    quiet: dict[str, list[float]] = {"act": [], "prediction": []}
    during: dict[str, list[float]] = {"act": [], "prediction": []}
    took: list[float] = []
    with deck() as daemon, daemon.client(timeout=60) as client, daemon.client(timeout=60) as other:
        caller = Caller(serve(daemon))
        works: dict[str, Callable[[], float]] = {
            "act": lambda: acted(other),
            "prediction": lambda: predicted(caller),
        }
        for _ in range(ROUNDS):
            client.ask(retention.SetRetention(kind="points", rows=1_000_000_000))
            fill(client)
            for name, work in works.items():
                quiet[name].append(quantile([work() for _ in range(QUIET)], 0.99))
            for name, work in works.items():
                over = threading.Event()
                times: list[float] = []
                thread = threading.Thread(target=meanwhile, args=(work, over, times))
                thread.start()
                kept = client.ask(retention.ShowRetention())[1].rows
                took.append(purged(client, max(1000, kept // 2)))
                over.set()
                thread.join()
                during[name].append(quantile(times, 0.99))
        caller.close()
    for name in works:
        ratio = sorted(during[name])[ROUNDS // 2] / sorted(quiet[name])[ROUNDS // 2]
        report(
            f"{name} while {RUNS * POINTS // 2:,} points are purged",
            figure="ms p99",
            values=during[name],
            reach="< 2 times that before",
            met=ratio < 2,
            floor="the same before the purge",
            floors=quiet[name],
            more={"s until the limit is met": round(sorted(took)[len(took) // 2], 2)},
        )


if __name__ == "__main__":
    main()
