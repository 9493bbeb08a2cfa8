"""Calibration against scikit-learn's curve and a case worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from quarterdeckd.measures.calibration import calibration
from quarterstore.records.faults import Invalid


def test_a_case_worked_by_hand() -> None:
    """(0.5, 0.6]: 2 rows, sure 0.55, right 0.5; (0.9, 1]: 3 rows, sure 0.95, right 1/3."""
    found = calibration(np.array([0.55, 0.55, 0.95, 0.95, 0.95]), np.array([1, 0, 0, 1, 0]))
    assert found.ece == pytest.approx((2 * 0.05 + 3 * (0.95 - 1 / 3)) / 5)
    assert found.n == 5 and found.variance > 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_error_is_that_of_scikit_learns_curve(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sure = rng.uniform(0.001, 0.999, 3000)
    right = rng.random(3000) < sure**2
    true, predicted = calibration_curve(right, sure, n_bins=10, strategy="uniform")
    weights = np.histogram(sure, bins=np.linspace(0, 1, 11))[0] / 3000
    assert calibration(sure, right).ece == pytest.approx(float((weights * abs(true - predicted)).sum()))


def test_the_variance_is_that_of_the_estimate() -> None:
    """Of 300 samples of a model that is too sure by 0.2: their spread is what one of them says."""
    rng = np.random.default_rng(4)
    found = [calibration(np.full(400, 0.9), rng.random(400) < 0.7) for _ in range(300)]
    assert np.var([each.ece for each in found]) == pytest.approx(
        np.mean([each.variance for each in found]) / 400, rel=0.2
    )
    assert np.mean([each.ece for each in found]) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("sure", [[1.1], [-0.1], [np.nan], [], [[0.5]]])
def test_what_is_no_confidence_is_refused(sure: Any) -> None:
    with pytest.raises(Invalid):
        calibration(np.array(sure), np.ones(len(sure)))
