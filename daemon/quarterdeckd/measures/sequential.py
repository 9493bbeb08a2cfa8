"""Comparing two means while looking whenever one likes: an interval that holds at all looks together, and what is
missing.

always_valid    The mixture sequential probability ratio test of Robbins (1970) with a normal mixture N(0, tau^2), for
                two streams as in Johari, Koomen, Pekelis and Walsh (2022, "Always Valid Inference", Operations
                Research 70): with the difference d of the means and its variance V = s_a^2 / n_a + s_b^2 / n_b,
                    d +- sqrt(V (V + tau^2) / tau^2 * (2 log(1 / alpha) + log((V + tau^2) / V)))
                misses the true difference at any look with a chance of at most alpha. For V = 1 / n this is the
                boundary sqrt((n + r) log((n + r) / (r alpha^2))) of Howard, Ramdas, McAuliffe and Sekhon (2021) for
                the sum, r = 1 / tau^2. A fixed 95 % interval looked at 10 times misses at 19 % (Armitage, McPherson and
                Rowe 1969).
need            The interval shrinks below the effect that is asked for, with room for chance:
                half-width + z_power sqrt(V) <= effect. Both are those of `margin`, which a canary's gates use.
sample_ratio    Pearson's chi-square of the arms' sizes against the shares they were dealt by.

What is assumed: outcomes are independent of each other, and there are enough of them that their means are nearly normal
(`NEAR_NORMAL`). The variances are estimated. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from quarterdeckd.measures import margin
from quarterdeckd.measures.margin import half_width
from quarterstore.records.faults import got
from quarterstore.records.outcomes import ArmOutcome

NEAR_NORMAL: Final = 10
"""Outcomes of each kind an arm of zeros and ones must have before its mean is taken to be nearly normal."""


class Between(NamedTuple):
    """A difference of two means (second less first), its always-valid interval and its variance."""

    difference: float
    low: float
    high: float
    variance: float


def checked(outcome: ArmOutcome) -> ArmOutcome:
    """The outcomes of an arm, or a fault: counts from 0 on, finite sums, no more successes than outcomes."""
    if outcome.n < 0 or not 0 <= outcome.successes <= outcome.n:
        raise got("outcomes", f"{outcome.successes} successes of {outcome.n}", "no more successes than outcomes")
    if not math.isfinite(outcome.mean) or not 0 <= outcome.m2 < math.inf:
        raise got("outcomes", f"mean {outcome.mean}, m2 {outcome.m2}", "finite ones, m2 from 0 on")
    return outcome


def binary(outcome: ArmOutcome) -> bool:
    """Whether all outcomes so far were 0 or 1: then their sum is the successes, and the deviations follow from it."""
    if not outcome.n:
        return True
    rate = outcome.successes / outcome.n
    return math.isclose(outcome.mean, rate, abs_tol=1e-9) and math.isclose(
        outcome.m2, outcome.n * rate * (1 - rate), rel_tol=1e-6, abs_tol=1e-6
    )


def near_normal(outcome: ArmOutcome) -> bool:
    """Whether the mean of an arm may be taken to be normal: rare successes need more outcomes than `least` says."""
    return not binary(outcome) or min(outcome.successes, outcome.n - outcome.successes) >= NEAR_NORMAL


def always_valid(first: ArmOutcome, second: ArmOutcome, alpha: float, tau: float) -> Between:
    """The difference of two arms with at least two outcomes each; the interval is a point where nothing varies."""
    variance = _variance(first) + _variance(second)
    difference = second.mean - first.mean
    half = half_width(variance, tau, alpha)
    return Between(difference, difference - half, difference + half, variance)


def _variance(outcome: ArmOutcome) -> float:
    return outcome.m2 / (outcome.n - 1) / outcome.n


def need(variance: float, n: int, alpha: float, effect: float, power: float) -> int:
    """Outcomes of the smaller arm by which a difference of `effect`, or none, is told with `power`, where `n` of them
    made a variance of `variance`: it falls as they grow; see `margin.need`."""
    return margin.need(variance * n, effect, alpha, power)


def sample_ratio(counts: Sequence[int], dealt: Sequence[float]) -> tuple[float, float]:
    """Pearson's chi-square of two counts against the shares they were dealt by, and its p with one degree of freedom;
    of nothing it is 0 and 1."""
    total, whole = sum(counts), sum(dealt)
    if len(counts) != 2 or len(dealt) != 2 or min(counts) < 0 or min(dealt) <= 0:
        raise got("counts", list(counts), "two counts from 0 on, of arms that have a share each")
    if not total:
        return 0.0, 1.0
    expected = [total * each / whole for each in dealt]
    square = sum((count - each) ** 2 / each for count, each in zip(counts, expected, strict=True))
    return square, math.erfc(math.sqrt(square / 2))
