"""Signs that the features know the target: a warning that names the columns, never a refusal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterstore.records.names import drawn
from quarterstore.records.plans import Plan
from quarterstore.records.registry import Metric

TOO_GOOD: Final = 0.99
"""ROC AUC or R2 on held-out rows from which on a leak is likelier than a model."""
SAME: Final = 0.999
"""Correlation with the target, or share of the wrong guesses that a category takes away, from which on a column is the
target by another name."""
MOST_ROWS: Final = 20_000
MOST_CLASSES: Final = 20

Floats = NDArray[np.float64]


def of_rows(frame: pl.DataFrame, plan: Plan) -> tuple[str, ...]:
    """What the rows themselves tell: columns whose sum is the target, columns that are the target."""
    rows = frame.head(MOST_ROWS)
    numbers = [column.name for column in plan.features if column.kind in ("number", "integer")]
    exact = leaking(rows, plan.target, numbers, plan.task)
    if exact:
        return (f"{_shown([plan.target])} follows exactly from {_shown(exact)} ({_flags(exact)})",)
    alike = [(name, score) for name, score in resembling(rows, plan) if score >= SAME]
    return tuple(
        f"{_shown([name])} is {_shown([plan.target])} by another name ({score:.4f}; {_flags([name])})"
        for name, score in alike
    )


def of_metrics(metrics: Iterable[Metric], frame: pl.DataFrame, plan: Plan) -> tuple[str, ...]:
    """What held-out rows tell: a figure that is hardly ever true, with the columns that are closest to the target."""
    high = [metric for metric in metrics if metric.name in ("roc auc", "r2") and metric.value >= TOO_GOOD]
    if not high:
        return ()
    near = [f"{_shown([name])} ({score:.2f})" for name, score in resembling(frame.head(MOST_ROWS), plan)[:3]]
    return tuple(
        f"{metric.name} {metric.value:.4g} on held-out rows is hardly ever true: is a feature known only after "
        f"{_shown([plan.target])}? closest to it: {', '.join(near)}"
        for metric in high
    )


def leaking(frame: pl.DataFrame, target: str, numbers: list[str], task: str) -> tuple[str, ...]:
    """The numeric features that give a numeric target away exactly (least squares, R2 > 1 - 1e-9), as `casual` and
    `registered` add up to `cnt`; empty when there is no such sum."""
    if task != "regression" or not numbers:
        return ()
    x = frame.select(numbers).to_numpy()
    y = frame[target].to_numpy()
    known = np.isfinite(x).all(axis=1)
    x, y = x[known], y[known]
    if len(y) < 5 * (len(numbers) + 1):
        return ()
    spread = x.std(axis=0)
    used = spread > 0
    z = (x[:, used] - x[:, used].mean(axis=0)) / spread[used]
    centred = y - y.mean()
    weight, *_ = np.linalg.lstsq(z, centred, rcond=None)
    if ((centred - z @ weight) ** 2).sum() > 1e-9 * (centred**2).sum():
        return ()
    names = [name for name, taken in zip(numbers, used, strict=True) if taken]
    return tuple(name for name, one in zip(names, weight, strict=True) if abs(one) > 1e-3 * centred.std())


def resembling(frame: pl.DataFrame, plan: Plan) -> list[tuple[str, float]]:
    """Each feature with how close it alone comes to the target, from 0 to 1, the closest first: the correlation of a
    number (with a class against the others), Goodman and Kruskal's lambda of a category with the classes."""
    target = frame[plan.target]
    aims = _aims(target, plan)
    found = []
    for column in plan.features:
        if column.kind in ("number", "integer"):
            x = frame[column.name].to_numpy().astype(np.float64)
            found.append((column.name, max((_correlation(x, y) for y in aims), default=0.0)))
        elif plan.task == "classification":
            found.append((column.name, _lambda(frame[column.name], target)))
    return sorted(found, key=lambda pair: -pair[1])


def _aims(target: pl.Series, plan: Plan) -> list[Floats]:
    """The target as numbers: itself, or a one in the rows of each class."""
    if plan.task == "regression":
        return [target.to_numpy().astype(np.float64)]
    names = target.unique().to_list()
    chosen = names[:1] if len(names) == 2 else names[:MOST_CLASSES]
    return [(target == name).to_numpy().astype(np.float64) for name in chosen]


def _correlation(x: Floats, y: Floats) -> float:
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3 or np.ptp(x[known]) == 0 or np.ptp(y[known]) == 0:
        return 0.0
    with np.errstate(all="ignore"):
        found = float(abs(np.corrcoef(x[known], y[known])[0, 1]))
    return found if np.isfinite(found) else 0.0


def _lambda(column: pl.Series, target: pl.Series) -> float:
    """By how much of its errors the guess of the commonest class is better where the category is known."""
    pairs = pl.DataFrame({"category": column, "class": target}).group_by("category", "class").len()
    commonest = int(target.value_counts()["count"].max() or 0)  # type: ignore[arg-type]
    known = int(pairs.group_by("category").agg(pl.col("len").max())["len"].sum())
    return (known - commonest) / (len(target) - commonest) if len(target) > commonest else 0.0


def _shown(names: Sequence[str]) -> str:
    return ", ".join(drawn(name, longest=60) for name in names[:10])


def _flags(names: Sequence[str]) -> str:
    """What leaves the columns out, at the command line; `ignore` of `[data]` in a file."""
    return " ".join(f"--ignore {drawn(name, longest=60)}" for name in names[:10])
