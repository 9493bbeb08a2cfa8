"""Whether a model treats groups alike: three differences between groups, each with its 95 % interval and its rows.

demographic parity  the largest difference between two groups in the share of rows that are predicted as a class
                    (Calders, Kamiran and Pechenizkiy 2009; fairlearn's `demographic_parity_difference` of two classes)
equalised odds      the largest one in the share of the rows of a class, or of the others, that are predicted as it
                    (Hardt, Price and Srebro 2016; `measures.fairness` gives the same value)
calibration gap     the largest one in mean score minus share of a class: by how much scores promise one group more than
                    another (calibration in the large, by group)

Intervals are bootstrap percentiles (Efron 1979) over rows drawn anew, 1,000 draws up to 20,000 rows; a largest
difference is above 0 by chance, and so is its interval. Groups of fewer than 30 rows are left out of the differences
and shown.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quarterdeckd.measures.fairness import MOST_CLASSES, MOST_GROUPS
from quarterdeckd.measures.quality import wilson
from quarterstore.records.evaluations import FAIRNESS
from quarterstore.records.registry import Metric

FEWEST: Final = 30
"""Rows below which a group or a slice is shown and not judged."""
DRAWS: Final = 1000
WORK: Final = 20_000_000
Floats = NDArray[np.float64]


class Group(NamedTuple):
    """One group: its rows, the share predicted as `positive` with its Wilson interval, the share of its rows of that
    class and of the others that are predicted so (None without such rows), mean score minus share."""

    group: str
    n: int
    selected: float
    low: float
    high: float
    tpr: float | None
    fpr: float | None
    calibration: float | None
    few: bool


class Parity(NamedTuple):
    """The metrics of groups, (metric, reason) where one is not defined, and each group."""

    metrics: tuple[Metric, ...]
    undefined: tuple[tuple[str, str], ...]
    groups: tuple[Group, ...]


def parity(
    truth: NDArray[Any],
    predicted: NDArray[Any],
    scores: Floats | None,
    classes: tuple[str, ...],
    groups: NDArray[Any],
    seed: int = 7,
) -> Parity:
    """Of n rows: true and predicted class and the group, as texts, and n x k scores in the order of `classes`. The
    shares of each group are of the last class."""
    names, place = np.unique(groups, return_inverse=True)
    sizes = np.bincount(place, minlength=len(names))
    index = {name: number for number, name in enumerate(classes)}
    true = np.array([index[str(one)] for one in truth], dtype=np.int64)
    said = np.array([index.get(str(one), len(classes)) for one in predicted], dtype=np.int64)
    table = _table(place, true, said, len(names), len(classes))
    gaps = _gaps(scores, true, len(classes))
    shown = tuple(_group(str(name), table[g], gaps, place == g) for g, name in enumerate(names))
    kept = np.flatnonzero(sizes >= FEWEST)
    why = ""
    if not 2 <= len(kept) <= MOST_GROUPS:
        why = f"{len(kept)} groups of at least {FEWEST} rows, of 2 to {MOST_GROUPS}"
    elif not 2 <= len(classes) <= MOST_CLASSES:
        why = f"{len(classes)} classes, of 2 to {MOST_CLASSES}"
    if why:
        return Parity((), tuple((name, why) for name in FAIRNESS), shown)
    return _differences(table[kept], gaps, place, kept, sizes, seed, shown)


def _differences(
    table: NDArray[np.int64],
    gaps: Floats | None,
    place: NDArray[np.int64],
    kept: NDArray[np.int64],
    sizes: NDArray[np.int64],
    seed: int,
    shown: tuple[Group, ...],
) -> Parity:
    rng = np.random.default_rng(seed)
    n, fewest = int(table.sum()), int(sizes[kept].min())
    draws = max(50, min(DRAWS, WORK // table.size))
    drawn = rng.multinomial(n, table.ravel() / n, size=draws).reshape(draws, *table.shape)
    undefined: list[tuple[str, str]] = []
    metrics = [_metric("demographic parity", _demographic(table[None]), _demographic(drawn), fewest)]
    of_class = table.sum(axis=2)
    least = int(min(of_class.min(), (of_class.sum(axis=1, keepdims=True) - of_class).min()))
    if least:
        metrics.append(_metric("equalised odds", _odds(table[None]), _odds(drawn), least))
    else:
        undefined.append(("equalised odds", "a group has no row of a class, or none of the others"))
    if gaps is None:
        undefined.append(("calibration gap", "the model gives no scores"))
    else:
        metrics.append(_calibration(gaps, place, kept, fewest, rng))
    return Parity(tuple(metrics), tuple(undefined), shown)


def _table(
    place: NDArray[np.int64], true: NDArray[np.int64], said: NDArray[np.int64], groups: int, k: int
) -> NDArray[np.int64]:
    """groups x true class x predicted class; the last column is for names that are no class."""
    flat = (place * k + true) * (k + 1) + said
    return np.bincount(flat, minlength=groups * k * (k + 1)).reshape(groups, k, k + 1).astype(np.int64)


def _gaps(scores: Floats | None, true: NDArray[np.int64], k: int) -> Floats | None:
    """n x k: the score of each class minus whether the row is of it."""
    return None if scores is None else scores - (true[:, None] == np.arange(k))


def _group(name: str, table: NDArray[np.int64], gaps: Floats | None, those: NDArray[np.bool_]) -> Group:
    n, said = int(table.sum()), int(table[:, -2].sum())
    positive, hits = int(table[-1].sum()), int(table[-1, -2])
    low, high = wilson(said, n)
    return Group(
        name,
        n,
        said / n,
        low,
        high,
        hits / positive if positive else None,
        (said - hits) / (n - positive) if n > positive else None,
        None if gaps is None else float(gaps[those, -1].mean()),
        n < FEWEST,
    )


def _spread(rates: Floats) -> Floats:
    """draws x groups x classes to the largest difference between two groups, over all classes."""
    with np.errstate(all="ignore"):
        return np.asarray((rates.max(axis=1) - rates.min(axis=1)).max(axis=1))


def _demographic(tables: NDArray[np.int64]) -> Floats:
    k = tables.shape[2]
    with np.errstate(all="ignore"):
        return _spread(tables.sum(axis=2)[:, :, :k] / tables.sum(axis=(2, 3))[:, :, None])


def _odds(tables: NDArray[np.int64]) -> Floats:
    k = tables.shape[2]
    hits = np.einsum("bgii->bgi", tables[:, :, :, :k])
    of_class, said = tables.sum(axis=3), tables.sum(axis=2)[:, :, :k]
    others = tables.sum(axis=(2, 3))[:, :, None] - of_class
    with np.errstate(all="ignore"):
        return np.asarray(np.maximum(_spread(hits / of_class), _spread((said - hits) / others)))


def _calibration(
    gaps: Floats, place: NDArray[np.int64], kept: NDArray[np.int64], fewest: int, rng: np.random.Generator
) -> Metric:
    rows = np.flatnonzero(np.isin(place, kept))
    where, values = np.searchsorted(kept, place[rows]), gaps[rows]
    n, k = len(where), values.shape[1]

    def difference(chosen: NDArray[np.int64]) -> float:
        sizes = np.bincount(where[chosen], minlength=len(kept))
        if not sizes.all():
            return float("nan")
        means = [np.bincount(where[chosen], values[chosen, c], minlength=len(kept)) / sizes for c in range(k)]
        return float(max(each.max() - each.min() for each in means))

    every = np.arange(n, dtype=np.int64)
    draws = max(100, min(DRAWS, WORK // (n * k)))
    drawn = np.array([difference(rng.integers(0, n, n)) for _ in range(draws)])
    return _metric("calibration gap", np.array([difference(every)]), drawn, fewest)


def _metric(name: str, point: Floats, drawn: Floats, n: int) -> Metric:
    value, finite = float(point[0]), drawn[np.isfinite(drawn)]
    if not len(finite):
        return Metric(name, value, n=n)
    low, high = np.quantile(finite, [0.025, 0.975])
    return Metric(name, value, min(float(low), value), max(float(high), value), n)
