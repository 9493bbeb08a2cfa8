"""Measures of a judgement: groups, slices, shuffled features, two models on the same rows; figures by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from quarterdeckd.measures import importance, pairing, parity, slicing
from quarterdeckd.measures.fairness import equalised_odds

CLASSES = ("no", "yes")


def people(n: int = 400, seed: int = 1) -> dict[str, np.ndarray[Any, Any]]:
    """Truth, prediction, scores and group of rows; group b is said yes more often than it is."""
    chance = np.random.default_rng(seed)
    group = np.where(np.arange(n) % 4 == 0, "b", "a")
    truth = np.where(chance.random(n) < 0.5, "yes", "no")
    flip = chance.random(n) < np.where(group == "b", 0.4, 0.1)
    said = np.where(flip, np.where(truth == "yes", "no", "yes"), truth)
    score = np.where(said == "yes", 0.9, 0.1)
    return {"truth": truth, "said": said, "scores": np.column_stack([1 - score, score]), "group": group}


def test_differences_of_groups_are_those_that_are_counted_by_hand() -> None:
    rows = people()
    found = parity.parity(rows["truth"], rows["said"], rows["scores"], CLASSES, rows["group"])
    metrics = {metric.name: metric for metric in found.metrics}
    selected = {name: (rows["said"][rows["group"] == name] == "yes").mean() for name in "ab"}
    assert metrics["demographic parity"].value == pytest.approx(abs(selected["a"] - selected["b"]))
    odds = equalised_odds(rows["truth"], rows["said"], rows["group"])
    assert metrics["equalised odds"].value == pytest.approx(odds.difference)
    gap = {name: (rows["scores"][:, 1] - (rows["truth"] == "yes"))[rows["group"] == name].mean() for name in "ab"}
    assert metrics["calibration gap"].value == pytest.approx(abs(gap["a"] - gap["b"]))
    for metric in found.metrics:
        assert metric.low is not None and metric.high is not None and metric.low <= metric.value <= metric.high
    assert metrics["demographic parity"].n == 100 and metrics["equalised odds"].n == odds.fewest.n
    assert [(group.group, group.n, group.few) for group in found.groups] == [("a", 300, False), ("b", 100, False)]


def test_a_bootstrap_interval_of_a_true_difference_holds_it_about_as_often_as_it_says() -> None:
    """200 draws of the same people: the true difference of rates is 0.3, between errors of 0.1 and of 0.4."""
    held = 0
    for seed in range(200):
        rows = people(800, seed)
        found = parity.parity(rows["truth"], rows["said"], None, CLASSES, rows["group"])
        odds = next(metric for metric in found.metrics if metric.name == "equalised odds")
        held += odds.low is not None and odds.high is not None and odds.low <= 0.3 <= odds.high
    assert 175 <= held <= 200


def test_groups_without_enough_rows_or_of_one_kind_are_said_and_not_judged() -> None:
    rows = people()
    few = rows["group"].copy()
    few[few == "b"] = np.where(np.arange(100) < 20, "b", "a")
    found = parity.parity(rows["truth"], rows["said"], rows["scores"], CLASSES, few)
    assert not found.metrics and "1 groups of at least 30 rows" in found.undefined[0][1]
    assert [group.few for group in found.groups] == [False, True]
    one_kind = np.where(rows["group"] == "b", "yes", rows["truth"])
    found = parity.parity(one_kind, rows["said"], None, CLASSES, rows["group"])
    assert [metric.name for metric in found.metrics] == ["demographic parity"]
    assert [name for name, _ in found.undefined] == ["equalised odds", "calibration gap"]
    assert [group.fpr is None for group in found.groups] == [False, True]


def test_slices_are_worst_first_and_a_small_one_is_never_the_worst() -> None:
    parts = np.array(["a"] * 50 + ["b"] * 50 + ["c"] * 3)
    truth = np.array(["x"] * 103)
    said = np.array(["x"] * 40 + ["y"] * 10 + ["x"] * 50 + ["y"] * 3)
    found = slicing.slices("k", parts, truth, said)
    assert [(one.value, one.metric.value, one.few) for one in found] == [
        ("c", 0.0, True),
        ("a", 0.8, False),
        ("b", 1.0, False),
    ]
    worst = slicing.worst(found)
    assert worst is not None and worst.value == "a"
    assert slicing.worst(slicing.slices("k", parts[-3:], truth[-3:], said[-3:])) is None
    numbers = slicing.slices("k", parts, np.zeros(103), np.where(parts == "b", 2.0, 1.0))
    assert numbers[0].value == "b" and numbers[0].metric.name == "rmse"


def test_parts_of_a_column_are_its_values_its_quartiles_and_what_is_missing() -> None:
    few = slicing.parts_of(np.array([1.0, 2.0, np.nan]))
    assert few.tolist() == ["1", "2", "(missing)"]
    many = slicing.parts_of(np.append(np.arange(100.0), np.nan))
    names, counts = np.unique(many, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "(missing)": 1,
        "0 to 24.75": 25,
        "24.75 to 49.5": 25,
        "49.5 to 74.25": 25,
        "74.25 to 99": 25,
    }
    texts = slicing.parts_of(np.array([f"v{n % 30}" for n in range(301)] + [""], dtype=object))
    assert "(other)" in texts and len(set(texts.tolist())) <= slicing.MOST_VALUES + 2


def test_what_a_model_looks_at_is_what_it_loses_by_shuffling() -> None:
    chance = np.random.default_rng(3)
    frame = pl.DataFrame({"seen": chance.normal(size=500), "unseen": chance.normal(size=500)})
    truth = frame["seen"].to_numpy() > 0

    def answer(rows: pl.DataFrame) -> Any:
        yes = (rows["seen"].to_numpy() > 0).astype(float)
        return np.column_stack([1 - yes, yes])

    def score(answers: Any, rows: Any) -> float:
        return float((answers.argmax(axis=1) == truth[rows]).mean())

    found, n = importance.importance(frame, answer, score)
    assert n == 500 and [one.feature for one in found] == ["seen", "unseen"]
    assert found[0].loss == pytest.approx(0.5, abs=0.1) and 0 < found[0].spread < 0.1
    assert (found[1].loss, found[1].spread) == (0.0, 0.0)
    wide = pl.DataFrame({f"c{n}": [1.0] for n in range(importance.MOST_FEATURES + 1)})
    assert importance.importance(wide, answer, score) == ((), 0)


@pytest.mark.parametrize("metric", ["accuracy", "log loss", "brier", "roc auc"])
def test_a_worse_model_is_found_worse_on_the_same_rows_and_an_equal_one_is_not(metric: str) -> None:
    chance = np.random.default_rng(5)
    truth = np.where(chance.random(600) < 0.5, "yes", "no")
    sign = np.where(truth == "yes", 1.0, -1.0)

    def scores(signal: float, seed: int) -> Any:
        p = 1 / (1 + np.exp(-(sign * signal + np.random.default_rng(seed).normal(size=600))))
        return np.column_stack([1 - p, p])

    def said(each: Any) -> Any:
        return np.array(CLASSES)[each.argmax(axis=1)]

    good, bad = scores(2.0, 1), scores(0.3, 2)
    lower = metric in ("log loss", "brier")
    found = pairing.classes_differ(metric, truth, (said(good), said(bad)), (good, bad), CLASSES)
    assert found is not None and found.low is not None and found.high is not None
    assert found.low > 0 if lower else found.high < 0
    same = pairing.classes_differ(metric, truth, (said(good), said(good)), (good, good), CLASSES)
    assert same is not None and same.value == 0 and same.low is not None and same.high is not None
    assert same.low <= 0 <= same.high


def test_numbers_are_compared_by_their_errors_and_one_class_by_nothing() -> None:
    truth = np.arange(200.0)
    chance = np.random.default_rng(1)
    near, far = truth + chance.normal(size=200), truth + 3 * chance.normal(size=200)
    for metric in ("rmse", "mae"):
        found = pairing.numbers_differ(metric, truth, near, far)
        assert found.low is not None and found.low > 0 and found.name == f"{metric} difference"
    one = np.array(["yes"] * 50)
    half = np.full((50, 2), 0.5)
    assert pairing.classes_differ("roc auc", one, (one, one), (half, half), CLASSES) is None
    assert pairing.classes_differ("log loss", one, (one, one), None, CLASSES) is None
