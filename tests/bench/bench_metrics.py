"""Metric points through `run.log`: acknowledged a second; and what a training loop pays while no daemon runs."""

from __future__ import annotations

import os
import time

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy: one thread, as a step has

import numpy as np
from benching import counted, deck, report

import quarterdeck
from quarterstore.records import runs

POINTS = counted(200_000, 5_000)
STEPS = counted(2_000, 100)


def train(run: quarterdeck.client.LiveRun | None, matrix: np.ndarray) -> float:
    """Seconds of a loop of about a millisecond a step, that logs two metrics a step when there is a run."""
    began = time.perf_counter()
    for step in range(STEPS):
        total = float((matrix @ matrix).sum())
        if run is not None:
            run.log(loss=total, accuracy=1 / (step + 1), step=step)
    return time.perf_counter() - began


def main() -> None:
    """With the daemon, then without it; what was spooled is counted afterwards."""
    with deck() as daemon:
        client = quarterdeck.connect(daemon.home.root)
        rates = []
        for _ in range(counted(7, 1)):
            began = time.perf_counter()
            with client.run("bench") as run:
                for step in range(POINTS):
                    run.log(loss=0.5, step=step)
            rates.append(POINTS / (time.perf_counter() - began))
            (curve,) = client.ask(runs.MetricHistory(run=run.id, points=10))
            assert curve.steps[-1] == POINTS - 1
        middle = sorted(rates)[len(rates) // 2]
        report(
            "run.log",
            figure="points/s from the first log to the end of the run acknowledged",
            values=rates,
            reach=">= 200,000/s",
            met=middle >= 200_000,
        )
        client.close()
        daemon.stop()
        matrix = np.random.default_rng(0).random((280, 280))
        train(None, matrix)
        slower, plain, logged, ids = [], [], [], []
        for _ in range(counted(9, 2)):
            client = quarterdeck.connect(daemon.home.root)
            with client.run("away") as run:
                seconds = train(run, matrix)
            client.close()
            bare = train(None, matrix)
            logged.append(seconds)
            plain.append(bare)
            slower.append(100 * (seconds / bare - 1))
            ids.append(run.id)
        daemon.start()
        kept = 0
        with quarterdeck.connect(daemon.home.root) as client:
            deadline = time.monotonic() + 60
            client.status()
            for each in ids:
                while time.monotonic() < deadline:
                    try:
                        found = client.ask(runs.MetricHistory(run=each, points=100_000))
                    except quarterdeck.NotFound:
                        continue
                    if found and min(len(curve.steps) for curve in found) == STEPS:
                        break
                kept += sum(len(curve.steps) for curve in found)
        middle = sorted(slower)[len(slower) // 2]
        report(
            "run.log with no daemon",
            figure="% that a loop of ~1 ms steps is slower",
            values=slower,
            reach="< 5 %, nothing lost",
            met=middle < 5 and kept == 2 * STEPS * len(ids),
            more={"points kept": kept, "points logged": 2 * STEPS * len(ids), "ms a step": 1000 * min(plain) / STEPS},
        )


if __name__ == "__main__":
    main()
