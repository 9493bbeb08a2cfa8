"""The newest points of the runs that log, told to those who look: four times a second at most, whatever comes in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from quarterdeckd.bus import Bus
from quarterstore.records.runs import CurvePoint

EVERY = 0.25
MOST_RUNS = 200
"""Runs told of at once: a window of a screen."""
MOST_METRICS = 100
"""Metrics of one run in a pulse; the others are read with the run."""

Newest = Callable[[str], Mapping[str, tuple[int, float, float]]]


class PointPulses:
    """Remembers which runs have newer points; lives on the loop."""

    def __init__(self, bus: Bus, newest: Newest) -> None:
        self._bus = bus
        self._newest = newest
        self._moved: dict[str, None] = {}
        self._due: asyncio.TimerHandle | None = None

    def touch(self, run: str) -> None:
        """A run has newer points."""
        self._moved[run] = None
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(EVERY, self._tell)

    def _tell(self) -> None:
        self._due = None
        moved, self._moved = list(self._moved)[-MOST_RUNS:], {}
        for run in moved:
            newest = list(self._newest(run).items())[-MOST_METRICS:]
            self._bus.pulse(CurvePoint(run=run, points={key: (step, value) for key, (step, _, value) in newest}))

    def close(self) -> None:
        """Tell nobody any more."""
        if self._due is not None:
            self._due.cancel()
