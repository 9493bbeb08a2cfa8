"""The MLflow door over plain HTTP: one metric at a time, batches, whole runs; the floor is a synced append."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import socket
import time
from typing import Any

from bench_durable import bare
from benching import counted, deck, folder, quantile, report

API = "/api/2.0/mlflow/"


class Caller:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, route: str, **given: Any) -> Any:
        """The answer to one request."""
        self.connection.request("POST", API + route, json.dumps(given), {"content-type": "application/json"})
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(body.decode())
        return json.loads(body)

    def run(self) -> str:
        """A new run."""
        return str(self.post("runs/create", experiment_id="0")["run"]["info"]["run_id"])


HEAD = b"POST /api/2.0/mlflow/runs/log-metric HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"


def one_at_a_time(port: int, seconds: float, start: Any, found: Any) -> None:
    """Milliseconds of each log-metric, on a bare socket: what is measured is the server, on two cores beside it."""
    run = Caller(port).run()
    times: list[float] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start.wait()
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            given = {"run_id": run, "key": "loss", "value": 0.5, "timestamp": 1, "step": len(times)}
            body = json.dumps(given).encode()
            connection.sendall(b"%scontent-length: %d\r\n\r\n%s" % (HEAD, len(body), body))
            answer = connection.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode())
            times.append((time.perf_counter() - began) * 1000)
    found.put(times)


def together(port: int, clients: int, seconds: float) -> list[float]:
    """The times of several clients, each a process as a training script is."""
    context = multiprocessing.get_context("fork")
    start, found = context.Barrier(clients), context.Queue()
    processes = [context.Process(target=one_at_a_time, args=(port, seconds, start, found)) for _ in range(clients)]
    for process in processes:
        process.start()
    times = [each for _ in processes for each in found.get(timeout=seconds + 30)]
    for process in processes:
        process.join()
    return times


def batches(port: int, count: int) -> float:
    """Metrics a second by log-batch of 1,000."""
    caller = Caller(port)
    run = caller.run()
    points = [{"key": f"m{n % 10}", "value": n, "timestamp": n, "step": n} for n in range(1000)]
    began = time.perf_counter()
    for _ in range(count):
        caller.post("runs/log-batch", run_id=run, metrics=points)
    return count * 1000 / (time.perf_counter() - began)


def whole_runs(port: int, count: int) -> float:
    """Seconds for runs with 10 params and 10 metrics each."""
    caller = Caller(port)
    params = [{"key": f"p{n}", "value": str(n)} for n in range(10)]
    metrics = [{"key": f"m{n}", "value": n, "timestamp": 1, "step": 0} for n in range(10)]
    began = time.perf_counter()
    for _ in range(count):
        run = caller.run()
        caller.post("runs/log-batch", run_id=run, params=params, metrics=metrics)
        caller.post("runs/update", run_id=run, status="FINISHED", end_time=2)
    return time.perf_counter() - began


def main() -> None:
    """The figures of MLflow 3.17's own server on this work are in the words of each reach."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with deck("--mlflow", f"127.0.0.1:{port}") as daemon, folder() as path:
        repeats, seconds = counted(5, 1), counted(3, 1)
        for clients, reach in ((1, 1000), (4, 2500)):
            rates, middles, floors = [], [], []
            for _ in range(repeats):
                floors.append(bare(path))
                times = together(port, clients, seconds)
                rates.append(len(times) / seconds)
                middles.append(quantile(times, 0.5))
            report(
                f"MLflow door, log-metric, {clients} client{'s' if clients > 1 else ''}",
                figure="requests/s, each synced",
                values=rates,
                reach=f">= {reach}/s" + (", p50 < 1.5 ms" if clients == 1 else ""),
                met=quantile(rates, 0.5) >= reach and (clients > 1 or quantile(middles, 0.5) < 1.5),
                floor="pwrite of 700 bytes + fdatasync, one at a time",
                floors=floors,
                more={"p50_ms": round(quantile(middles, 0.5), 3)},
            )
        rates = [batches(port, counted(30, 3)) for _ in range(repeats)]
        report(
            "MLflow door, log-batch of 1,000",
            figure="metrics/s",
            values=rates,
            reach=">= 150,000/s",
            met=quantile(rates, 0.5) >= 150_000,
        )
        runs = counted(1000, 50)
        took = [whole_runs(port, runs) for _ in range(counted(3, 1))]
        report(
            f"MLflow door, {runs:,} runs with 10 params and 10 metrics",
            figure="s",
            values=took,
            reach="<= 4 s for 1,000",
            met=quantile(took, 0.5) <= 4 * runs / 1000,
        )
        assert daemon.process is not None


if __name__ == "__main__":
    main()
