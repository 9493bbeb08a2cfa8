"""Runs and histories: a thousand runs over the socket, and one metric's 100,000 points read by socket and by REST."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any

from benching import counted, deck, quantile, report, timed

from quarterdeck.client import Client
from quarterdeck.values import Columns
from quarterstore.records.runs import EndRun, MetricHistory, StartRun

POINTS = counted(100_000, 2_000)
RUNS = counted(1_000, 50)
PARAMS = {f"p{number}": number for number in range(10)}


def whole_runs(client: Client) -> None:
    """Runs with 10 params and 10 metrics each, one after the other as a script makes them."""
    for number in range(RUNS):
        with client.run("many", name=f"run {number}", params=PARAMS) as run:
            run.log(**{f"m{metric}": metric / 2 for metric in range(10)})


def bare_runs(client: Client) -> None:
    """The same by hand: three questions a run, one after the other, nothing looked up and nothing watched."""
    for number in range(RUNS):
        run = client.ask(StartRun(experiment="bare", name=f"run {number}", params=PARAMS)).id
        columns = Columns({})
        columns.add((time.time(), None, {f"m{metric}": metric / 2 for metric in range(10)}))
        client.ask(columns.batch(run))
        client.ask(EndRun(run=run))


def pages(port: int, run: str) -> int:
    """Points of `metrics/get-history`, page after page as MLflow's client asks for them."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    count, token = 0, ""
    while True:
        path = f"/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=loss&max_results=25000"
        connection.request("GET", path + (f"&page_token={token}" if token else ""))
        told: dict[str, Any] = json.loads(connection.getresponse().read())
        count += len(told["metrics"])
        token = told.get("next_page_token", "")
        if not token:
            return count


def main() -> None:
    """MLflow 3.17's own server was measured at 244 s for the runs and 9.7 s for the history."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with deck("--mlflow", f"127.0.0.1:{port}") as daemon, daemon.client(timeout=60) as client:
        took, floors = [], []
        for _ in range(counted(5, 1)):
            took.append(timed(lambda: whole_runs(client)))
            floors.append(timed(lambda: bare_runs(client)))
        report(
            f"runs over the socket, {RUNS:,} with 10 params and 10 metrics",
            figure="s",
            values=took,
            reach="<= 2 s for 1,000",
            met=quantile(took, 0.5) <= 2 * RUNS / 1000,
            floor="three bare questions a run on one connection",
            floors=floors,
        )
        with client.run("long") as run:
            for step in range(POINTS):
                run.log(loss=1 / (step + 1), step=step)
        asked = MetricHistory(run=run.id, points=0)
        assert len(client.ask(asked)[0].steps) == POINTS == pages(port, run.id)
        for name, read, most in (
            ("socket", lambda: client.ask(asked), 60.0),
            ("REST", lambda: pages(port, run.id), 600.0),
        ):
            times = [1000 * timed(read) for _ in range(counted(11, 2))]
            report(
                f"history of {POINTS:,} points, {name}",
                figure="ms",
                values=times,
                reach=f"<= {most:g} ms for 100,000",
                met=quantile(times, 0.5) <= most,
            )


if __name__ == "__main__":
    main()
