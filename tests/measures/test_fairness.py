"""Equalised odds against rates that scikit-learn counts, and a case worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import recall_score

from quarterdeckd.measures.fairness import equalised_odds
from quarterstore.records.faults import Invalid


def test_a_case_worked_by_hand() -> None:
    """a: TPR 3/4, FPR 1/4; b: TPR 1/4, FPR 1/2. The largest difference is that of the TPR."""
    truth = np.array(list("1111000011110000"))
    said = np.array(list("1110100010001100"))
    found = equalised_odds(truth, said, np.array(list("aaaaaaaabbbbbbbb")))
    assert found.difference == 0.5
    assert {rate.value for rate in (found.high, found.low)} == {0.75, 0.25}, "that of 1, or of 0 against the rest"
    assert found.fewest.n == 4


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_are_counted_as_scikit_learn_counts_them(seed: int) -> None:
    """fairlearn's definition: the larger of the differences of TPR and of FPR between the groups."""
    rng = np.random.default_rng(seed)
    truth, groups = rng.integers(0, 2, 400), rng.choice(list("abc"), 400)
    said = np.where(rng.random(400) < 0.6 + 0.1 * (groups == "a"), truth, 1 - truth)
    tpr, fpr = [], []
    for group in "abc":
        here = groups == group
        tpr.append(recall_score(truth[here], said[here]))
        fpr.append(1 - recall_score(truth[here], said[here], pos_label=0))
    found = equalised_odds(truth.astype(str), said.astype(str), groups)
    assert found.difference == pytest.approx(max(max(tpr) - min(tpr), max(fpr) - min(fpr)))


def test_a_group_without_rows_of_a_class_is_the_smallest() -> None:
    found = equalised_odds(np.array(list("1100")), np.array(list("1100")), np.array(list("aabb")))
    assert found.fewest.n == 0


@pytest.mark.parametrize(("truth", "groups"), [("10", "aa"), ("11", "ab")])
def test_one_group_or_one_class_is_refused(truth: str, groups: str) -> None:
    with pytest.raises(Invalid):
        equalised_odds(np.array(list(truth)), np.array(list(truth)), np.array(list(groups)))
