"""Both ends of a stream as a page of the documents tells people to write them: a sender that keeps what is not
acknowledged, a consumer that acknowledges what it has kept."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any

import zmq

AGAIN = 1.0
"""Seconds after which a sender sends again what was not acknowledged."""
AHEAD = 400


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class End(threading.Thread):
    """A DEALER in a thread of its own, bound or connected, until it is told to stop or has failed."""

    def __init__(self, address: str, binds: bool = False) -> None:
        super().__init__(daemon=True)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self._socket.setsockopt(zmq.SNDHWM, 50)
        self._socket.bind(address) if binds else self._socket.connect(address)
        self.stopping = threading.Event()
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.turn()
        except BaseException as error:
            self.failed = error
        finally:
            self._socket.close(0)
            self._context.term()

    def turn(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End it as a process that dies: what is on its way is lost."""
        self.stopping.set()
        self.join(30)
        if self.failed is not None:
            raise self.failed


class Sender(End):
    """Sends bodies by key until each is acknowledged."""

    def __init__(self, address: str, bodies: dict[bytes, bytes], binds: bool = False) -> None:
        super().__init__(address, binds)
        self.kept = dict(bodies)
        self._ahead: dict[bytes, float] = {}
        self.refused: list[str] = []
        self.done = threading.Event()
        self.sent = 0

    def turn(self) -> None:
        now = time.monotonic()
        for key in [key for key, at in self._ahead.items() if now - at > AGAIN]:
            self._try(key)
        for key in self.kept:
            if len(self._ahead) >= AHEAD:
                break
            if key not in self._ahead and not self._try(key):
                break
        if self._socket.poll(20):
            self._heard()
        if not self.kept:
            self.done.set()

    def _try(self, key: bytes) -> bool:
        try:
            self._socket.send_multipart([key, self.kept[key]], zmq.DONTWAIT)
        except zmq.Again:
            return False
        self._ahead[key] = time.monotonic()
        self.sent += 1
        return True

    def _heard(self) -> None:
        while True:
            try:
                key, *words = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            if words:
                self.refused.append(words[0].decode())
            self.kept.pop(key, None)
            self._ahead.pop(key, None)


class Consumer(End):
    """Keeps answers by key, then acknowledges; `pace` seconds each, none while `deaf`."""

    def __init__(self, address: str, binds: bool = False, pace: float = 0.0) -> None:
        super().__init__(address, binds)
        self.answers: dict[bytes, tuple[bytes, dict[str, Any]]] = {}
        self.times: Counter[bytes] = Counter()
        self._pace = pace

    def turn(self) -> None:
        if not self._socket.poll(20):
            return
        key, status, body = self._socket.recv_multipart()
        self.answers[key] = (status, json.loads(body))
        self.times[key] += 1
        if self._pace:
            self.stopping.wait(self._pace)
        self._socket.send(key)


def rows(count: int, width: int = 4) -> dict[bytes, bytes]:
    """Bodies of one row each, by key: numbers that binary fractions hold exactly."""
    names = [f"f{index}" for index in range(width)]
    return {
        f"k{n}".encode(): json.dumps({"rows": [{name: (n % 977) / 8 + at for at, name in enumerate(names)}]}).encode()
        for n in range(count)
    }
