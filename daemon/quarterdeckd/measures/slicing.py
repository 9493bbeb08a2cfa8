"""How good a model is on parts of the rows: one metric of each value of a column, with its 95 % interval.

Accuracy has Wilson's (1927) interval, RMSE the bootstrap percentile one. A part of fewer than 30 rows is shown and
never called the worst: among many parts a small one is always far off by chance.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quarterdeckd.measures.parity import FEWEST
from quarterdeckd.measures.quality import regression, wilson
from quarterstore.records.registry import Metric

MOST_VALUES: Final = 20
"""Values of a column up to which each is a slice; more numbers are cut at their quartiles, more texts after the
commonest."""
MISSING: Final = "(missing)"
OTHER: Final = "(other)"


class Slice(NamedTuple):
    """One part of the rows; `few` says that it has too few to be judged."""

    column: str
    value: str
    metric: Metric
    few: bool


def slices(column: str, parts: NDArray[Any], truth: NDArray[Any], predicted: NDArray[Any]) -> tuple[Slice, ...]:
    """The metric of each part, worst first: accuracy of texts, RMSE of numbers. parts: a text a row."""
    numeric = truth.dtype.kind == "f"
    found = []
    for value in np.unique(parts):
        those = parts == value
        metric = _rmse(truth[those], predicted[those]) if numeric else _accuracy(truth[those], predicted[those])
        found.append(Slice(column, str(value), metric, int(those.sum()) < FEWEST))
    return tuple(sorted(found, key=lambda one: -one.metric.value if numeric else one.metric.value))


def worst(found: tuple[Slice, ...]) -> Slice | None:
    """The worst slice that has enough rows."""
    judged = [one for one in found if not one.few]
    if not judged:
        return None
    sign = -1.0 if judged[0].metric.name == "rmse" else 1.0
    return min(judged, key=lambda one: sign * one.metric.value)


def parts_of(values: NDArray[Any]) -> NDArray[Any]:
    """A column as a text a row: numbers (NaN is missing) of few values as they are, else by quartile; texts ("" is
    missing) as they are, the rare ones of many as other."""
    if values.dtype.kind == "f":
        return _bands(values)
    texts = np.array([MISSING if not value else str(value) for value in values.tolist()], dtype=object)
    names, counts = np.unique(texts.astype(str), return_counts=True)
    if len(names) > MOST_VALUES:
        common = set(names[np.argsort(-counts, kind="stable")[:MOST_VALUES]].tolist())
        texts = np.array([text if text in common else OTHER for text in texts.tolist()], dtype=object)
    return texts.astype(str)


def _bands(values: NDArray[np.float64]) -> NDArray[Any]:
    known = np.isfinite(values)
    distinct = np.unique(values[known])
    if len(distinct) <= MOST_VALUES:
        return np.array([f"{value:g}" if there else MISSING for value, there in zip(values, known, strict=True)])
    low, high = float(distinct[0]), float(distinct[-1])
    cuts = np.unique(np.quantile(values[known], [0.25, 0.5, 0.75]))
    ends = [low, *cuts.tolist(), high]
    names = [f"{ends[i]:.4g} to {ends[i + 1]:.4g}" for i in range(len(ends) - 1)]
    place = np.searchsorted(cuts, values, side="left")
    return np.array([names[at] if there else MISSING for at, there in zip(place, known, strict=True)])


def _accuracy(truth: NDArray[Any], predicted: NDArray[Any]) -> Metric:
    right, n = int((truth == predicted).sum()), len(truth)
    low, high = wilson(right, n)
    return Metric("accuracy", right / n, low, high, n)


def _rmse(truth: NDArray[Any], predicted: NDArray[Any]) -> Metric:
    return next(one for one in regression(truth, predicted).metrics if one.name == "rmse")
