"""Traffic at a steady rate over kept-alive connections, each answer with what it needs to be blamed on somebody."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

import msgspec

BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}]}


class Answer(NamedTuple):
    """One request: when it was sent and done (`time.monotonic`), the status (0 where the connection broke), who
    answered, and the local port of its connection."""

    sent: float
    done: float
    status: int
    version: str
    host: int
    port: int
    retried: bool
    epoch: int = 0
    body: bytes = b""


class Connection(asyncio.Protocol):
    """One connection that is asked one thing at a time."""

    def __init__(self) -> None:
        self.lost = False
        self.body = b""
        """Of the last answer."""
        self._data = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(b"")

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, blank, body = self._data.partition(b"\r\n\r\n")
        if blank and len(body) >= int(_header(head, b"content-length") or 0):
            self._data, self.body = b"", body
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(head)

    async def ask(self, request: bytes) -> bytes:
        """The head of the answer, empty where the connection broke first."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)  # type: ignore[attr-defined]
        return await asyncio.wait_for(self._answer, 10)


def _header(head: bytes, name: bytes) -> bytes:
    return next((line[len(name) + 2 :] for line in head.split(b"\r\n") if line.lower().startswith(name + b":")), b"")


class Traffic:
    """`rate` requests a second over `connections`, until stopped; with `retry` a broken one is sent once more."""

    def __init__(self, address: str, endpoint: str, rate: float = 200, connections: int = 8, *, retry: bool) -> None:
        self.answers: list[Answer] = []
        self.hosts: dict[int, int] = {}
        """The pid of the host at the other end, by the local port."""
        host, _, port = address.removeprefix("http://").rpartition(":")
        self._place = (host, int(port))
        body = msgspec.json.encode(BODY)
        self._request = (
            f"POST /v2/models/{endpoint}/infer HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        self._rate = rate
        self._every = connections / rate
        self._retry = retry
        self._stopping = False
        self._workers = [asyncio.create_task(self._work(index / rate)) for index in range(connections)]

    async def stop(self) -> list[Answer]:
        """Every answer, in the order they came."""
        self._stopping = True
        await asyncio.gather(*self._workers)
        return self.answers

    async def until(self, count: int) -> None:
        """Wait for so many more answers: the time that they take at this rate, and 40 seconds."""
        deadline = time.monotonic() + 40 + count / self._rate
        count += len(self.answers)
        while len(self.answers) < count:
            assert time.monotonic() < deadline, "no answers came"
            await asyncio.sleep(0.005)

    async def _connected(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, *self._place)
        return connection

    async def _work(self, offset: float) -> None:
        connection = await self._connected()
        due = time.monotonic() + offset
        while not self._stopping:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += self._every
            if connection.lost:
                connection = await self._connected()
            sent = time.monotonic()
            head = await connection.ask(self._request)
            if not head:
                self._note(sent, connection, head, False)
                if not self._retry:
                    continue
                connection = await self._connected()
                head = await connection.ask(self._request)
                self._note(sent, connection, head, True)
                continue
            self._note(sent, connection, head, False)
            if (
                _header(head, b"connection") == b"close"
            ):  # as every client does: this one may be at it before it is closed
                connection.lost = True
        connection.transport.close()  # type: ignore[attr-defined]

    def _note(self, sent: float, connection: Connection, head: bytes, retried: bool) -> None:
        status = int(head[9:12]) if head else 0
        prediction = _header(head, b"quarterdeck-prediction").decode()
        # p<milliseconds, 11 hex digits><pid>-<number>
        pid = int(prediction.partition("-")[0][12:], 16) if prediction else self.hosts.get(connection.port, 0)
        self.hosts[connection.port] = pid
        version = _header(head, b"quarterdeck-version").decode()
        epoch = int(_header(head, b"quarterdeck-epoch") or 0)
        body = connection.body if head else b""
        self.answers.append(Answer(sent, time.monotonic(), status, version, pid, connection.port, retried, epoch, body))
