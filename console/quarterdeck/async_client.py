"""The client of the console: many requests at once on one loop, lost and found again by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import zmq
import zmq.asyncio

from quarterdeck import feed
from quarterdeck.keys import load
from quarterdeck.transport import Sockets, dealer, new_request, unreachable
from quarterstore.records.base import Pulse, answer_type
from quarterstore.records.faults import Fault, TimedOut, raised
from quarterstore.records.people import WhoAmI
from quarterstore.records.places import Home
from quarterstore.records.store import Replay, ShowStatus
from quarterstore.records.wire import Answer, Published, decode, framed

BEAT = 0.5
"""Seconds between two questions that only want an answer; one without an answer for two beats means that the daemon is
lost: after 1.5 s at the latest (with 0.7 s it took 2.03 s to the banner)."""
QUIET = 1000
"""Milliseconds without a word from the feed after which the daemon is asked whether something was missed."""


class AsyncClient:
    """One caller's connection; `ask` never waits for anybody else's request."""

    def __init__(self, home: Home, caller: str = "owner", timeout: float = 10.0) -> None:
        self.home = home
        self.caller = caller
        self.timeout = timeout
        self.connected = True
        self._seen = 0
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._callbacks: list[Callable[[bool], None]] = []
        self._sockets = Sockets(zmq.asyncio.Context)
        self._socket = self._sockets.keep(dealer(self._sockets.context, load(home, caller)))
        self._socket.connect(home.ask_address)
        self._tasks: list[asyncio.Task[None]] = []

    def on_state(self, callback: Callable[[bool], None]) -> None:
        """Call with False when the daemon is lost, with True when it is back."""
        self._callbacks.append(callback)

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._listen())]

    async def _read(self) -> None:
        while True:
            answer: Answer = decode(await self._socket.recv(), Answer)
            self._seen = max(self._seen, answer.seq)
            future = self._waiting.pop(answer.id, None)
            if future is not None and not future.done():
                future.set_result(answer)

    async def _listen(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self._ask(WhoAmI(), BEAT * 2)
                alive = True
            except TimedOut:
                # a loop that stood still itself has read no answer: that says nothing of the daemon
                alive = self.connected and time.monotonic() - began > 2.5 * BEAT
            except Fault:
                alive = True
            if alive != self.connected:
                self.connected = alive
                for callback in self._callbacks:
                    callback(alive)
            await asyncio.sleep(max(0.0, BEAT - (time.monotonic() - began)))

    async def _ask(self, message: Any, timeout: float) -> Any:
        request = new_request()
        frame = framed(message, request, self._seen)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        try:
            # not wait_for: in Python 3.11 that swallows a cancel that comes together with the answer, and closing hangs
            async with asyncio.timeout(timeout):
                await self._socket.send(frame)
                answer = await future
        except TimeoutError as error:
            raise TimedOut(f"no answer within {timeout:g} s", field="timeout") from error
        finally:
            self._waiting.pop(request, None)
        if answer.fault is not None:
            raise raised(answer.fault)
        return decode(answer.body, answer_type(type(message)))

    async def ask(self, message: Any) -> Any:
        """The answer to a message; raises its fault, `Unreachable` while the daemon is lost."""
        self._start()
        if not self.connected:
            raise unreachable(self.home)
        return await self._ask(message, self.timeout)

    async def follow(self) -> AsyncIterator[Published | Pulse]:
        """Kept entries without a gap, and pulses, for as long as it is read; across restarts of the daemon."""
        self._start()
        socket = self._sockets.keep(feed.subscriber(self._sockets.context, self.home, self.caller))
        last = self._seen or await self._newest()
        try:
            while True:
                if not await socket.poll(QUIET):
                    # a subscription may have missed what was published while it was being made again: ask
                    for entry in await self._missed(last):
                        last = max(last, entry.seq)
                        yield entry
                    continue
                item = feed.read(await socket.recv_multipart())
                if isinstance(item, Pulse):
                    yield item
                elif item.seq == last + 1:
                    last = item.seq
                    yield item
                elif item.seq > last:
                    for entry in await self._missed(last):
                        last = max(last, entry.seq)
                        yield entry
        finally:
            self._sockets.drop(socket)

    async def _newest(self) -> int:
        while True:
            try:
                return int((await self.ask(ShowStatus())).seq)
            except Fault:
                await asyncio.sleep(BEAT)

    async def _missed(self, after: int) -> list[Published]:
        try:
            return feed.missed(await self.ask(Replay(after=after)))
        except Fault:
            return []  # asked again when the next entry shows the same gap

    async def close(self) -> None:
        """Let go of the sockets."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._sockets.close()
