"""An A/B trial judged by counts alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.rollout.ab import checked, judge, worth_an_entry
from quarterstore.records.faults import Invalid
from quarterstore.records.outcomes import ArmOutcome
from quarterstore.records.trials import AbRule, TrialVerdict

RULE = AbRule(metric="bought", effect=0.02)
EVEN = (50.0, 50.0)


def arm(n: int, successes: int, version: str = "m@1") -> ArmOutcome:
    rate = successes / n if n else 0.0
    return ArmOutcome(version, n, rate, n * rate * (1 - rate), successes, 0)


def verdict(live: ArmOutcome, candidate: ArmOutcome, rule: AbRule = RULE, callers: Any = (500, 500)) -> TrialVerdict:
    return judge(rule, live, candidate, callers, EVEN)


def test_a_clear_gain_wins_and_the_same_loss_loses() -> None:
    better, worse = arm(10_000, 1300, "m@2"), arm(10_000, 700, "m@2")
    assert verdict(arm(10_000, 1000), better).verdict == "WIN"
    assert verdict(arm(10_000, 1000), worse).verdict == "LOSS"
    cost = AbRule(metric="cost", effect=0.02, better="lower")
    assert verdict(arm(10_000, 1000), better, cost).verdict == "LOSS"
    assert verdict(arm(10_000, 1000), worse, cost).verdict == "WIN"


def test_arms_within_the_effect_of_each_other_are_no_different() -> None:
    found = verdict(arm(40_000, 4000), arm(40_000, 4040))
    assert found.verdict == "NO DIFFERENCE" and "less than 0.02 either way" in found.why
    assert found.low is not None and found.high is not None
    assert -0.02 < found.low < 0 < found.high < 0.02


def test_what_cannot_be_told_yet_says_how_many_it_needs() -> None:
    found = verdict(arm(1000, 100), arm(1000, 110))
    assert found.verdict == "NEEDS" and f"need about {found.need:,} per arm" in found.why
    assert 5_000 < found.need < 20_000 and found.have == 1000
    first = verdict(arm(40, 4), arm(90, 4))
    assert (first.verdict, first.have, first.need) == ("NEEDS", 40, 100)
    rare = verdict(arm(5000, 3), arm(5000, 200))
    assert rare.verdict == "NEEDS" and "too few of a kind" in rare.why and rare.need > 15_000
    same = verdict(ArmOutcome("m@1", 500, 2.0, 0.0, 500, 0), ArmOutcome("m@2", 500, 3.0, 0.0, 500, 0))
    assert same.verdict == "NEEDS" and "is the same within its arm" in same.why


def test_arms_that_are_not_as_dealt_hold_whatever_their_outcomes_say() -> None:
    found = verdict(arm(10_000, 1000), arm(10_000, 1300), callers=(10_000, 9_400))
    assert found.verdict == "HOLD" and found.why.startswith(
        "sample ratio: 10,000 callers against 9,400, dealt 50 to 50"
    )
    assert verdict(arm(10_000, 1000), arm(10_000, 1300), callers=(10_000, 9_900)).verdict == "WIN"
    assert judge(RULE, arm(9000, 900), arm(1000, 180), (9000, 1000), (90.0, 10.0)).verdict == "WIN"


def test_nothing_is_decided_before_callers_were_counted() -> None:
    found = verdict(arm(10_000, 1000), arm(10_000, 1300), callers=(0, 0))
    assert found.verdict == "NEEDS" and "no caller was counted yet" in found.why


counts = st.integers(0, 5000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(counts, counts, st.floats(0.001, 0.5))
def test_a_decision_is_never_taken_on_too_few_and_always_by_its_interval(
    live: tuple[int, int], candidate: tuple[int, int], effect: float
) -> None:
    rule = AbRule(metric="x", effect=effect)
    found = judge(rule, arm(*live), arm(*candidate), (500, 500), EVEN)
    if min(live[0], candidate[0]) < rule.least:
        assert found.verdict == "NEEDS"
    if found.verdict == "WIN":
        assert found.low is not None and found.low > 0
    if found.verdict == "NO DIFFERENCE":
        assert found.low is not None and found.high is not None and -effect < found.low <= found.high < effect
    turned = judge(rule, arm(*candidate), arm(*live), (500, 500), EVEN)
    opposite = {"WIN": "LOSS", "LOSS": "WIN"}
    assert turned.verdict == opposite.get(found.verdict, found.verdict)


@pytest.mark.parametrize(
    ("field", "rule", "split"),
    [
        ("effect", AbRule(metric="x", effect=0.0), 50),
        ("effect", AbRule(metric="x", effect=float("nan")), 50),
        ("alpha", AbRule(metric="x", effect=0.1, alpha=0.6), 50),
        ("power", AbRule(metric="x", effect=0.1, power=1.0), 50),
        ("least", AbRule(metric="x", effect=0.1, least=1), 50),
        ("split", RULE, 0),
        ("split", RULE, 100),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_its_field(field: str, rule: AbRule, split: int) -> None:
    with pytest.raises(Invalid, match=rf"^{field}: got"):
        checked(rule, split)


def test_a_verdict_that_only_grows_is_kept_now_and_then() -> None:
    one, more = TrialVerdict("NEEDS", "have 10", 10, 100), TrialVerdict("NEEDS", "have 20", 20, 100)
    assert worth_an_entry(None, one, 0)
    assert not worth_an_entry(one, more, 10) and worth_an_entry(one, more, 300)
    assert not worth_an_entry(one, one, 1e9)
    assert worth_an_entry(one, TrialVerdict("HOLD", "sample ratio"), 1)
