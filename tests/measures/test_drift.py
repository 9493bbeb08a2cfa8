"""Drift against scipy's own tests, published values and a hand-worked PSI; too little data is said, not guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quarterdeckd.measures import drift
from quarterstore.records.faults import Fault
from quarterstore.records.monitoring import DriftRule
from quarterstore.records.registry import Feature

NUMBER = Feature(name="a", kind="number", input="a", index=0)
CATEGORY = Feature(name="c", kind="category", input="c", index=0)
RULE = DriftRule()


def rows(seed: int, count: int, shift: float = 0.0) -> Any:
    """Normal numbers."""
    return np.random.default_rng(seed).normal(shift, 1.0, count)


@pytest.mark.parametrize(("count", "shift"), [(60, 0.0), (500, 0.3), (4000, 0.05), (20_000, 0.02)])
def test_numbers_are_tested_as_scipy_tests_them(count: int, shift: float) -> None:
    before, after = rows(1, count), rows(2, count, shift)
    found = drift.numbers(before, after)
    theirs = stats.ks_2samp(before, after)
    assert found.statistic == pytest.approx(theirs.statistic, abs=1e-12)
    assert found.p == pytest.approx(theirs.pvalue, rel=0.02, abs=1e-9)


def test_categories_are_tested_as_scipy_tests_them() -> None:
    before = np.array(["x"] * 60 + ["y"] * 30 + ["z"] * 10)
    after = np.array(["x"] * 40 + ["y"] * 40 + ["z"] * 20)
    found = drift.categories(before, after)
    theirs = stats.chi2_contingency([[60, 30, 10], [40, 40, 20]], correction=False)
    assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))


def test_psi_is_the_hand_worked_one_and_symmetric() -> None:
    """(0.5, 0.3, 0.2) against (0.4, 0.4, 0.2): -0.1 ln 0.8 + 0.1 ln(4/3)."""
    one, other = np.array([50, 30, 20]), np.array([40, 40, 20])
    expected = -0.1 * np.log(0.8) + 0.1 * np.log(4 / 3)
    assert drift.psi(one, other) == pytest.approx(expected)
    assert drift.psi(one, other) == pytest.approx(drift.psi(other, one))
    assert drift.psi(one, one) == 0.0


def test_false_discovery_rates_are_those_of_the_paper() -> None:
    """Benjamini and Hochberg 1995, the fifteen p values of their example: four are kept at 0.05."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    q = drift.benjamini_hochberg(p)
    assert q == pytest.approx(stats.false_discovery_control(p, method="bh"))
    assert sum(each <= 0.05 for each in q) == 4


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_q_is_never_below_p_and_keeps_the_order(p: list[float]) -> None:
    q = drift.benjamini_hochberg(p)
    assert all(mine >= own - 1e-12 for mine, own in zip(q, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert all(np.diff(np.array(q)[order]) >= -1e-12)


def verdict(before: Any, after: Any, rule: DriftRule = RULE, feature: Feature = NUMBER) -> Any:
    """The whole judgement of one feature."""
    return drift.compare({feature.name: before}, {feature.name: after}, [feature], rule)


def test_a_large_window_with_a_pebble_in_it_is_negligible_not_drift() -> None:
    """Significant, but less than the effect the rule names."""
    found = verdict(rows(1, 200_000), rows(2, 200_000, 0.03))
    assert found.verdict == "NEGLIGIBLE"


def test_a_shifted_window_drifts_and_an_equal_one_does_not() -> None:
    assert verdict(rows(1, 1000), rows(2, 1000, 1.0)).verdict == "DRIFT"
    assert verdict(rows(1, 1000), rows(2, 1000)).verdict == "NONE"


def test_too_few_rows_say_so() -> None:
    assert verdict(rows(1, 1000), rows(2, 20, 3.0)).verdict == "NOT ENOUGH DATA"
    assert verdict(rows(1, 10), rows(2, 1000, 3.0)).verdict == "NOT ENOUGH DATA"


def test_a_window_without_a_row_is_not_enough_data_and_no_lack_of_columns() -> None:
    found = drift.compare({"a": rows(1, 500)}, {}, [NUMBER], RULE)
    (one,) = found.features
    assert (found.verdict, one.verdict, one.note) == ("NOT ENOUGH DATA",) * 2 + ("not enough data (0 of 200)",)
    assert found.words == "not enough data (0 of 200 rows)"


@pytest.mark.parametrize("column", [np.full(500, np.nan), np.array([None] * 500, dtype=object)])
def test_a_window_without_a_value_is_not_called_calm(column: Any) -> None:
    assert verdict(rows(1, 500), column).verdict in ("NOT ENOUGH DATA", "UNDEFINED")


def test_what_is_not_finite_is_left_out_and_counted() -> None:
    window = np.concatenate([rows(2, 1000), [np.nan, np.inf, -np.inf]])
    (feature,) = verdict(rows(1, 1000), window).features
    assert feature.verdict == "NONE" and "3" in feature.note


def test_a_category_that_was_never_seen_drifts() -> None:
    before = np.array(["x", "y"] * 500)
    after = np.array(["x", "new"] * 500)
    assert verdict(before, after, feature=CATEGORY).verdict == "DRIFT"


def test_the_same_rows_give_the_same_answer() -> None:
    assert verdict(rows(1, 700), rows(2, 700, 0.2)) == verdict(rows(1, 700), rows(2, 700, 0.2))


def test_a_rule_that_makes_no_sense_is_a_fault() -> None:
    with pytest.raises(Fault):
        verdict(rows(1, 700), rows(2, 700), DriftRule(least=0))
