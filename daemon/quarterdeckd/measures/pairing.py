"""Two models on the same rows: the difference of one metric with its 95 % interval, row for row.

accuracy            Agresti and Min's (2005) interval of paired proportions (`quality.paired_accuracy`)
the others          bootstrap percentiles (Efron 1979): the same drawn rows for both, so that what both find hard
                    cancels
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quarterdeckd.measures.quality import CLIP, paired_accuracy
from quarterstore.records.registry import Metric

DRAWS: Final = 1000
WORK: Final = 10_000_000
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


def classes_differ(
    metric: str,
    truth: NDArray[Any],
    labels: tuple[NDArray[Any], NDArray[Any]],
    scores: tuple[Floats, Floats] | None,
    classes: tuple[str, ...],
) -> Metric | None:
    """`metric` (accuracy, log loss, brier, roc auc) of the second model minus that of the first; n true classes and
    labels, n x k scores in the order of `classes`. None where it is not defined on these rows."""
    if metric == "accuracy":
        return paired_accuracy(truth, *labels)
    if scores is None:
        return None
    place = {name: number for number, name in enumerate(classes)}
    true = np.array([place[str(one)] for one in truth], dtype=np.int64)
    if metric == "roc auc":
        positive = true == 1
        if len(classes) != 2 or positive.all() or not positive.any():
            return None
        ranked = [each[:, 1] for each in scores]
        return _bootstrapped(metric, len(true), lambda side, rows: _area(positive[rows], ranked[side][rows]))
    loss = _log_loss if metric == "log loss" else _brier
    return _mean_differs(metric, [loss(each, true) for each in scores])


def numbers_differ(metric: str, truth: Floats, before: Floats, after: Floats) -> Metric:
    """`metric` (rmse, mae) of the second model minus that of the first, of n values."""
    errors = [np.abs(truth - each) for each in (before, after)]
    if metric == "mae":
        return _mean_differs(metric, errors)
    squares = [each**2 for each in errors]
    return _bootstrapped(metric, len(truth), lambda side, rows: float(np.sqrt(squares[side][rows].mean())))


def _mean_differs(metric: str, losses: Sequence[Floats]) -> Metric:
    return _bootstrapped(metric, len(losses[0]), lambda side, rows: float(losses[side][rows].mean()))


def _bootstrapped(metric: str, n: int, measured: Callable[[int, Rows], float], seed: int = 7) -> Metric:
    """The difference of what is measured of side 1 and of side 0 on the same rows."""
    rng = np.random.default_rng(seed)

    def difference(rows: Rows) -> float:
        return measured(1, rows) - measured(0, rows)

    value, name = difference(np.arange(n)), f"{metric} difference"
    draws = max(100, min(DRAWS, WORK // n))
    drawn = np.array([difference(rng.integers(0, n, n)) for _ in range(draws)])
    finite = drawn[np.isfinite(drawn)]
    if n < 2 or not len(finite):
        return Metric(name, value, n=n)
    low, high = np.quantile(finite, [0.025, 0.975])
    return Metric(name, value, min(float(low), value), max(float(high), value), n)


def _log_loss(scores: Floats, true: Rows) -> Floats:
    return np.asarray(-np.log(np.clip(scores[np.arange(len(true)), true], CLIP, 1.0)))


def _brier(scores: Floats, true: Rows) -> Floats:
    hot = np.zeros_like(scores)
    hot[np.arange(len(true)), true] = 1.0
    total = ((scores - hot) ** 2).sum(axis=1)
    return np.asarray(total / 2 if scores.shape[1] == 2 else total)


def _area(positive: NDArray[np.bool_], score: Floats) -> float:
    """Mann-Whitney's share of pairs in the right order, ties half."""
    _, place = np.unique(score, return_inverse=True)
    up = np.bincount(place, positive)
    down = np.bincount(place, ~positive)
    pairs = up.sum() * down.sum()
    return float((up * (np.cumsum(down) - down / 2)).sum() / pairs) if pairs else float("nan")
