"""How good predictions are: each metric with its 95 % interval, or the reason why it cannot be measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quarterdeckd.measures.proportions import Z
from quarterdeckd.measures.proportions import wilson as wilson
from quarterstore.records.faults import got
from quarterstore.records.registry import Metric

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

DRAWS: Final = 1000
WORK: Final = 20_000_000
"""Rows drawn over a whole bootstrap at most (0.3 s): 1,000 draws up to 20,000 rows, 100 from 200,000 rows on."""
CLIP: Final = 1e-15
"""A probability is taken to be at least this in the log loss, so that one sure mistake costs 34.5, not infinity."""


class Quality(NamedTuple):
    """What was measured, and (metric, reason) for each that is not defined on these rows: those are never 0."""

    metrics: tuple[Metric, ...]
    undefined: tuple[tuple[str, str], ...] = ()


def classification(
    labels: Sequence[Any] | NDArray[Any],
    predicted: Sequence[Any] | NDArray[Any],
    scores: NDArray[Any] | None = None,
    classes: Sequence[Any] = (),
    seed: int = 7,
) -> Quality:
    """Accuracy, balanced accuracy, macro F1 and, with scores, log loss, Brier and (of two classes) ROC AUC.

    labels, predicted: n class names. scores: n x k probabilities in the order of `classes`, or n probabilities of
    `classes[1]`. A label outside `classes` is a fault; a predicted name outside them is a mistake like any other; a
    score that is not finite or not in [0, 1] makes the three score metrics undefined, with the count.
    """
    truth, guess = np.asarray(labels).astype(str), np.asarray(predicted).astype(str)
    n = _rows("predicted", truth, guess)
    names = np.array([str(one) for one in classes]) if len(classes) else np.unique(truth)
    true_index = _index(truth, names)
    if (true_index < 0).any():
        raise got("labels", truth[true_index < 0][0], "one of the classes " + ", ".join(names[:10]))
    table = _confusion(true_index, _index(guess, names), len(names))
    rng = np.random.default_rng(seed)
    right = int((truth == guess).sum())
    low, high = wilson(right, n)
    metrics = [Metric("accuracy", right / n, low, high, n), *_of_table(table, n, rng)]
    if scores is None:
        return Quality(tuple(metrics))
    scored = _of_scores(true_index, np.asarray(scores, dtype=np.float64), len(names), rng)
    return Quality((*metrics, *scored.metrics), scored.undefined)


def regression(actual: NDArray[Any], predicted: NDArray[Any], seed: int = 7) -> Quality:
    """RMSE, MAE and R2 of n values; a prediction that is not finite makes all three undefined, with the count; an
    actual value that is not finite is a fault. R2 of a constant target is undefined."""
    truth, guess = np.asarray(actual, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    n = _rows("predicted", truth, guess)
    if not np.isfinite(truth).all():
        raise got("actual", f"{int((~np.isfinite(truth)).sum())} of {n} not finite", "finite numbers")
    if not np.isfinite(guess).all():
        reason = f"{int((~np.isfinite(guess)).sum())} of {n} predictions are not finite"
        return Quality((), tuple((name, reason) for name in ("rmse", "mae", "r2")))
    error = truth - guess
    from_mean = truth - truth.mean()  # a variance as a difference of squares needs them small
    centred = np.column_stack([error**2, np.abs(error), from_mean, from_mean**2])
    measures: dict[str, Callable[[Floats], Floats]] = {
        "rmse": lambda mean: np.sqrt(mean[:, 0]),
        "mae": lambda mean: mean[:, 1],
        "r2": lambda mean: 1 - mean[:, 0] / (mean[:, 3] - mean[:, 2] ** 2),
    }
    undefined: tuple[tuple[str, str], ...] = ()
    if truth.min() == truth.max():
        del measures["r2"]
        undefined = (("r2", "the target is constant"),)
    drawn = _means(centred, np.random.default_rng(seed))
    point = centred.mean(axis=0, keepdims=True)
    return Quality(
        tuple(_metric(name, float(of(point)[0]), _quiet(of, drawn), n) for name, of in measures.items()), undefined
    )


def paired_accuracy(
    labels: Sequence[Any] | NDArray[Any], before: Sequence[Any] | NDArray[Any], after: Sequence[Any] | NDArray[Any]
) -> Metric:
    """Accuracy of `after` minus that of `before` on the same n rows, with its 95 % interval.

    Only rows where one is right and the other wrong count (b gained, c lost): (b - c)/n, by Agresti and Min's (2005)
    Wald interval with half a row added to each of the four cells, which holds its level where b + c is small or 0.
    """
    truth = np.asarray(labels).astype(str)
    first, second = np.asarray(before).astype(str), np.asarray(after).astype(str)
    n = _rows("before", truth, first)
    _rows("after", truth, second)
    gained = int(((first != truth) & (second == truth)).sum())
    lost = int(((first == truth) & (second != truth)).sum())
    b, c, m = gained + 0.5, lost + 0.5, n + 2
    half = Z * math.sqrt(max(0.0, b + c - (b - c) ** 2 / m)) / m
    middle, value = (b - c) / m, (gained - lost) / n
    return Metric(
        "accuracy difference", value, max(-1.0, min(value, middle - half)), min(1.0, max(value, middle + half)), n
    )


def _rows(field: str, truth: NDArray[Any], guess: NDArray[Any]) -> int:
    if truth.ndim != 1 or guess.shape != truth.shape:
        raise got(field, f"shape {guess.shape}", f"one value for each of the rows {truth.shape}")
    if not len(truth):
        raise got(field, "0 rows", "at least one")
    return len(truth)


def _index(values: NDArray[Any], names: NDArray[Any]) -> Counts:
    order = np.argsort(names, kind="stable")
    place = np.minimum(np.searchsorted(names[order], values), len(names) - 1)
    found = order[place]
    return np.where(names[found] == values, found, -1).astype(np.int64)


def _confusion(truth: Counts, guess: Counts, k: int) -> Counts:
    """k x (k + 1) counts, true class by predicted one; the last column is for names that are no class."""
    flat = truth * (k + 1) + np.where(guess < 0, k, guess)
    return np.bincount(flat, minlength=k * (k + 1)).reshape(k, k + 1).astype(np.int64)


def _of_table(table: Counts, n: int, rng: np.random.Generator) -> list[Metric]:
    """Balanced accuracy and macro F1; drawing n rows anew is one multinomial draw of the table's cells."""
    draws = max(50, min(DRAWS, WORK // max(1, table.size)))
    drawn = rng.multinomial(n, table.ravel() / n, size=draws).reshape(draws, *table.shape)
    return [
        _metric(name, float(of(table[None])[0]), of(drawn), n)
        for name, of in (("balanced accuracy", _balanced), ("f1", _macro_f1))
    ]


def _balanced(tables: Counts) -> Floats:
    """Mean recall over the classes that occur."""
    hits = np.einsum("bii->bi", tables[:, :, :-1])
    rows = tables.sum(axis=2)
    recall: Floats = np.where(rows > 0, hits / np.maximum(rows, 1), 0.0)
    return np.asarray(recall.sum(axis=1) / (rows > 0).sum(axis=1))


def _macro_f1(tables: Counts) -> Floats:
    """Mean F1 = 2 TP / (true + predicted) over the classes that occur or were predicted."""
    hits = np.einsum("bii->bi", tables[:, :, :-1])
    seen = tables.sum(axis=2) + tables[:, :, :-1].sum(axis=1)
    f1: Floats = np.where(seen > 0, 2 * hits / np.maximum(seen, 1), 0.0)
    return np.asarray(f1.sum(axis=1) / (seen > 0).sum(axis=1))


def _of_scores(truth: Counts, scores: Floats, k: int, rng: np.random.Generator) -> Quality:
    n = len(truth)
    if scores.ndim == 1 or (scores.ndim == 2 and scores.shape[1] == 1 and k == 2):
        scores = np.column_stack([1 - scores.ravel(), scores.ravel()])
    if scores.shape != (n, k):
        raise got("scores", f"shape {scores.shape}", f"({n}, {k})")
    names = ("log loss", "brier", "roc auc") if k == 2 else ("log loss", "brier")
    wrong = int((~((scores >= 0) & (scores <= 1 + 1e-6)).all(axis=1)).sum())
    if wrong:
        return Quality((), tuple((name, f"{wrong} of {n} rows have a score outside 0 to 1") for name in names))
    rows = np.column_stack([_log_losses(truth, scores), _briers(truth, scores)])
    drawn = _means(rows, rng)
    metrics = [_metric(name, float(rows[:, i].mean()), drawn[:, i], n) for i, name in enumerate(names[:2])]
    if k != 2:
        return Quality(tuple(metrics), (("roc auc", f"defined for two classes, got {k}"),))
    positive = truth == 1
    if positive.all() or not positive.any():
        return Quality(tuple(metrics), (("roc auc", "the rows hold one class only"),))
    return Quality((*metrics, _auc(positive, scores[:, 1], rng)))


def _log_losses(truth: Counts, scores: Floats) -> Floats:
    own = scores[np.arange(len(truth)), truth] / np.maximum(scores.sum(axis=1), CLIP)
    return np.asarray(-np.log(np.clip(own, CLIP, 1.0)))


def _briers(truth: Counts, scores: Floats) -> Floats:
    """Brier's (1950) sum over classes; of two classes the usual half of it, (p - y)^2."""
    hot = np.zeros_like(scores)
    hot[np.arange(len(truth)), truth] = 1.0
    total = ((scores - hot) ** 2).sum(axis=1)
    return np.asarray(total / 2 if scores.shape[1] == 2 else total)


def _auc(positive: NDArray[np.bool_], score: Floats, rng: np.random.Generator) -> Metric:
    """Mann-Whitney's share of (positive, negative) pairs in the right order, ties half; one sort, then each bootstrap
    draw is a pass over the counts of each score."""
    _, place = np.unique(score, return_inverse=True)
    cell = place * 2 + positive
    counts = np.bincount(cell, minlength=2 * (int(place.max()) + 1))
    n = len(score)

    def area(table: Counts) -> float:
        down, up = table[0::2].astype(np.float64), table[1::2].astype(np.float64)
        pairs = down.sum() * up.sum()
        return float((up * (np.cumsum(down) - down / 2)).sum() / pairs) if pairs else math.nan

    drawn = np.array(
        [area(np.bincount(cell[rng.integers(0, n, n)], minlength=len(counts))) for _ in range(_draws(n))],
    )
    return _metric("roc auc", area(counts), drawn, n)


def _draws(n: int) -> int:
    return max(100, min(DRAWS, WORK // n))


def _means(rows: Floats, rng: np.random.Generator) -> Floats:
    """Column means of `rows` (n x m) under bootstrap draws: draws x m."""
    n = len(rows)
    return np.array([np.bincount(rng.integers(0, n, n), minlength=n) @ rows / n for _ in range(_draws(n))])


def _quiet(of: Callable[[Floats], Floats], drawn: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return of(drawn)


def _metric(name: str, value: float, drawn: Floats, n: int) -> Metric:
    """The value with the bootstrap percentile interval (Efron 1979); draws in which it is not defined are left out, and
    the interval always holds the value itself."""
    finite = drawn[np.isfinite(drawn)]
    if n < 2 or not len(finite):
        return Metric(name, value, n=n)
    low, high = np.quantile(finite, [0.025, 0.975])
    return Metric(name, value, min(float(low), value), max(float(high), value), n)
