"""Patience with who gives no answer: after some failures in a row nobody asks for a while, then one asks first (the
circuit breaker of Nygard, Release It!)."""

from __future__ import annotations

FAILURES = 5
"""Failures in a row that end it."""
AWAY_FOR = 15.0
"""Seconds in which nobody asks; then one may try, and its failure begins them anew."""


class Patience:
    """Counts what happened; the time is given, so that it is nothing but a state machine."""

    def __init__(self) -> None:
        self.failures = 0
        self._ended: float | None = None

    def wait(self, now: float) -> float:
        """Seconds until somebody may ask; 0 where that is now. Who asks when that was long enough begins it
        anew for the next one: one tries, the others wait for what comes of it."""
        if self._ended is None:
            return 0.0
        left = self._ended + AWAY_FOR - now
        if left > 0:
            return left
        self._ended = now
        return 0.0

    def worked(self) -> None:
        """An answer came, whatever it said."""
        self.failures, self._ended = 0, None

    def failed(self, now: float) -> None:
        """No answer came."""
        self.failures += 1
        if self.failures >= FAILURES:
            self._ended = now
