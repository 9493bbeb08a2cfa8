"""Whether a difference stays within a margin, looked at as often as one likes.

half_width  Of a difference estimated with variance V, an interval that holds the true one at every look with 1 - level
            (the mixture sequential probability ratio test turned round; Robbins 1970, Johari, Pekelis and Walsh 2015,
            eq. 11): sqrt(2 V (V + t^2) / t^2 (ln(1 / level) + ln((V + t^2) / V) / 2)), narrowest where the difference
            is about t. V is taken as known, which it nearly is from some fifty values on.
need        Values per arm so that, without a difference, the whole interval lies within the margin with `power`.
chi_square  Quantiles by Wilson and Hilferty (1931), within 3 % from one degree of freedom on.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

MOST: Final = 10**9
_normal = NormalDist()


def half_width(variance: float, scale: float, level: float) -> float:
    """Half of the interval around an estimate of this variance; `scale` is the difference of interest, above 0."""
    if variance <= 0:
        return 0.0
    square = scale * scale
    whole = variance + square
    return math.sqrt(2 * variance * whole / square * (math.log(1 / level) + math.log(whole / variance) / 2))


def need(variance: float, margin: float, level: float, power: float) -> int:
    """Values per arm, where one of them has `variance` in the difference (the sum of both arms'); at most `MOST`."""
    z = _normal.inv_cdf(power)

    def enough(n: int) -> bool:
        of_estimate = variance / n
        return half_width(of_estimate, margin, level) + z * math.sqrt(of_estimate) <= margin

    low, high = 0, 1
    while high < MOST and not enough(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return min(high, MOST)


def chi_square(degrees: int, level: float) -> float:
    """What a chi-square variable of so many degrees of freedom exceeds with the chance `level`."""
    part = 2 / (9 * degrees)
    return float(degrees * (1 - part + _normal.inv_cdf(1 - level) * math.sqrt(part)) ** 3)
