"""Ask and answer over ipc with CURVE beside a bare CURVE echo, 1 and 8 clients, each a process; alternating."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from benching import counted, deck, folder, quantile, report

SECONDS = counted(3, 1)


def echo(path: str, secret: bytes, ready: Any, between: Callable[[], None] = lambda: None) -> None:
    """A ROUTER that sends back what it gets, and does something before."""
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.curve_server, socket.curve_secretkey = True, secret
    socket.bind(path)
    ready.set()
    while True:
        frames = socket.recv_multipart()
        between()
        socket.send_multipart(frames)


def ask_echo(path: str, server: bytes, frame: bytes, results: Any) -> None:
    """Round trips on the bare socket for some seconds: microseconds each."""
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
    socket.curve_serverkey = server
    socket.connect(path)
    socket.send(frame)
    socket.recv()
    found = []
    end = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < end:
        socket.send(frame)
        socket.recv()
        found.append((time.perf_counter() - began) * 1000)
    results.put(found)


def ask_daemon(home: str, results: Any) -> None:
    """The same through our client: a small query."""
    import quarterdeck
    from quarterstore.records.people import WhoAmI

    with quarterdeck.connect(home) as client:
        client.ask(WhoAmI())
        found = []
        end = time.perf_counter() + SECONDS
        while (began := time.perf_counter()) < end:
            client.ask(WhoAmI())
            found.append((time.perf_counter() - began) * 1000)
    results.put(found)


def together(count: int, target: Any, *words: Any) -> list[list[float]]:
    """Several processes at once; their times."""
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    processes = [spawn.Process(target=target, args=(*words, results)) for _ in range(count)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    return found


def main() -> None:
    """Ours and the echo's in turns."""
    public, secret = zmq.curve_keypair()
    spawn = multiprocessing.get_context("spawn")
    with deck() as daemon, folder() as path:
        os.environ.update(daemon.environ)
        address, ready = f"ipc://{Path(path) / 'e'}", spawn.Event()
        server = spawn.Process(target=echo, args=(address, secret, ready), daemon=True)
        server.start()
        ready.wait(20)
        for clients in (1, 8):
            ours, floors, p50 = [], [], []
            for _ in range(counted(5, 1)):
                found = together(clients, ask_echo, address, public, bytes(80))
                floors.append(sum(map(len, found)) / SECONDS)
                found = together(clients, ask_daemon, str(daemon.home.root))
                ours.append(sum(map(len, found)) / SECONDS)
                p50.append(quantile([each for one in found for each in one], 0.5))
            ratio = sorted(ours)[len(ours) // 2] / sorted(floors)[len(floors) // 2]
            report(
                f"asking, {clients} client{'s' if clients > 1 else ''}",
                figure="answers/s",
                values=ours,
                reach=">= 70 % of the echo" + ("; p50 < 0.4 ms" if clients == 1 else ""),
                met=ratio >= 0.7 and (clients > 1 or sorted(p50)[len(p50) // 2] < 0.4),
                floor="bare CURVE echo with pyzmq",
                floors=floors,
                more={"p50_ms": round(sorted(p50)[len(p50) // 2], 4)},
            )
        server.terminate()


if __name__ == "__main__":
    main()
