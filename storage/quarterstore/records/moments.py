"""A moment by two clocks: that of the wall, which may be set, and that of the machine, which nobody sets."""

from __future__ import annotations

from quarterstore.records.base import Record


class Moment(Record, frozen=True):
    """`at` is in seconds since 1970 by the wall clock; `up` in seconds since the start of the machine, time asleep
    included, in the run of it that `boot` names: empty where that was not noted, as in older journals."""

    at: float
    up: float = 0.0
    boot: str = ""
