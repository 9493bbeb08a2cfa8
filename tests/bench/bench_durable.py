"""Durable acts with 1, 8 and 32 clients; the floor is append + fdatasync of the same size on the same file system."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import zmq
from bench_asking import SECONDS as ECHO_SECONDS
from bench_asking import ask_echo, echo, together
from benching import counted, deck, folder, quantile, report

from quarterstore.records import runs

SECONDS = counted(4, 1)
ENTRY = 700
"""Bytes of an entry of this act, as they are in the journal."""


def bare(path: Path) -> float:
    """Appends with a sync each, a second; into zeros that are there already, as the journal does."""
    file = os.open(path / "floor", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(file, 0, 64 * 1024 * 1024)
    os.pwrite(file, bytes(64 * 1024 * 1024), 0)
    os.fsync(file)
    data, done, end = os.urandom(ENTRY), 0, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        os.pwrite(file, data, (done * ENTRY) % (60 * 1024 * 1024))
        os.fdatasync(file)
        done += 1
    os.close(file)
    return done / SECONDS


def synced_echo(address: str, secret: bytes, ready: Any, path: str) -> None:
    """What no daemon behind this socket can beat: a bare CURVE echo that appends and syncs before it answers."""
    file = os.open(Path(path) / "synced", os.O_RDWR | os.O_CREAT)
    os.pwrite(file, bytes(64 * 1024 * 1024), 0)
    os.fsync(file)
    places = count()

    def sync() -> None:
        os.pwrite(file, bytes(ENTRY), (next(places) * ENTRY) % (60 * 1024 * 1024))
        os.fdatasync(file)

    echo(address, secret, ready, sync)


def bound(path: Path) -> float:
    """Round trips a second of one client with the synced echo."""
    public, secret = zmq.curve_keypair()
    spawn = multiprocessing.get_context("spawn")
    ready, address = spawn.Event(), f"ipc://{path / 'e'}"
    server = spawn.Process(target=synced_echo, args=(address, secret, ready, str(path)), daemon=True)
    server.start()
    ready.wait(20)
    (times,) = together(1, ask_echo, address, public, bytes(200))
    server.terminate()
    server.join()
    return len(times) / ECHO_SECONDS


def one(daemon: Any, stop: threading.Event, found: list[float]) -> None:
    """A client that sets a tag again and again; milliseconds each."""
    with daemon.client() as client:
        run = client.ask(runs.StartRun(experiment="bench")).id
        number = 0
        while not stop.is_set():
            number += 1
            began = time.perf_counter()
            client.ask(runs.SetTags(run=run, tags={"n": str(number)}))
            found.append((time.perf_counter() - began) * 1000)


def ours(daemon: Any, clients: int) -> list[float]:
    """Milliseconds of every act of so many clients, in threads of this process."""
    stop, found = threading.Event(), [[] for _ in range(clients)]
    threads = [threading.Thread(target=one, args=(daemon, stop, each)) for each in found]
    for thread in threads:
        thread.start()
    threading.Event().wait(SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    return [each for times in found for each in times]


def main() -> None:
    """In turns with the floor."""
    with deck() as daemon, folder() as path:
        for clients in (1, 8, 32):
            rates, floors, bounds, p50, p99 = [], [], [], [], []
            for _ in range(counted(5, 1)):
                floors.append(bare(path))
                if clients == 1:
                    bounds.append(bound(path))
                times = ours(daemon, clients)
                rates.append(len(times) / SECONDS)
                p50.append(quantile(times, 0.5))
                p99.append(quantile(times, 0.99))
            rate, floor = sorted(rates)[len(rates) // 2], sorted(floors)[len(floors) // 2]
            middle, tail = sorted(p50)[len(p50) // 2], sorted(p99)[len(p99) // 2]
            met = {1: rate >= 0.6 * floor, 8: middle <= 4 and tail <= 30, 32: rate >= 2000}[clients]
            reach = {1: ">= 60 % of the floor", 8: "p50 <= 4 ms, p99 <= 30 ms", 32: ">= 2,000/s"}[clients]
            report(
                f"durable acts, {clients} client{'s' if clients > 1 else ''}",
                figure="acts/s",
                values=rates,
                reach=reach,
                met=met,
                floor=f"pwrite of {ENTRY} bytes + fdatasync, one at a time",
                floors=floors,
                more={"p50_ms": round(middle, 3), "p99_ms": round(tail, 3)}
                | ({"a bare CURVE echo that syncs, per s": round(sorted(bounds)[len(bounds) // 2])} if bounds else {}),
            )


if __name__ == "__main__":
    main()
