"""A bandit: each arm's share of the draws follows from what the arms have earned, and none has less than a floor.

thompson    The share of an arm is the chance that it is the best one, given its rewards: what Thompson (1933) draws a
            request at a time is here a share between two looks, so that each prediction's propensity is known exactly.
            Rewards of 0 and 1 have the posterior Beta(1 + successes, 1 + failures); others that of their mean, normal
            by the central limit theorem. The chance is an integral over a grid, the same in any process.
egreedy     All but `epsilon` goes to the arm with the best mean, `epsilon` is spread over all (Sutton and Barto 2018,
            2.2).
floor       share = floor + (1 - arms * floor) * what the algorithm says, so that a loser is still looked at and every
            propensity is bounded from below, as estimates that divide by it need.
seed        The draw of a prediction is H(seed, prediction id) against the shares: the same on every host, after any
            restart, and when it is done again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Final

from quarterdeckd.measures import sequential
from quarterstore.records.faults import got
from quarterstore.records.outcomes import ArmOutcome
from quarterstore.records.trials import BanditRule, TrialVerdict

FEWEST: Final = 30
"""Rewards of an arm before its mean is trusted (egreedy, and rewards that are not 0 or 1); until then all are equal."""
GRID: Final = 128
WIDE: Final = 8.0
"""Standard deviations of each posterior that the grid covers."""
WORTH: Final = 0.01
"""A change of a share that is worth new routes."""


def checked(rule: BanditRule, arms: int) -> BanditRule:
    """The rule, or a fault that names the field that makes no sense."""
    if not 0 <= rule.floor <= 1 / arms:
        raise got("floor", rule.floor, f"a share from 0 to {1 / arms:.4g}, that of each of {arms} arms")
    if not 0 < rule.epsilon < 1:
        raise got("epsilon", rule.epsilon, "a share between 0 and 1")
    if not 0 <= rule.seed < 2**63:
        raise got("seed", rule.seed, "a whole number from 0 on")
    return rule


def shares(rule: BanditRule, outcomes: Sequence[ArmOutcome]) -> tuple[float, ...]:
    """The share of each arm in the next draws, in the order of `outcomes`; they add up to 1."""
    arms = len(outcomes)
    rule = checked(rule, arms)
    said = _thompson(rule, outcomes) if rule.algorithm == "thompson" else _egreedy(rule, outcomes)
    return tuple(rule.floor + (1 - arms * rule.floor) * each for each in said)


def worth_routes(before: Sequence[float], after: Sequence[float]) -> bool:
    """Whether shares have changed enough for another epoch."""
    return any(abs(one - other) >= WORTH for one, other in zip(before, after, strict=True))


def verdict(rule: BanditRule, outcomes: Sequence[ArmOutcome], found: Sequence[float]) -> TrialVerdict:
    """How it stands, in words: a bandit goes on until it is stopped."""
    arms = ", ".join(
        f"{each.version} {share:.0%} ({f'{rule.metric} {each.mean:.4g} of {each.n:,}' if each.n else 'no reward yet'})"
        for each, share in zip(outcomes, found, strict=True)
    )
    return TrialVerdict("GOES ON", arms, have=min(each.n for each in outcomes))


def _egreedy(rule: BanditRule, outcomes: Sequence[ArmOutcome]) -> list[float]:
    arms = len(outcomes)
    if any(each.n < FEWEST for each in outcomes):
        return [1 / arms] * arms
    sign = 1 if rule.better == "higher" else -1
    best = max(range(arms), key=lambda index: sign * outcomes[index].mean)
    return [rule.epsilon / arms + (1 - rule.epsilon) * (index == best) for index in range(arms)]


def _thompson(rule: BanditRule, outcomes: Sequence[ArmOutcome]) -> list[float]:
    arms = len(outcomes)
    if all(map(sequential.binary, outcomes)):
        densities = [_beta(1 + each.successes, 1 + each.n - each.successes) for each in outcomes]
        spans = [_span_of_beta(1 + each.successes, 1 + each.n - each.successes) for each in outcomes]
    elif any(each.n < FEWEST for each in outcomes):
        return [1 / arms] * arms
    else:
        about = [(each.mean, math.sqrt(max(each.m2, 0.0) / (each.n - 1) / each.n)) for each in outcomes]
        if not all(deviation > 0 for _, deviation in about):
            return [1 / arms] * arms
        densities = [_normal(mean, deviation) for mean, deviation in about]
        spans = [(mean - WIDE * deviation, mean + WIDE * deviation) for mean, deviation in about]
    best = _chance_of_being_highest(densities, spans)
    return best if rule.better == "higher" else _chance_of_being_lowest(densities, spans)


Density = Callable[[float], float]


def _beta(a: float, b: float) -> Density:
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)

    def density(x: float) -> float:
        if not 0 < x < 1:
            return 0.0
        return math.exp(scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x))

    return density


def _span_of_beta(a: float, b: float) -> tuple[float, float]:
    mean, deviation = a / (a + b), math.sqrt(a * b / (a + b + 1)) / (a + b)
    return max(0.0, mean - WIDE * deviation), min(1.0, mean + WIDE * deviation)


def _normal(mean: float, deviation: float) -> Density:
    return lambda x: math.exp(-0.5 * ((x - mean) / deviation) ** 2) / deviation


def _chance_of_being_lowest(densities: Sequence[Density], spans: Sequence[tuple[float, float]]) -> list[float]:
    turned = [lambda x, density=density: density(-x) for density in densities]
    return _chance_of_being_highest(turned, [(-high, -low) for low, high in spans])


def _chance_of_being_highest(densities: Sequence[Density], spans: Sequence[tuple[float, float]]) -> list[float]:
    """For each arm the integral of its density times the others' distribution functions, by the midpoint rule on the
    grids of all posteriors together; scaled to add up to 1."""
    edges = sorted({low + (high - low) * step / GRID for low, high in spans for step in range(GRID + 1)})
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    widths = [high - low for low, high in itertools.pairwise(edges)]
    masses = [[density(x) * width for x, width in zip(middles, widths, strict=True)] for density in densities]
    sums = [sum(mass) for mass in masses]
    chances = [0.0] * len(densities)
    below = [0.0] * len(densities)
    for index in range(len(middles)):
        here = [mass[index] / total for mass, total in zip(masses, sums, strict=True)]
        for arm, mass in enumerate(here):
            others = (below[other] + here[other] / 2 for other in range(len(here)) if other != arm)
            chances[arm] += mass * math.prod(others)
        below = [before + mass for before, mass in zip(below, here, strict=True)]
    total = sum(chances)
    return [chance / total for chance in chances]
