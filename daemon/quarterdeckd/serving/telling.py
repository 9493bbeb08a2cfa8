"""Who is told how serving is: the links that watch a launcher, and the tally of what its hosts counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from quarterdeckd.serving.tally import Tally
from quarterstore.records.hosts import HostNews
from quarterstore.records.serving import ServingState
from quarterstore.records.wire import encode

WATCHERS = 8
"""Links that are told the news; the ones that asked longest ago are forgotten."""
TELL_EVERY = 1.0


class Telling:
    """Sends answers, states and news to links. A state that nobody asked for (the hosts changed) has the number 0."""

    def __init__(self, socket: Any, state: Callable[[], ServingState]) -> None:
        self.tally = Tally()
        self._socket = socket
        self._state = state
        self._watchers: dict[bytes, None] = {}
        self._dropped: dict[int, int] = {}
        """Predictions counted but not kept, by the pid of the host, dead ones too."""
        self._timer: asyncio.TimerHandle | None = None
        self._told = 0.0
        self._sending: set[asyncio.Task[None]] = set()

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it from the loop, and keep it until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def end(self) -> None:
        """Tell what is being told, and nothing after it."""
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def watch(self, identity: bytes, number: list[bytes]) -> None:
        """Tell the news from here on to a link that wants its answers told apart."""
        if number:
            self._watchers.pop(identity, None)
            self._watchers[identity] = None
            while len(self._watchers) > WATCHERS:
                del self._watchers[next(iter(self._watchers))]

    async def answer(self, identity: bytes, number: list[bytes]) -> None:
        """The state to one that asked."""
        await self._socket.send_multipart([identity, b"state", encode(self._state()), *number])

    async def tell_state(self) -> None:
        """The state to all that watch."""
        for identity in list(self._watchers):
            await self.answer(identity, [b"0"])

    async def tell(self, news: HostNews) -> None:
        """News to all that watch."""
        for identity in list(self._watchers):
            await self._socket.send_multipart([identity, b"news", encode(news)])

    async def pass_on(self, pid: int, news: HostNews) -> None:
        """What one host says of itself, added to what the others said; counts are told once a second."""
        if news.kind == "dropped":
            self._dropped[pid] = news.dropped
            await self.tell(replace(news, dropped=sum(self._dropped.values())))
        if news.kind == "copies":
            await self.tell(self.tally.copies(pid, news))
        if news.latency is None:
            return
        if self.tally.begins(news):
            self._tell_tally()  # what the epoch that is over counted last
        self.tally.take(pid, news, {news.version: news.latency.role})
        if self._timer is None:
            wait = max(0.0, self._told + TELL_EVERY - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._tell_tally)

    def _tell_tally(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._told = None, time.monotonic()
        for news in self.tally.tell():
            self.soon(self.tell(news))
