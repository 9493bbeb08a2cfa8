"""How much waits in one host, and what it turns away so that those it takes are answered in a bounded time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from quarterstore.records.faults import Overloaded

QUEUE = 64
"""Requests that may wait: for the threads of one version, to be read as large bodies, or in one turn of the loop."""
SLOW = 0.1
"""Seconds: a turn of the loop that answers more than `QUEUE` requests is too long only from here on."""
AFTER_LEAST, AFTER_MOST = 1, 30
"""Seconds that a caller who is turned away is asked to wait."""


class Queue:
    """What waits for the same threads, those that run counted as well."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting = 0


class Measured(NamedTuple):
    """One host since it was looked at last: seconds of processor a second, the longest queue; and since it began:
    requests that came, those among them that were turned away."""

    busy: float
    waiting: int
    requests: int
    shed: int


class Load:
    """Counts of one host; on its loop only.

    A request that is answered on the loop waits where it cannot be seen, in the buffer of its connection; but all that
    wait there are read in one turn of the loop, one of each connection, so what a turn has answered already is the
    queue that its next one stood in. The bound: whoever is taken waited for at most two turns, each of at most `SLOW`
    seconds or `QUEUE` answers, or for `QUEUE` runs of its version.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.shed = 0
        self._turn_began = 0.0
        self._in_turn = 0
        self._longest = 0
        self._looked, self._used = time.monotonic(), time.process_time()

    def room(self, now: float) -> bool:
        """A request came at `time.perf_counter()`; whether this turn of the loop has room for it."""
        self.requests += 1
        if not self._in_turn:
            self._turn_began = now
            asyncio.get_running_loop().call_soon(self._turned)
        self._in_turn += 1
        return self._in_turn <= QUEUE or now - self._turn_began <= SLOW

    def _turned(self) -> None:
        self._longest = max(self._longest, self._in_turn)
        self._in_turn = 0

    def turn_away(self, run: float = 0.0) -> Overloaded:
        """Count a request for which there is no room; `run` is how long the queue takes for one, in seconds."""
        self.shed += 1
        return Overloaded(
            f"got more requests than are answered in time, expected at most {QUEUE} that wait",
            field="load",
            after=math.ceil(min(AFTER_MOST, max(AFTER_LEAST, QUEUE * run))),
        )

    @contextmanager
    def waits(self, queue: Queue) -> Iterator[None]:
        """A request stands in a queue for as long as this is open."""
        queue.waiting += 1
        self._longest = max(self._longest, queue.waiting)
        try:
            yield
        finally:
            queue.waiting -= 1

    def measured(self) -> Measured:
        """The load since it was asked for last."""
        now, used = time.monotonic(), time.process_time()
        busy = (used - self._used) / max(now - self._looked, 1e-6)
        found = Measured(busy, self._longest, self.requests, self.shed)
        self._looked, self._used, self._longest = now, used, 0
        return found


class Single(Load):
    """Counts of whoever asks one request at a time, without a loop: what waits is bounded elsewhere, as by the queue of
    a stream, so there is always room."""

    def room(self, now: float) -> bool:
        """A request came, and is taken."""
        self.requests += 1
        return True
