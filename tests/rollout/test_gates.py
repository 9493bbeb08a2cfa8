"""Gates of a canary: kept or broken only on evidence, and what is missing is said with what it takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.measures import latency
from quarterdeckd.measures.drift import psi
from quarterdeckd.rollout.canary import judge, next_step
from quarterdeckd.rollout.gates import Terms, checked_gates, judge_gate, judge_gates
from quarterstore.records.canaries import CanaryGate, CanaryRule, GateKind, GateReading, GateVerdict, Measured
from quarterstore.records.deployments import LADDER, ArmCounts, Canary
from quarterstore.records.faults import Invalid

TERMS = Terms(level=0.05, power=0.8, least=50)
ACCURACY = CanaryGate("accuracy", 0.02)
FULL = (1.0, 1.0)


def share(n: int, mean: float) -> Measured:
    return Measured(n, mean, mean * (1 - mean))


def right(live: tuple[int, float], candidate: tuple[int, float], coverage: tuple[float, float] = FULL) -> GateReading:
    """Labels of both arms: how many, and how many of them right."""
    return GateReading("accuracy", live=share(*live), candidate=share(*candidate), coverage=coverage)


def verdict(gate: CanaryGate, reading: GateReading | None) -> GateVerdict:
    return judge_gate(gate, reading, TERMS)


# labels


def test_a_candidate_without_labels_holds_with_the_number_it_needs() -> None:
    """Nothing is known of either version, so a share of one half is assumed, the hardest to see a difference over."""
    found = verdict(ACCURACY, right((0, 0.0), (0, 0.0), (0.0, 0.0)))
    assert (found.verdict, found.n, found.unit) == ("HOLD", 0, "labels")
    assert found.why == "need about 19,000 labels per arm, have 0"
    assert verdict(ACCURACY, None).why == "nothing is measured yet; need about 19,000 labels per arm"


def test_what_is_known_of_the_live_version_makes_the_need_smaller() -> None:
    found = verdict(ACCURACY, right((5000, 0.95), (20, 0.95)))
    assert found.why == "need about 3,600 labels per arm, have 20" and 3550 <= found.need < 3650


def test_a_candidate_that_is_surely_worse_by_more_than_the_limit_fails_with_metric_value_limit_and_n() -> None:
    found = verdict(ACCURACY, right((6000, 0.93), (300, 0.71)))
    assert (found.verdict, found.gate, found.limit, found.n) == ("FAIL", "accuracy", 0.02, 300)
    assert found.value == pytest.approx(0.22)
    assert found.why == "0.71 against 0.93 live, 0.22 worse, limit 0.02, 300 labels"


def test_a_candidate_within_the_margin_passes_once_that_is_sure() -> None:
    assert verdict(ACCURACY, right((20_000, 0.93), (300, 0.93))).verdict == "HOLD"
    assert verdict(ACCURACY, right((20_000, 0.93), (9000, 0.93))).verdict == "PASS"
    assert verdict(ACCURACY, right((90_000, 0.93), (90_000, 0.922))).verdict == "PASS", "worse, and surely within"


def test_labels_of_too_few_predictions_hold_however_good_they_are() -> None:
    """What is labelled may be what was easy."""
    found = verdict(ACCURACY, right((20_000, 0.93), (9000, 0.95), (0.9, 0.31)))
    assert found.verdict == "HOLD"
    assert found.why == "31% of the candidate's predictions are labelled, need 50%"
    assert (
        verdict(CanaryGate("accuracy", 0.02, coverage=0.3), right((20_000, 0.93), (9000, 0.95), (0.9, 0.31))).verdict
        == "PASS"
    )
    assert "live version" in verdict(ACCURACY, right((20_000, 0.93), (9000, 0.95), (0.2, 0.9))).why


def test_an_equal_candidate_is_rarely_failed_and_a_bad_one_always_however_often_it_is_looked_at() -> None:
    """Looked at after every 50 labels: an equal one must fail in at most 5 %, one that is 6 points worse in nearly all,
    and pass in at most 5 %."""
    rng = np.random.default_rng(41)
    ends = {0.0: [], 0.06: []}  # type: dict[float, list[str]]
    for worse, found in ends.items():
        for _ in range(150):
            live = candidate = n = 0
            end = "HOLD"
            while end == "HOLD" and n < 20_000:
                n, live, candidate = (
                    n + 50,
                    live + int(rng.binomial(50, 0.9)),
                    candidate + int(rng.binomial(50, 0.9 - worse)),
                )
                end = judge_gate(CanaryGate("accuracy", 0.04), right((n, live / n), (n, candidate / n)), TERMS).verdict
            found.append(end)
    print({worse: {end: found.count(end) for end in set(found)} for worse, found in ends.items()}, "seed 41")
    bound = 150 * 0.05 + 1.96 * math.sqrt(150 * 0.05 * 0.95)
    assert ends[0.0].count("FAIL") <= bound and ends[0.0].count("PASS") >= 150 * 0.9
    assert ends[0.06].count("PASS") <= bound and ends[0.06].count("FAIL") >= 150 * 0.9


# the others


def test_a_business_metric_may_fall_or_rise_by_its_limit_only() -> None:
    """A negative limit is how far the mean may fall, a positive one how far it may rise; or in percent of it."""

    def reading(live: float, candidate: float, n: int = 4000) -> GateReading:
        return GateReading("metric:m", live=Measured(n, live, 4.0), candidate=Measured(n, candidate, 4.0))

    falls, rises = CanaryGate("metric", -0.5, "m"), CanaryGate("metric", 0.5, "m")
    assert [verdict(falls, reading(10, each)).verdict for each in (10, 9.0, 12)] == ["PASS", "FAIL", "PASS"]
    assert [verdict(rises, reading(10, each)).verdict for each in (10, 11.0, 8)] == ["PASS", "FAIL", "PASS"]
    percent = CanaryGate("metric", -0.05, "m", relative=True)
    found = verdict(percent, reading(10, 9.0))
    assert (found.verdict, found.limit, found.value) == ("FAIL", pytest.approx(0.5), pytest.approx(1.0))
    assert verdict(percent, reading(10, 10)).verdict == "PASS"
    assert verdict(percent, reading(0, 0)).why == "the live version's mean is 0: 5% of it is nothing"
    assert verdict(falls, reading(10, 2, n=10)).why == "need 50 outcomes per arm, have 10"


def test_predictions_that_shifted_fail_and_too_few_hold() -> None:
    def reading(n: int, value: float) -> GateReading:
        return GateReading("psi", Measured(50_000), Measured(n), value, bins=10)

    gate = CanaryGate("psi", 0.2)
    assert verdict(gate, reading(3000, 0.35)).verdict == "FAIL"
    assert verdict(gate, reading(3000, 0.05)).verdict == "PASS"
    found = verdict(gate, reading(120, 0.35))
    assert (found.verdict, found.why) == ("HOLD", "need 339 predictions per arm, have 120")


def test_noise_alone_breaks_no_limit_of_psi() -> None:
    """With as many rows as are needed, two samples of one distribution are below the limit in nearly all trials."""
    rng, gate = np.random.default_rng(42), CanaryGate("psi", 0.1)
    n = verdict(gate, GateReading("psi", Measured(1), Measured(1), 0.0, bins=5)).need
    counts = rng.multinomial(n, [0.2] * 5, size=(2000, 2))
    assert sum(psi(before, after) >= 0.1 for before, after in counts) <= 10


def test_a_disagreement_needs_pairs_and_is_held_against_its_limit() -> None:
    gate = CanaryGate("disagreement", 0.05)
    none = verdict(
        gate, GateReading("disagreement", missing="no prediction was given by both versions, as a shadow does")
    )
    assert (
        none.verdict == "HOLD"
        and none.why.startswith("no prediction was given by both")
        and "pairs per arm" in none.why
    )

    def pairs(n: int, mean: float) -> GateVerdict:
        return verdict(gate, GateReading("disagreement", candidate=share(n, mean)))

    assert [pairs(3000, mean).verdict for mean in (0.0, 0.02, 0.05, 0.09)] == ["PASS", "PASS", "HOLD", "FAIL"]
    assert pairs(20, 0.0).verdict == "HOLD"


def test_a_gap_between_groups_is_held_against_its_limit() -> None:
    gate = CanaryGate("fairness", 0.1, "sex")

    def groups(n: int, low: float, high: float) -> GateVerdict:
        return verdict(gate, GateReading(gate.name, live=share(n, low), candidate=share(2 * n, high), coverage=FULL))

    assert [groups(4000, 0.8, high).verdict for high in (0.81, 0.9, 0.97)] == ["PASS", "HOLD", "FAIL"]
    assert groups(12, 0.1, 0.9).why.endswith("per group, have 12 of the smallest")


def test_calibration_may_be_a_little_worse_than_the_live_versions() -> None:
    gate = CanaryGate("calibration", 0.05)

    def ece(live: float, candidate: float) -> GateVerdict:
        return verdict(
            gate, GateReading(gate.name, Measured(5000, live, 0.2), Measured(5000, candidate, 0.2), coverage=FULL)
        )

    assert [ece(0.02, each).verdict for each in (0.02, 0.2)] == ["PASS", "FAIL"]
    assert "ECE 0.2 against 0.02 live" in ece(0.02, 0.2).why


# in the rule


@pytest.mark.parametrize(
    "gates",
    [
        (CanaryGate("accuracy", 0.0),),
        (CanaryGate("accuracy", 1.5),),
        (CanaryGate("accuracy", math.nan),),
        (CanaryGate("accuracy", 0.1, of="x"),),
        (CanaryGate("accuracy", 0.1, relative=True),),
        (CanaryGate("accuracy", 0.1, coverage=0.0),),
        (CanaryGate("metric", 0.0, of="m"),),
        (CanaryGate("metric", math.inf, of="m"),),
        (CanaryGate("metric", 0.1),),
        (CanaryGate("metric", 0.1, of="../m"),),
        (CanaryGate("fairness", 0.1),),
        (CanaryGate("psi", -1),),
        (ACCURACY, ACCURACY),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused_by_its_name(gates: tuple[CanaryGate, ...]) -> None:
    with pytest.raises(Invalid) as refused:
        checked_gates(gates)
    assert (refused.value.field or "").startswith("gates")


def counted(requests: int, errors: int = 0) -> ArmCounts:
    histogram = latency.empty()
    histogram[latency.bucket(5.0)] = requests
    return ArmCounts("m@1", requests, errors, tuple(histogram))


RULE = CanaryRule(gates=(ACCURACY, CanaryGate("psi", 0.2)))
GOOD = right((20_000, 0.93), (9000, 0.93))
SAME = GateReading("psi", Measured(20_000), Measured(9000), 0.01, bins=4)
BAD = right((20_000, 0.93), (900, 0.6))


def test_a_broken_gate_rolls_back_before_the_requests_are_enough() -> None:
    found = judge(RULE, counted(500), counted(20), 1.0, (BAD, SAME))
    assert (found.verdict, found.metric, found.have, found.unit) == ("FAIL", "accuracy", 900, "labels")
    assert found.value == pytest.approx(0.33) and found.limit == 0.02
    assert found.why.startswith("accuracy: 0.6 against 0.93 live")
    assert next_step(Canary("m@2", LADDER, 0, RULE, 0.0, 0.0, "ada"), found).what == "roll back"


def test_a_gate_that_is_not_measured_holds_a_step_that_has_all_else_for_ever() -> None:
    """Time alone never advances."""
    found = judge(RULE, counted(5000), counted(5000), 1e9, ())
    assert (found.verdict, found.metric, found.unit) == ("HOLD", "accuracy", "labels")
    assert next_step(Canary("m@2", LADDER, 0, RULE, 0.0, 0.0, "ada"), found).what == "hold"
    found = judge(RULE, counted(5000), counted(5000), 1e9, (GOOD,))
    assert (found.verdict, found.metric) == ("HOLD", "psi")


def test_every_gate_is_in_the_verdict_and_all_have_to_be_kept() -> None:
    found = judge(RULE, counted(5000), counted(5000), 1.0, (SAME, GOOD))
    assert (found.verdict, found.metric, found.unit) == ("PASS", "error rate", "requests")
    assert [(each.gate, each.verdict) for each in found.gates] == [("accuracy", "PASS"), ("psi", "PASS")]
    assert judge(CanaryRule(), counted(5000), counted(5000), 1.0, (BAD,)).verdict == "PASS", "no gate, no limit"


def test_the_level_is_shared_by_the_gates() -> None:
    one = judge_gates(CanaryRule(gates=(ACCURACY,)), [right((6000, 0.93), (400, 0.86))])
    many = tuple(CanaryGate("metric", -1.0, f"m{index}") for index in range(40))
    of_many = judge_gates(CanaryRule(gates=(ACCURACY, *many)), [right((6000, 0.93), (400, 0.86))])
    assert (one[0].verdict, of_many[0].verdict) == ("FAIL", "HOLD")


KINDS: tuple[GateKind, ...] = ("accuracy", "disagreement", "calibration", "fairness", "metric", "psi")
SOME = st.builds(Measured, st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 0.25))


@given(st.sampled_from(KINDS), st.floats(0.001, 0.9), SOME, SOME, st.floats(0, 1), st.floats(0, 1))
def test_no_gate_passes_on_fewer_than_the_least_or_beyond_its_limit(
    kind: GateKind, limit: float, live: Measured, candidate: Measured, value: float, covered: float
) -> None:
    gate = CanaryGate(kind, limit, of="x" if kind in ("metric", "fairness") else "")
    reading = GateReading(gate.name, live, candidate, value, bins=8, coverage=(covered, covered))
    found = verdict(gate, reading)
    assert found == verdict(gate, reading)
    if found.verdict == "PASS":
        assert found.value is not None and found.value <= found.limit and found.n >= TERMS.least
        assert kind not in ("accuracy", "calibration", "fairness") or covered >= gate.coverage
    if found.verdict == "FAIL":
        assert found.value is not None and found.value >= found.limit and found.n >= TERMS.least
