"""The canary's rule: it needs evidence to grow, and evidence to go back; anything else waits."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.measures import latency
from quarterdeckd.rollout.canary import AGAIN, OTHERWISE, Move, checked_ladder, judge, need, next_step, worth_an_entry
from quarterstore.records.deployments import LADDER, ArmCounts, Canary, CanaryRule, CanaryVerdict
from quarterstore.records.faults import Invalid

RULE = CanaryRule()


def took(milliseconds: float, n: int) -> tuple[int, ...]:
    counts = latency.empty()
    counts[latency.bucket(milliseconds)] = n
    return tuple(counts)


def arm(requests: int, errors: int = 0, milliseconds: float = 5.0) -> ArmCounts:
    return ArmCounts("m@1", requests, errors, took(milliseconds, requests))


def canary(step: int, ladder: tuple[int, ...] = LADDER) -> Canary:
    return Canary("m@2", ladder, step, RULE, since=0.0, step_since=0.0, asked_by="ada")


# need


def test_one_to_two_percent_needs_about_2300_requests_an_arm() -> None:
    """1 % -> 2 % at power 0.8: the one-sided level of 0.05 is halved for the early looks, so z = 1.96."""
    assert need(RULE) == 2319


def test_the_need_agrees_with_published_values_of_the_formula() -> None:
    """R's `power.prop.test` prints n = 76.7 for 50 % -> 75 % at power 0.9 on its help page; textbook tables have 686
    for 10 % -> 15 % and 294 for 20 % -> 30 % at power 0.8."""
    assert need(CanaryRule(baseline=0.50, effect=0.25, power=0.9)) == 77
    assert need(CanaryRule(baseline=0.10, effect=0.05)) == 686
    assert need(CanaryRule(baseline=0.20, effect=0.10)) == 294


@given(st.floats(0.001, 0.3), st.floats(0.001, 0.3), st.floats(1.01, 3.0))
def test_a_larger_effect_never_needs_more_and_more_power_never_less(base: float, effect: float, times: float) -> None:
    rule = CanaryRule(baseline=base, effect=effect)
    assert need(CanaryRule(baseline=base, effect=min(effect * times, 0.69))) <= need(rule)
    assert need(CanaryRule(baseline=base, effect=effect, power=0.9)) >= need(rule)
    assert need(CanaryRule(baseline=base, effect=effect, alpha=0.01)) >= need(rule)
    assert need(rule) >= rule.least


@pytest.mark.parametrize(
    ("field", "rule"),
    [
        ("effect", CanaryRule(effect=0.0)),
        ("effect", CanaryRule(effect=math.nan)),
        ("effect", CanaryRule(effect=0.5, baseline=0.6)),
        ("alpha", CanaryRule(alpha=0.0)),
        ("power", CanaryRule(power=1.0)),
        ("latency", CanaryRule(latency=math.nan)),
        ("least", CanaryRule(least=0)),
        ("soak", CanaryRule(soak=math.inf)),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_its_field(field: str, rule: CanaryRule) -> None:
    with pytest.raises(Invalid) as refused:
        need(rule)
    assert refused.value.field == field


@pytest.mark.parametrize("ladder", [(), (100,), (0, 100), (5, 5, 100), (10, 5, 100), (5, 50), (50, 120)])
def test_a_ladder_that_does_not_grow_to_100_is_refused(ladder: tuple[int, ...]) -> None:
    with pytest.raises(Invalid):
        checked_ladder(ladder)


def test_the_standard_ladder_is_one() -> None:
    assert checked_ladder(LADDER) == LADDER


# hold


def test_a_canary_with_too_few_requests_holds_and_says_how_many_it_needs() -> None:
    found = judge(RULE, arm(2600), arm(140), elapsed=9.0)
    assert (found.verdict, found.why) == ("HOLD", "need about 2,300 per arm, have 140")
    assert (found.need, found.have) == (2319, 140)


def test_time_alone_never_advances_a_step() -> None:
    found = judge(RULE, arm(2600), arm(140), elapsed=1e9)
    assert found.verdict == "HOLD"
    assert next_step(canary(1), found) == Move("hold", 1)


def test_no_live_traffic_holds_whatever_the_candidate_does() -> None:
    """There is nothing to compare with: a downstream fault would look like the candidate's."""
    for candidate in (arm(0), arm(5000), arm(5000, 5000)):
        found = judge(RULE, arm(0), candidate, elapsed=99.0)
        assert (found.verdict, found.why) == ("HOLD", "no live traffic to compare with")


def test_too_little_live_traffic_holds() -> None:
    found = judge(RULE, arm(300), arm(9000), elapsed=99.0)
    assert (found.verdict, found.why) == ("HOLD", "need about 2,300 per arm, have 300 of the live version")


def test_missing_latencies_hold() -> None:
    """Requests without latencies are missing data, and missing data is not good data."""
    silent = ArmCounts("m@2", 5000, 10, ())
    found = judge(RULE, arm(5000, 10), silent, elapsed=99.0)
    assert (found.verdict, found.metric) == ("HOLD", "P95 latency")


def test_the_soak_holds_and_then_lets_go() -> None:
    rule = CanaryRule(soak=60.0)
    assert judge(rule, arm(2600, 26), arm(2400, 24), 59.9).why == "soak: 60 of 60 s"
    assert judge(rule, arm(2600, 26), arm(2400, 24), 59.9).verdict == "HOLD"
    assert judge(rule, arm(2600, 26), arm(2400, 24), math.nan).verdict == "HOLD"
    assert judge(rule, arm(2600, 26), arm(2400, 24), 60.0).verdict == "PASS"


def test_a_live_version_that_errs_more_than_assumed_raises_the_need() -> None:
    """A rise of 1 % over 20 % takes 25,000 requests to see, not 2,319 as over 1 %: passing would be blind."""
    found = judge(RULE, arm(44_000, 8800), arm(2400, 480), elapsed=9.0)
    assert found.verdict == "HOLD" and found.need > 20_000


@pytest.mark.parametrize(("requests", "errors"), [(5, 6), (-1, 0), (5, -1)])
def test_counts_that_cannot_be_are_refused(requests: int, errors: int) -> None:
    with pytest.raises(Invalid):
        judge(RULE, arm(10), ArmCounts("m@2", requests, errors), 1.0)
    with pytest.raises(Invalid):
        judge(RULE, arm(10), ArmCounts("m@2", 5, 0, (1, 2, 3)), 1.0)


# fail


def test_a_catastrophe_is_caught_within_a_handful_of_requests() -> None:
    """At 5 % of the traffic and half of the answers wrong, six requests of the candidate are enough."""
    found = judge(RULE, arm(114, 1), arm(6, 3), elapsed=0.6)
    assert (found.verdict, found.metric, found.value) == ("FAIL", "error rate", 0.5)
    assert "50.00% (3 of 6) against 0.88% (1 of 114) live" in found.why
    assert found.limit == pytest.approx(1 / 114 + 0.01)
    assert next_step(canary(0), found) == Move("roll back", 0)


def test_a_few_errors_among_many_are_no_catastrophe() -> None:
    assert judge(RULE, arm(1900, 19), arm(100, 2), 10.0).verdict == "HOLD"
    assert judge(RULE, arm(38), arm(2, 2), 10.0).verdict == "HOLD", "two errors are never a verdict"


def test_errors_on_both_sides_alike_are_not_the_candidates_fault() -> None:
    """A failing downstream hits both arms: going back would not help."""
    assert judge(RULE, arm(1900, 950), arm(100, 50), 10.0).verdict == "HOLD"


def test_twice_the_errors_at_the_need_fail() -> None:
    found = judge(RULE, arm(2400, 24), arm(2400, 48), elapsed=30.0)
    assert (found.verdict, found.value, found.limit) == ("FAIL", 0.02, pytest.approx(0.015))


def test_a_significant_but_small_rise_passes() -> None:
    """10,000 x as many live requests make anything significant; 0.35 % more errors is not the 1 % asked about."""
    found = judge(RULE, arm(500_000, 5000), arm(9000, 121), elapsed=30.0)
    assert found.verdict == "PASS"


def test_three_times_the_latency_fails_from_the_least_requests_on() -> None:
    """F23's +3x: named with metric, value, limit and n."""
    assert judge(RULE, arm(900), arm(49, 0, 15.0), 5.0).metric == "error rate"
    found = judge(RULE, arm(900), arm(50, 0, 15.0), 5.0)
    assert (found.verdict, found.metric) == ("FAIL", "P95 latency")
    assert found.value == pytest.approx(15.0, rel=latency.WIDTH)
    assert found.limit == pytest.approx(10.0, rel=latency.WIDTH)
    assert "ms" in found.why and "50 requests" in found.why


def test_a_p95_above_its_limit_without_evidence_waits() -> None:
    """Three slow answers in fifty lift the P95, but so would a busy second: neither FAIL nor PASS."""
    counts = latency.add(took(5.0, 47), took(40.0, 3))
    found = judge(RULE, arm(900), ArmCounts("m@2", 50, 0, counts), 5.0)
    assert (found.verdict, found.metric) == ("HOLD", "P95 latency")
    counts = latency.add(took(5.0, 2700), took(40.0, 300))
    assert judge(RULE, arm(3000), ArmCounts("m@2", 3000, 0, counts), 5.0).verdict == "FAIL"


# pass, and the steps


def test_enough_good_requests_pass() -> None:
    found = judge(RULE, arm(2319, 23), arm(2319, 23), elapsed=1.0)
    assert (found.verdict, found.need, found.have) == ("PASS", 2319, 2319)


def test_a_ladder_is_climbed_one_step_at_a_time_and_100_is_live() -> None:
    passed = judge(RULE, arm(2400), arm(2400), 1.0)
    moves = [next_step(canary(step), passed) for step in range(4)]
    assert moves == [Move("advance", 1), Move("advance", 2), Move("advance", 3), Move("finish", 4)]
    assert next_step(canary(1, (10, 50)), passed) == Move("finish", 1)


def test_a_pass_that_lacks_its_requests_is_not_acted_on() -> None:
    assert next_step(canary(2), CanaryVerdict("PASS", "forged", need=2319, have=12)) == Move("hold", 2)


counts = st.integers(0, 6000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
rules = st.builds(
    CanaryRule,
    effect=st.floats(0.002, 0.3),
    baseline=st.floats(0.0, 0.3),
    alpha=st.floats(0.001, 0.3),
    power=st.floats(0.5, 0.99),
    latency=st.floats(1.0, 5.0),
    least=st.integers(1, 500),
    soak=st.floats(0, 100),
)
times = st.floats(0.01, 1e5)


@given(rules, counts, counts, times, times, st.floats(0, 1000))
def test_nothing_passes_below_its_need_or_before_its_soak(
    rule: CanaryRule, before: tuple[int, int], after: tuple[int, int], slow: float, fast: float, elapsed: float
) -> None:
    live, candidate = arm(*before, slow), arm(*after, fast)
    found = judge(rule, live, candidate, elapsed)
    assert found == judge(rule, live, candidate, elapsed)
    assert found.need >= need(rule) and found.have == candidate.requests
    if found.verdict == "PASS":
        assert min(live.requests, candidate.requests) >= found.need and elapsed >= rule.soak
        assert candidate.errors / candidate.requests < live.errors / live.requests + max(
            rule.effect, 4 * math.sqrt(0.25 / candidate.requests + 0.25 / live.requests)
        )
    if not live.requests:
        assert found.verdict == "HOLD"
    for step in range(len(LADDER)):
        move = next_step(canary(step), found)
        assert move.step - step in (0, 1)
        assert (move.what in ("advance", "finish")) == (found.verdict == "PASS")


@given(rules, counts, counts, st.floats(0, 1000))
def test_more_errors_never_make_a_verdict_better(
    rule: CanaryRule, before: tuple[int, int], after: tuple[int, int], elapsed: float
) -> None:
    """Monotone in the candidate's errors: once it fails, more errors fail too."""
    requests, errors = after
    worst = ["PASS", "HOLD", "FAIL"]
    some = judge(rule, arm(*before), arm(requests, errors), elapsed)
    more = judge(rule, arm(*before), arm(requests, min(requests, errors + 1 + errors // 10)), elapsed)
    assert worst.index(more.verdict) >= worst.index(some.verdict)


# how often it is wrong, by seeded simulation


def rollouts(
    live: float, candidate: float, share: float, times: int, seed: int, batch: int = 200
) -> tuple[float, list[int], list[str]]:
    """Share of steps that failed, the candidate's requests when they did, and how each ended, looked at every `batch`
    requests until a verdict."""
    rng = np.random.default_rng(seed)
    ends, at = [], []
    for _ in range(times):
        n = e = m = f = 0
        while True:
            theirs = int(rng.binomial(batch, share))
            m, f = m + theirs, f + int(rng.binomial(theirs, candidate))
            n, e = n + batch - theirs, e + int(rng.binomial(batch - theirs, live))
            found = judge(RULE, arm(n, e), arm(m, f), 1e6)
            if found.verdict != "HOLD":
                break
        ends.append(found.verdict)
        if found.verdict == "FAIL":
            at.append(m)
    return ends.count("FAIL") / times, at, ends


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_an_equal_candidate_is_rolled_back_in_fewer_steps_than_the_level(share: float) -> None:
    """Looked at every 200 requests, an equal candidate must be rolled back in at most alpha = 5 % of the steps; a
    z-test at each of these looks would be wrong in a quarter of them (five looks 13 %, thirty 27 %)."""
    wrong, _, _ = rollouts(0.01, 0.01, share, times=150, seed=20)
    print(f"share {share}: false roll-backs {wrong:.3f} of 150 steps, seed 20")
    assert wrong <= 0.05 + 1.96 * math.sqrt(0.05 * 0.95 / 150)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_the_effect_asked_for_is_seen_with_the_power_asked_for(share: float) -> None:
    """The published promise of the sample-size formula: power 0.8 at 1 % -> 2 %; more where the live arm is larger."""
    seen, _, _ = rollouts(0.01, 0.02, share, times=150, seed=21)
    print(f"share {share}: detected {seen:.3f} of 150 steps, seed 21")
    assert seen >= 0.8 - 1.96 * math.sqrt(0.8 * 0.2 / 150)


@pytest.mark.parametrize(("rate", "most"), [(0.06, 400), (0.2, 60), (0.5, 20)])
def test_a_bad_candidate_is_always_caught_and_early(rate: float, most: int) -> None:
    """At 5 % of the traffic, against 1 % live errors: the median number of its requests it takes."""
    seen, at, _ = rollouts(0.01, rate, 0.05, times=60, seed=22, batch=40)
    print(
        f"error rate {rate}: caught {seen:.3f}, after {int(np.median(at))} of its requests (median), {max(at)} at most"
    )
    assert seen == 1.0 and np.median(at) <= most


def test_an_equally_slow_candidate_is_rarely_taken_for_a_slow_one() -> None:
    """Latencies of a busy machine have a heavy tail (here log-normal, sigma 1), and each second is a look: the level
    bounds the roll-backs; equal candidates are far below it."""
    rng = np.random.default_rng(23)
    fails = 0
    for _ in range(100):
        one, other = latency.empty(), latency.empty()
        for _ in range(30):
            for histogram in (one, other):
                for ms in rng.lognormal(1.0, 1.0, 40):
                    histogram[latency.bucket(float(ms))] += 1
            n = sum(one)
            fails += (
                judge(RULE, ArmCounts("a", n, 0, tuple(one)), ArmCounts("b", n, 0, tuple(other)), 1.0).verdict == "FAIL"
            )
    print(f"false roll-backs for latency: {fails} of 100 candidates x 30 looks, seed 23")
    assert fails <= 5


# what of it is kept


def _held(why: str, have: int = 10, metric: str = "error rate") -> CanaryVerdict:
    return CanaryVerdict("HOLD", why, 2300, have, metric)


def test_a_canary_that_holds_for_the_same_reason_with_other_figures_is_no_news() -> None:
    """An entry each five seconds filled the journal of a quiet endpoint with the same words."""
    before, after = _held("need about 2,300 per arm, have 10"), _held("need about 2,300 per arm, have 2,011", 2011)
    assert not worth_an_entry(before, after, AGAIN - 1)
    assert worth_an_entry(before, after, AGAIN)


def test_another_reason_to_hold_is_news_but_two_that_take_turns_are_not() -> None:
    before, after = _held("need 100 per arm, have 90"), _held("soak: 3 of 60 s", 100)
    assert worth_an_entry(before, after, OTHERWISE)
    assert not worth_an_entry(before, after, OTHERWISE - 1)
    assert worth_an_entry(before, _held(before.why, metric="P95 latency"), OTHERWISE)


@pytest.mark.parametrize("verdict", ["PASS", "FAIL"])
def test_a_step_and_the_first_judgement_after_it_are_kept_at_once(verdict: Literal["PASS", "FAIL"]) -> None:
    step, held = CanaryVerdict(verdict, "decided", 100, 100), _held("need 100 per arm, have 1")
    assert worth_an_entry(held, step, 0.0) and worth_an_entry(step, held, 0.0) and worth_an_entry(None, held, 0.0)
