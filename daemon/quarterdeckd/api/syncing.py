"""One sync for everybody who waits for one: whoever comes while it runs waits for the next."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Done = Callable[[BaseException | None], None]


class Syncing:
    """Calls `sync` in a thread of its own, so that a slow disk holds up no loop; a group is whatever came while the
    last sync ran, no timer."""

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._waiting: list[Done] = []
        self._running = False

    def then(self, done: Done) -> None:
        """Call `done` on the loop once what is written by now is synced, with the error of the sync if it failed."""
        self._waiting.append(done)
        if not self._running:
            self._begin()

    def _begin(self) -> None:
        group, self._waiting, self._running = self._waiting, [], True
        future = self._loop.run_in_executor(self._thread, self._sync)
        future.add_done_callback(functools.partial(self._end, group))

    def _end(self, group: list[Done], future: asyncio.Future[None]) -> None:
        self._running = False
        error = future.exception()
        for done in group:
            done(error)
        if self._waiting and not self._running:
            self._begin()

    async def close(self) -> None:
        """Sync once more, so that nobody waits, and end the thread."""
        last: asyncio.Future[None] = self._loop.create_future()
        self.then(lambda error: last.set_result(None))
        await last
        self._thread.shutdown()
