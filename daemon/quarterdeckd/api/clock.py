"""The clocks of this machine, read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from quarterdeckd.services.elapsed import Now
from quarterstore.records.moments import Moment


def _up() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """Tells what it is now, by the wall and by the machine."""

    def __init__(self, wall: Callable[[], float] = time.time, up: Callable[[], float] = _up) -> None:
        self._wall = wall
        self._up = up
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._began = self._moment()

    def now(self) -> Now:
        """This moment."""
        return Now(self._moment(), self._began)

    def _moment(self) -> Moment:
        return Moment(self._wall(), self._up(), self._boot)
