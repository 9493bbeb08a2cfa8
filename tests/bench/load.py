"""Requests over raw sockets from a process of its own, so that who is measured does not pay for who measures."""

from __future__ import annotations

import multiprocessing
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple
from urllib.parse import urlsplit

spawned = multiprocessing.get_context("spawn")
LENGTH = b"content-length: "


class Load(NamedTuple):
    """What to send where: one request again and again, so many connections with one in flight on each."""

    address: str
    request: bytes
    connections: int
    seconds: float


class Found(NamedTuple):
    """Answers a second, percentiles in milliseconds, answers that were not 200."""

    rate: float
    p50: float
    p99: float
    failed: int


class Connected:
    """One connection, and the answer it waits for."""

    __slots__ = ("began", "data", "socket", "whole")

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""
        self.whole = 0
        self.began = 0.0

    def send(self, request: bytes) -> None:
        """The next request."""
        self.data, self.whole = b"", 0
        self.began = time.perf_counter()
        self.socket.send(request)

    def answered(self) -> bool:
        """Take what came; whether the answer is whole."""
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the server closed the connection")
        data = self.data = self.data + piece if self.data else piece
        if not self.whole:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return False
            at = data.index(LENGTH) + len(LENGTH)
            self.whole = end + 4 + int(data[at : data.index(b"\r", at)])
        return len(data) >= self.whole


def post(address: str, path: str, body: bytes) -> bytes:
    """A request as bytes."""
    place = urlsplit(address)
    head = f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def run(load: Load) -> Found:
    """Send for so long; each answer is followed by the next request on its connection."""
    place = urlsplit(load.address)
    assert place.hostname is not None and place.port is not None
    connections = [Connected(place.hostname, place.port) for _ in range(load.connections)]
    by_number = {each.socket.fileno(): each for each in connections}
    poll = select.epoll()
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    times, failed = [], 0
    for each in connections:
        each.send(load.request)
    began = time.perf_counter()
    ends = began + load.seconds
    while (now := time.perf_counter()) < ends:
        for number, _ in poll.poll(1.0):
            each = by_number[number]
            if each.answered():
                times.append(time.perf_counter() - each.began)
                failed += not each.data.startswith(b"HTTP/1.1 200")
                each.send(load.request)
    poll.close()
    for each in connections:
        each.socket.close()
    times.sort()
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    return Found(len(times) / (now - began), p50 * 1000, p99 * 1000, failed)


def loading(pipe: Connection) -> None:
    """Runs what it is told, until it is told None."""
    while (load := pipe.recv()) is not None:
        pipe.send(run(load))


@contextmanager
def process(target: object, *words: object) -> Iterator[Connection]:
    """A process at the other end of a pipe."""
    here, there = spawned.Pipe()
    child = spawned.Process(target=target, args=(there, *words), daemon=True)  # type: ignore[arg-type]
    child.start()
    try:
        yield here
    finally:
        child.kill()
        child.join()
