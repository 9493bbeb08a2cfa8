"""Figures of quality against scikit-learn, intervals against published values and by how often they hold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from quarterdeckd.measures import quality
from quarterstore.records.faults import Fault


def sample(seed: int, count: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and scores of two classes."""
    chance = np.random.default_rng(seed)
    score = chance.uniform(0, 1, count)
    labels = np.where(chance.uniform(0, 1, count) < score, "yes", "no")
    return labels, np.where(score > 0.5, "yes", "no"), np.column_stack([1 - score, score])


def test_two_classes_are_measured_as_scikit_learn_measures_them() -> None:
    labels, predicted, scores = sample(3)
    found = {one.name: one.value for one in quality.classification(labels, predicted, scores, ("no", "yes")).metrics}
    positive = labels == "yes"
    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "f1": metrics.f1_score(labels, predicted, average="macro"),
        "log loss": metrics.log_loss(positive, scores[:, 1]),
        "brier": metrics.brier_score_loss(positive, scores[:, 1]),
        "roc auc": metrics.roc_auc_score(positive, scores[:, 1]),
    }
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_regression_is_measured_as_scikit_learn_measures_it() -> None:
    chance = np.random.default_rng(5)
    actual = chance.normal(1e6, 3, 500)
    predicted = actual + chance.normal(0, 1, 500)
    found = {one.name: one.value for one in quality.regression(actual, predicted).metrics}
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(actual, predicted))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(actual, predicted))
    assert found["r2"] == pytest.approx(metrics.r2_score(actual, predicted), rel=1e-6)


def test_wilsons_interval_is_the_published_one() -> None:
    """Newcombe 1998, table I: 81 of 263, 0 of 20 and 1 of 29."""
    assert quality.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert quality.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert quality.wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_an_interval_of_accuracy_holds_the_truth_about_95_times_in_100() -> None:
    """200 samples of a model that is right 80 % of the time; under 91 % held, or all, would be a wrong interval."""
    chance = np.random.default_rng(11)
    held = 0
    for _ in range(200):
        right = chance.uniform(0, 1, 120) < 0.8
        labels = np.where(chance.uniform(0, 1, 120) < 0.5, "a", "b")
        predicted = np.where(right, labels, np.where(labels == "a", "b", "a"))
        accuracy = next(m for m in quality.classification(labels, predicted).metrics if m.name == "accuracy")
        assert accuracy.low is not None and accuracy.high is not None
        held += accuracy.low <= 0.8 <= accuracy.high
    assert 182 <= held < 200


def test_a_score_that_is_no_probability_makes_its_figures_undefined_not_wrong() -> None:
    labels, predicted, scores = sample(3)
    scores[7] = np.nan
    found = quality.classification(labels, predicted, scores, ("no", "yes"))
    assert {name for name, _ in found.undefined} == {"log loss", "brier", "roc auc"}
    assert {one.name for one in found.metrics} == {"accuracy", "balanced accuracy", "f1"}


def test_a_prediction_that_is_not_finite_makes_a_regression_undefined() -> None:
    found = quality.regression(np.arange(5.0), np.array([0, 1, 2, 3, np.inf]))
    assert not found.metrics and len(found.undefined) == 3


def test_rows_that_do_not_belong_together_are_a_fault() -> None:
    with pytest.raises(Fault):
        quality.classification(np.array(["a"]), np.array(["a", "b"]))
    with pytest.raises(Fault):
        quality.regression(np.array([]), np.array([]))


def test_a_pair_of_models_is_compared_row_by_row() -> None:
    labels = np.array(["a"] * 100)
    before = np.array(["a"] * 80 + ["b"] * 20)
    after = np.array(["a"] * 90 + ["b"] * 10)
    found = quality.paired_accuracy(labels, before, after)
    assert found.value == pytest.approx(0.1)
    assert found.low is not None and found.high is not None and found.low < 0.1 < found.high
    assert quality.paired_accuracy(labels, before, before).value == 0.0
