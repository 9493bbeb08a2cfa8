"""Many processes log at once while the daemon is killed: every point is there once, in order, and nobody met a lock."""

from __future__ import annotations

import signal
from typing import Any

import polars as pl
import pytest

from quarterdeck.client import Client
from quarterstore.records.runs import MetricHistory, ShowRun
from quarterstore.records.transfer import Export

pytestmark = [pytest.mark.fault, pytest.mark.alone]
WRITERS = 16
POINTS = 1000
WRITER = f"""
import sys, quarterdeck
with quarterdeck.connect().run("many") as run:
    for step in range({POINTS // 2}):
        run.log(loss=float(step), step=step)
    print(run.id)
    sys.stdin.readline()
    for step in range({POINTS // 2}, {POINTS}):
        run.log(loss=float(step), step=step)
"""


def test_sixteen_writers_lose_no_point_and_none_counts_twice_when_the_daemon_is_killed(
    absent: Any, report: Any
) -> None:
    absent.start()
    writers = [absent.python(WRITER, talk=True) for _ in range(WRITERS)]
    ids = [writer.stdout.readline().strip() for writer in writers]
    absent.stop(signal.SIGKILL)
    for writer in writers[: WRITERS // 2]:  # these end while no daemon is there, the others when it is back
        assert writer.communicate("\n", timeout=60)[1].count("Traceback") == 0
    absent.start()
    said = [writer.communicate("\n", timeout=60)[1] for writer in writers[WRITERS // 2 :]]
    assert [writer.returncode for writer in writers] == [0] * WRITERS
    assert not any("lock" in text or "Traceback" in text for text in said)
    whole = list(map(float, range(POINTS)))
    with Client(absent.home, timeout=30) as client:  # delivers what the others left
        wrong = 0
        for run in ids:
            (curve,) = client.ask(MetricHistory(run=run, points=0))
            wrong += (curve.values, curve.steps) != (whole, list(range(POINTS)))
            assert client.ask(ShowRun(run=run)).state == "FINISHED"
        client.ask(Export())  # what is not in Parquet yet is folded
        frame = pl.concat(map(pl.read_parquet, (absent.home.samples / "metrics").glob("day=*/*.parquet")))
    report("writers", WRITERS * POINTS, wrong, rows=len(frame))
    assert wrong == 0
    assert len(frame) == len(frame.unique(["run", "key", "step"])) == WRITERS * POINTS
    assert not list((absent.home.root / "spool").glob("*.spool"))
