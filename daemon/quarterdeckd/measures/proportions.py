"""Shares of rows: the interval of one, and of how far one lies below another."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

Z: Final = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


class Fall(NamedTuple):
    """How far a share lies below another, with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(hits: int, n: int, z: float = Z) -> tuple[float, float]:
    """The interval of a proportion of `hits` in `n` >= 1 (Wilson 1927), inside [0, 1] also at 0 and at n."""
    share, square = hits / n, z * z / n
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == n else middle + half)


def fall(before: float, before_low: float, before_high: float, hits: int, n: int) -> Fall:
    """How far `hits` of `n` >= 1 lie below a share that was measured on other rows as `before` in [before_low,
    before_high]: the difference of two independent proportions by the square-and-add of their own intervals (Newcombe
    1998, method 10)."""
    share = hits / n
    low, high = wilson(hits, n)
    value = before - share
    return Fall(
        value,
        value - math.hypot(before - before_low, high - share),
        value + math.hypot(before_high - before, share - low),
    )
