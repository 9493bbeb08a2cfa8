"""An interval that may be looked at whenever one likes, against published values and by simulation."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from quarterdeckd.measures import sequential
from quarterdeckd.measures.margin import MOST, half_width
from quarterstore.records.faults import Invalid
from quarterstore.records.outcomes import ArmOutcome

ALPHA = 0.05


def arm(n: int, mean: float, variance: float, version: str = "m@1", successes: int = 0) -> ArmOutcome:
    return ArmOutcome(version, n, mean, variance * max(0, n - 1), successes, 0)


def counted(n: int, successes: int) -> ArmOutcome:
    rate = successes / n if n else 0.0
    return ArmOutcome("m@1", n, rate, n * rate * (1 - rate), successes, 0)


@pytest.mark.parametrize(("looks", "published"), [(2, 0.083), (5, 0.142), (10, 0.193), (20, 0.248), (50, 0.320)])
def test_a_fixed_interval_looked_at_again_and_again_misses_as_armitage_found(looks: int, published: float) -> None:
    """Armitage, McPherson and Rowe 1969, table 2, two-sided 5 %: what the always-valid interval is there to prevent,
    and that these simulations see it."""
    chance = np.random.default_rng(1969)
    steps = chance.normal(size=(20_000, looks)).cumsum(axis=1) / np.sqrt(np.arange(1, looks + 1))
    missed = (np.abs(steps) > 1.959964).any(axis=1).mean()
    assert missed == pytest.approx(published, abs=0.01)


def missing(draw: Any, tau: float, rounds: int, days: int = 200, each: int = 100) -> float:
    """In how many rounds an equal pair is told apart at any of `days` looks."""
    missed = 0
    for _ in range(rounds):
        sides = []
        for _ in range(2):
            values = draw((days, each)).astype(float)
            sums, squares = values.sum(axis=1).cumsum(), (values**2).sum(axis=1).cumsum()
            counts = each * np.arange(1, days + 1)
            is_binary = bool(np.isin(values, (0, 1)).all())
            sides.append(
                [
                    ArmOutcome("m", int(n), s / n, max(0.0, q - s * s / n), int(s) if is_binary else int(n), 0)
                    for n, s, q in zip(counts, sums, squares, strict=True)
                ]
            )
        for first, second in zip(*sides, strict=True):
            if not (sequential.near_normal(first) and sequential.near_normal(second)):
                continue
            found = sequential.always_valid(first, second, ALPHA, tau)
            if not found.low <= 0 <= found.high:
                missed += 1
                break
    return missed / rounds


@pytest.mark.parametrize(
    ("name", "tau"), [("rare", 0.005), ("usual", 0.02), ("usual", 0.1), ("skewed", 0.3), ("normal", 0.05)]
)
def test_equal_arms_are_told_apart_at_no_look_more_often_than_the_level(name: str, tau: float) -> None:
    """Two hundred daily looks; the same with a fixed interval would be wrong in about 45 of 100."""
    chance = np.random.default_rng(7)
    draws: dict[str, Any] = {
        "rare": lambda size: chance.random(size) < 0.01,
        "usual": lambda size: chance.random(size) < 0.1,
        "skewed": lambda size: chance.lognormal(0, 1.5, size),
        "normal": lambda size: chance.normal(size=size),
    }
    assert missing(draws[name], tau, rounds=200) <= ALPHA


def test_the_interval_is_the_normal_mixture_boundary_of_howard_and_others() -> None:
    """For V = 1 / n: sqrt((n + r) log((n + r) / (r alpha^2))) / n with r = 1 / tau^2 (2021, proposition 5)."""
    for n, r in ((10, 5.0), (1000, 80.0), (10**6, 2.0)):
        theirs = math.sqrt((n + r) * math.log((n + r) / (r * ALPHA**2))) / n
        assert half_width(1 / n, 1 / math.sqrt(r), ALPHA) == pytest.approx(theirs, rel=1e-12)


def test_the_test_statistic_is_at_one_over_alpha_exactly_at_the_edge() -> None:
    """The mixture likelihood ratio of Johari and others, by numerical integration over the mixture."""
    variance, tau = 0.004, 0.1
    edge = half_width(variance, tau, ALPHA)
    grid = np.linspace(-2, 2, 400_001)
    prior = np.exp(-(grid**2) / (2 * tau**2)) / (tau * math.sqrt(2 * math.pi))
    ratio = np.exp((grid * edge - grid**2 / 2) / variance)
    assert np.trapezoid(prior * ratio, grid) == pytest.approx(1 / ALPHA, rel=1e-6)


@given(st.integers(2, 10**6), st.integers(2, 10**6), st.floats(0.01, 100), st.floats(0.001, 10), st.floats(0.001, 0.4))
def test_more_outcomes_and_a_looser_level_narrow_the_interval(
    n: int, more: int, variance: float, tau: float, alpha: float
) -> None:
    one = sequential.always_valid(arm(n, 0, variance), arm(n, 0, variance), alpha, tau)
    other = sequential.always_valid(arm(n + more, 0, variance), arm(n + more, 0, variance), alpha, tau)
    looser = sequential.always_valid(arm(n, 0, variance), arm(n, 0, variance), alpha * 2, tau)
    assert other.high < one.high and looser.high < one.high
    fixed = 1.96 * math.sqrt(one.variance) if alpha == ALPHA else 0.0
    assert one.low == -one.high and one.high > fixed


@given(st.floats(0.001, 10), st.integers(2, 10**4), st.floats(0.001, 0.3), st.floats(0.01, 1), st.floats(0.5, 0.95))
def test_what_is_needed_is_enough_and_one_less_is_not(
    variance: float, n: int, alpha: float, effect: float, power: float
) -> None:
    found = sequential.need(variance, n, alpha, effect, power)
    assume(2 < found < MOST)
    z = NormalDist().inv_cdf(power)

    def spare(count: float) -> float:
        then = variance * n / count
        return effect - half_width(then, effect, alpha) - z * math.sqrt(then)

    assert spare(found) >= -1e-9 * effect
    assert spare(found - 2) < 1e-9 * effect


def test_an_effect_that_is_there_is_seen_by_what_is_needed_with_the_power_asked_for() -> None:
    chance = np.random.default_rng(11)
    before, effect, rounds = 0.10, 0.02, 400
    n = sequential.need(before * (1 - before) / 1000 + 0.12 * 0.88 / 1000, 1000, ALPHA, effect, 0.8)
    seen = 0
    for _ in range(rounds):
        first, second = counted(n, chance.binomial(n, before)), counted(n, chance.binomial(n, before + effect))
        seen += sequential.always_valid(first, second, ALPHA, effect).low > 0
    assert seen / rounds >= 0.75
    assert 7_000 < n < 8_000, "of a fixed test 3,841 (Fleiss): to look whenever one likes costs about twice that"


@pytest.mark.parametrize(
    ("counts", "dealt", "square", "p"),
    [
        ((5000, 5000), (50, 50), 0.0, 1.0),
        # Fabijan and others 2019 (KDD), the example of 50.2 % against 49.8 %: 821,588 and 815,482 callers
        ((821_588, 815_482), (50, 50), 22.7744, 1.82e-6),
        ((90, 10), (90, 10), 0.0, 1.0),
        ((60, 40), (50, 50), 4.0, 0.0455),
        ((0, 0), (50, 50), 0.0, 1.0),
    ],
)
def test_a_sample_ratio_is_judged_as_published(counts: Any, dealt: Any, square: float, p: float) -> None:
    found = sequential.sample_ratio(counts, dealt)
    assert found[0] == pytest.approx(square, rel=1e-4, abs=1e-9)
    assert found[1] == pytest.approx(p, rel=1e-2)


def test_zeros_and_ones_are_known_by_their_sums() -> None:
    assert sequential.binary(counted(100, 7)) and sequential.binary(counted(0, 0))
    assert not sequential.binary(arm(100, 0.07, 3.0, successes=7))
    assert not sequential.near_normal(counted(1000, 9)) and sequential.near_normal(counted(1000, 10))
    assert not sequential.near_normal(counted(1000, 995))


@pytest.mark.parametrize(
    "outcome",
    [
        ArmOutcome("m", -1, 0, 0, 0, 0),
        ArmOutcome("m", 3, 0, 0, 4, 0),
        ArmOutcome("m", 3, math.nan, 0, 0, 0),
        ArmOutcome("m", 3, 0, -1, 0, 0),
        ArmOutcome("m", 3, 0, math.inf, 0, 0),
    ],
)
def test_outcomes_that_cannot_be_are_refused(outcome: ArmOutcome) -> None:
    with pytest.raises(Invalid, match="outcomes: got"):
        sequential.checked(outcome)
