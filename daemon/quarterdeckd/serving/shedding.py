"""When turning requests away has gone on for so long that somebody has to know."""

from __future__ import annotations

from collections.abc import Mapping

LASTS = 10.0
"""Seconds of it that are worth an alert: a burst is what a queue is for."""
PAUSE = 3.0
"""Seconds without it that end it."""
AGAIN = 60.0
"""Seconds until it is said again while it goes on."""


class Shedding:
    """How long requests have been turned away, from what each host counted since it began."""

    def __init__(self) -> None:
        self._before: dict[int, int] = {}
        self._since = self._last = self._said = float("-inf")
        self._count = 0

    def took(self, now: float, shed: Mapping[int, int]) -> int:
        """The counts by pid at `time.monotonic()`; answers how many were turned away since it began, where
        that is to be said now, else 0."""
        more = sum(max(0, count - self._before.get(pid, 0)) for pid, count in shed.items())
        self._before = dict(shed)
        if not more:
            return 0
        if now - self._last > PAUSE:
            self._since, self._count = now, 0
        self._last = now
        self._count += more
        if now - self._since < LASTS or now - self._said < AGAIN:
            return 0
        self._said = now
        return self._count
