"""Intervals that hold at every look, against simulation and the formula they come from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from quarterdeckd.measures.margin import MOST, chi_square, half_width, need


def test_the_half_width_is_where_the_mixture_ratio_reaches_its_bound() -> None:
    """Johari et al.'s ratio sqrt(V / (V + t^2)) exp(t^2 d^2 / (2 V (V + t^2))) is 1 / level at d = half width."""
    for variance, scale, level in ((1e-4, 0.02, 0.05), (0.3, 1.0, 0.01), (2e-6, 0.1, 0.2)):
        d, whole = half_width(variance, scale, level), variance + scale**2
        ratio = math.sqrt(variance / whole) * math.exp(scale**2 * d**2 / (2 * variance * whole))
        assert ratio == pytest.approx(1 / level)
    assert half_width(0.0, 0.1, 0.05) == 0.0


def test_a_look_after_each_value_is_wrong_less_often_than_the_level() -> None:
    """A fixed 95 % interval looked at 2,000 times misses the true mean in most runs; this one in at most 5 %."""
    rng, wrong, fixed = np.random.default_rng(31), 0, 0
    for _ in range(300):
        means = np.cumsum(rng.normal(0, 1, 2000)) / np.arange(1, 2001)
        looks = [abs(mean) > half_width(1 / n, 0.1, 0.05) for n, mean in enumerate(means, 1)]
        wrong += any(looks[9:])
        fixed += any(abs(mean) > 1.96 / math.sqrt(n) for n, mean in enumerate(means[9:], 10))
    print(f"wrong in {wrong} of 300 runs with 1,991 looks each, a fixed interval in {fixed}, seed 31")
    assert wrong <= 15 + 1.96 * math.sqrt(300 * 0.05 * 0.95) < fixed


@given(st.floats(1e-4, 10), st.floats(0.001, 1), st.floats(0.001, 0.3), st.floats(0.5, 0.99))
def test_what_is_needed_is_enough_and_one_less_is_not(
    variance: float, margin: float, level: float, power: float
) -> None:
    n = need(variance, margin, level, power)
    z = stats.norm.ppf(power)

    def reach(n: int) -> float:
        return half_width(variance / n, margin, level) + float(z) * math.sqrt(variance / n)

    assert n == MOST or reach(n) <= margin * (1 + 1e-9)
    assert n == 1 or reach(n - 1) > margin * (1 - 1e-9)


def test_the_power_that_was_asked_for_is_there() -> None:
    """With as many values as are needed an equal arm is within the margin in at least 80 % of the trials."""
    rng, n = np.random.default_rng(32), need(0.18, 0.05, 0.05, 0.8)
    kept = 0
    for _ in range(400):
        difference = rng.binomial(n, 0.9) / n - rng.binomial(n, 0.9) / n
        kept += difference + half_width(0.18 / n, 0.05, 0.05) <= 0.05
    print(f"{n} an arm: within the margin in {kept} of 400, seed 32")
    assert kept >= 400 * 0.8 - 1.96 * math.sqrt(400 * 0.8 * 0.2)


@pytest.mark.parametrize("degrees", [1, 2, 9, 40])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_quantiles_of_chi_square_are_near_scipys(degrees: int, level: float) -> None:
    assert chi_square(degrees, level) == pytest.approx(stats.chi2.isf(level, degrees), rel=0.03)
