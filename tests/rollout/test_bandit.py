"""A bandit by its counts alone, and by simulated arms."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.rollout import bandit
from quarterdeckd.rollout.arms import drawn, point_of
from quarterstore.records.faults import Invalid
from quarterstore.records.outcomes import ArmOutcome
from quarterstore.records.trials import BanditRule

THOMPSON = BanditRule(metric="bought")
GREEDY = BanditRule(metric="bought", algorithm="egreedy")


def arm(n: int, successes: int, version: str = "m@1") -> ArmOutcome:
    rate = successes / n if n else 0.0
    return ArmOutcome(version, n, rate, n * rate * (1 - rate), successes, 0)


def simulated(rule: BanditRule, rates: tuple[float, ...], count: int, world: int, delay: int = 0) -> Any:
    """Requests in order, each drawn by its id against the shares of the last look; its reward comes `delay` requests
    later, for the arm that answered it. Answers the choices and the last shares."""
    chance = random.Random(world)
    n, successes = [0] * len(rates), [0] * len(rates)
    owed: list[tuple[int, bool]] = []
    choices: list[int] = []
    shares: tuple[float, ...] = ()
    for number in range(count):
        if number % 500 == 0:
            shares = bandit.shares(rule, [arm(*each) for each in zip(n, successes, strict=True)])
        chosen = drawn(point_of(f"bandit/{rule.seed}", f"p{world}-{number}"), shares)
        choices.append(chosen)
        owed.append((chosen, chance.random() < rates[chosen]))
        if len(owed) > delay:
            earner, won = owed.pop(0)
            n[earner] += 1
            successes[earner] += won
    return choices, shares


@pytest.mark.parametrize("rule", [THOMPSON, GREEDY], ids=["thompson", "egreedy"])
@pytest.mark.parametrize("delay", [0, 2000])
def test_the_better_of_two_arms_has_most_of_the_traffic_by_20_000(rule: BanditRule, delay: int) -> None:
    """0.10 against 0.12, rewards at once and late: more than 80 % in 9 worlds of 10."""
    worlds = 10
    found = [simulated(rule, (0.10, 0.12), 20_000, world, delay) for world in range(worlds)]
    last = [sum(choices[-2000:]) / 2000 for choices, _ in found]
    assert sum(share > 0.8 for share in last) >= 0.9 * worlds
    assert np.median([sum(choices) / len(choices) for choices, _ in found]) > 0.75
    assert min(min(shares) for _, shares in found) >= rule.floor - 1e-12


def test_the_same_seed_chooses_the_same_and_another_does_not() -> None:
    one = simulated(THOMPSON, (0.1, 0.5), 2000, 1)
    assert simulated(THOMPSON, (0.1, 0.5), 2000, 1) == one
    assert simulated(BanditRule(metric="bought", seed=2), (0.1, 0.5), 2000, 1)[0] != one[0]


def test_what_is_drawn_follows_the_shares() -> None:
    weights, count = (0.2, 0.05, 0.75), 20_000
    seen = np.bincount([drawn(point_of("s", str(number)), weights) for number in range(count)], minlength=3)
    for times, weight in zip(seen, weights, strict=True):
        assert abs(times - count * weight) < 4 * math.sqrt(count * weight * (1 - weight))


@pytest.mark.parametrize(
    "counts", [((10, 3), (10, 5)), ((1000, 100), (1000, 120)), ((0, 0), (50, 1), (50, 25)), ((10**6, 10**5), (9, 9))]
)
def test_the_chance_of_being_best_is_that_of_many_draws(counts: Any) -> None:
    rule = BanditRule(metric="bought", floor=0.0)
    chance = np.random.default_rng(3)
    draws = np.stack([chance.beta(1 + good, 1 + n - good, 200_000) for n, good in counts])
    expected = np.bincount(draws.argmax(axis=0), minlength=len(counts)) / 200_000
    assert bandit.shares(rule, [arm(*each) for each in counts]) == pytest.approx(expected, abs=0.006)


def test_rewards_that_are_no_zeros_and_ones_are_judged_by_their_means() -> None:
    def earned(mean: float) -> ArmOutcome:
        return ArmOutcome("m", 400, mean, 400 * 4.0, 400, 0)

    rule = BanditRule(metric="money", floor=0.0)
    z = 0.2 / math.sqrt(2 * 400 * 4.0 / 399 / 400)
    better = 0.5 * math.erfc(-z / math.sqrt(2))
    assert bandit.shares(rule, [earned(5.0), earned(5.2)]) == pytest.approx((1 - better, better), abs=1e-3)
    lower = BanditRule(metric="money", floor=0.0, better="lower")
    assert bandit.shares(lower, [earned(5.0), earned(5.2)]) == pytest.approx((better, 1 - better), abs=1e-3)
    few = ArmOutcome("m", 3, 90.0, 10.0, 3, 0)
    assert bandit.shares(rule, [earned(5.0), few]) == (0.5, 0.5), "three rewards decide nothing"


arms = st.lists(
    st.integers(0, 10_000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=2, max_size=4
)


@given(arms, st.sampled_from(("thompson", "egreedy")), st.sampled_from(("higher", "lower")), st.floats(0, 0.25))
def test_shares_add_up_and_none_is_below_the_floor(found: Any, algorithm: Any, better: Any, floor: float) -> None:
    rule = BanditRule(metric="x", algorithm=algorithm, better=better, floor=floor)
    shares = bandit.shares(rule, [arm(*each) for each in found])
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= floor - 1e-9


@given(arms)
def test_one_more_success_never_costs_an_arm_its_share(found: Any) -> None:
    rule = BanditRule(metric="x", floor=0.0)
    n, good = found[0]
    before = bandit.shares(rule, [arm(*each) for each in found])
    after = bandit.shares(rule, [arm(n + 1, good + 1), *(arm(*each) for each in found[1:])])
    assert after[0] >= before[0] - 0.002


@pytest.mark.parametrize(
    ("field", "rule"),
    [
        ("floor", BanditRule(metric="x", floor=0.51)),
        ("floor", BanditRule(metric="x", floor=-0.1)),
        ("floor", BanditRule(metric="x", floor=math.nan)),
        ("epsilon", BanditRule(metric="x", epsilon=0.0)),
        ("seed", BanditRule(metric="x", seed=-1)),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_its_field(field: str, rule: BanditRule) -> None:
    with pytest.raises(Invalid, match=rf"^{field}: got"):
        bandit.checked(rule, 2)


def test_shares_that_hardly_change_are_worth_no_routes() -> None:
    assert not bandit.worth_routes((0.5, 0.5), (0.505, 0.495))
    assert bandit.worth_routes((0.5, 0.5), (0.52, 0.48))
