"""A breaker: after some failures in a row nobody asks again for a while, then one asks first (Nygard, Release It!)."""

from __future__ import annotations

FAILURES = 5
"""Failures in a row that open it."""
OPEN_FOR = 15.0
"""Seconds it stays open; then one may try, and its failure opens it anew."""


class Breaker:
    """Counts what happened; the time is given, so that it is nothing but a state machine."""

    def __init__(self) -> None:
        self.failures = 0
        self._opened: float | None = None

    def wait(self, now: float) -> float:
        """Seconds until somebody may ask; 0 where that is now. Asking when it has been open long enough opens it for
        the next one at once: one tries, the others wait for what comes of it."""
        if self._opened is None:
            return 0.0
        left = self._opened + OPEN_FOR - now
        if left > 0:
            return left
        self._opened = now
        return 0.0

    def worked(self) -> None:
        """An answer came, whatever it said."""
        self.failures, self._opened = 0, None

    def failed(self, now: float) -> None:
        """No answer came."""
        self.failures += 1
        if self.failures >= FAILURES:
            self._opened = now
