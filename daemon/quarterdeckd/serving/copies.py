"""Requests copied to a shadow once they are answered: a bounded queue to another process, never waited for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import zmq

from quarterdeckd.rollout.arms import arm
from quarterdeckd.serving.session import name_of
from quarterdeckd.serving.tensors import Feed, Given, packed
from quarterstore.records.deployments import Route, Slot
from quarterstore.records.hosts import HostNews

WAITING = 64
"""Copies that may wait here for the shadow, and as many again on its side; further ones are dropped and counted."""
LARGEST = 1024 * 1024
"""Bytes of a request that is copied: so what waits is bounded in memory too."""


class CopyHead(msgspec.Struct, array_like=True):
    """The first frame of a copy: whose it is, and name, datatype and shape of each tensor in the frames behind."""

    endpoint: str
    epoch: int
    prediction: str
    tensors: list[tuple[str, str, list[int]]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CopyHead).decode


def read(frames: Sequence[bytes]) -> tuple[CopyHead, list[Given]]:
    """A copy as the shadow takes it."""
    head = _decode(frames[0])
    return head, [Given(*each, data) for each, data in zip(head.tensors, frames[1:], strict=True)]


def _described(feed: Feed) -> list[tuple[str, str, list[int]]]:
    return [(name, name_of(array), list(array.shape)) for name, array in feed.items()]


class Copies:
    """One host's copies. Nothing of a shadow runs in this process, so that its crash or hang is nobody's here."""

    def __init__(self, context: zmq.Context[Any], address: str) -> None:
        self._socket = context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, WAITING)
        # without a shadow that listens nothing is queued: a copy of long ago would pair with nothing
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._address = address
        self._connected = False
        self._copied: Counter[tuple[str, int]] = Counter()
        self._dropped: Counter[tuple[str, int]] = Counter()

    def later(self, route: Route, shadow: Slot, prediction: str, feed: Feed, size: int) -> None:
        """Copy the tensors of a request of `size` bytes after its answer is out, whatever door it came by: a turn of
        the loop ends with writing what was answered in it, and a task that answers does so in the next one."""
        if shadow.share < 100 and arm(f"{route.salt}/shadow", prediction, (100 - shadow.share, shadow.share)) == 0:
            return
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._send, route, prediction, feed, size)

    def _send(self, route: Route, prediction: str, feed: Feed, size: int) -> None:
        if not self._connected:
            self._socket.connect(self._address)
            self._connected = True
        about = (route.endpoint, route.epoch)
        if size > LARGEST:
            self._dropped[about] += 1
            return
        head = _encode(CopyHead(route.endpoint, route.epoch, prediction, _described(feed)))
        try:
            self._socket.send_multipart([head, *map(packed, feed.values())], zmq.DONTWAIT)
        except zmq.Again:
            self._dropped[about] += 1
        else:
            self._copied[about] += 1

    def news(self, route: Route) -> HostNews:
        """What was copied and dropped under a route; what is of an older one is forgotten."""
        about = (route.endpoint, route.epoch)
        for counts in (self._copied, self._dropped):
            for key in [key for key in counts if key[0] == about[0] and key != about]:
                del counts[key]
        return HostNews(
            kind="copies",
            endpoint=route.endpoint,
            epoch=route.epoch,
            copied=self._copied[about],
            dropped=self._dropped[about],
        )

    def close(self) -> None:
        """Let go; what waits is lost."""
        self._socket.close(0)
