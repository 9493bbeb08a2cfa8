"""How far a metric of a run that was done again may be off, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from quarterstore.records.base import Record
from quarterstore.records.faults import got, missing

EVERY = "*"


class Tolerance(NamedTuple):
    """How far a metric may be off: in its own unit, or as a share of what it was."""

    number: float
    relative: bool

    def words(self) -> str:
        """As it was written."""
        return f"{self.number * 100:g}%" if self.relative else f"{self.number:g}"

    def holds(self, before: float, after: float | None) -> bool:
        """Whether what came out is near enough; NaN is NaN again, an infinity the same one."""
        if after is None:
            return False
        if before == after or (math.isnan(before) and math.isnan(after)):
            return True
        if not (math.isfinite(before) and math.isfinite(after)):
            return False
        # 1.01 - 1.0 is a little more than 0.01: a limit that is written as a decimal holds at the limit
        rounding = 2 * math.ulp(max(abs(before), abs(after))) if self.number else 0.0
        return abs(after - before) <= self.number * (abs(before) if self.relative else 1.0) + rounding


class MetricAgain(Record, frozen=True):
    """One metric of the run that was done again."""

    metric: str
    before: float
    after: float | None
    delta: float | None
    tolerance: str
    within: bool


class Reproduction(Record, frozen=True):
    """A run done again: the new run, what could not be made as it was, what else differs, each metric."""

    of: str
    run: str
    within: bool
    notes: tuple[str, ...]
    differences: tuple[tuple[str, str, str, str], ...]
    metrics: tuple[MetricAgain, ...]


EXACT = Tolerance(0.0, False)


def tolerances_of(texts: Iterable[str], metrics: Iterable[str]) -> dict[str, Tolerance]:
    """Tolerances by metric, `*` for all. Raises `Invalid` for what is none, `NotFound` for a metric the run lacks."""
    found = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        share = number.endswith("%")
        try:
            limit = float(number.removesuffix("%")) / (100 if share else 1)
        except ValueError:
            limit = math.nan
        if not limit >= 0:
            raise got("tolerance", text, "METRIC=NUMBER, METRIC=NUMBER% or one of these numbers for all")
        name = name if equals else EVERY
        if name != EVERY and name not in metrics:
            raise missing("tolerance", name, metrics)
        found[name] = Tolerance(limit, share)
    return found
