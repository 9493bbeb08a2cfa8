"""When a host that died may be started again."""

from __future__ import annotations

from collections import deque

MANY, WITHIN = 3, 60.0
"""So many deaths of any cause in so many seconds are worth an alert."""
PAUSE = 5.0
"""Seconds between starts once `MANY` hosts died within `WITHIN` before they answered, or inside a model."""


class Restarts:
    """The deaths of the last minute. A host that had taken its routes and was running no model when it died proves that
    the next one will start: it is replaced at once, however often, or whoever kills hosts from outside would halve
    the capacity for longer. One that never came so far, or died inside a model, would die again: those are paused."""

    def __init__(self) -> None:
        self._deaths: deque[tuple[float, bool]] = deque()

    def died(self, now: float, proven: bool) -> None:
        """A host died, or could not be started."""
        self._deaths.append((now, proven))
        self._forget(now)

    def forgive(self) -> None:
        """What hosts died of is taken out: the next one starts at once."""
        self._deaths.clear()

    def many(self, now: float) -> int:
        """How many died lately, where that is worth an alert, else 0."""
        self._forget(now)
        return len(self._deaths) if len(self._deaths) >= MANY else 0

    def pause(self, now: float) -> float:
        """Seconds until the next start, 0.0 for at once."""
        self._forget(now)
        failed = [moment for moment, proven in self._deaths if not proven]
        return max(0.0, failed[-1] + PAUSE - now) if len(failed) >= MANY else 0.0

    def _forget(self, now: float) -> None:
        while self._deaths and now - self._deaths[0][0] >= WITHIN:
            self._deaths.popleft()
