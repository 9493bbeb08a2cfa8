"""The fourth step of a pipeline: how good the trained model is on rows it never saw, with intervals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterdeckd.learning.fitted import Fitted, Meaning
from quarterdeckd.measures import quality
from quarterstore.records.faults import Failed
from quarterstore.records.registry import Metric

SHOWN = ("accuracy", "roc auc", "rmse", "mae", "r2")
"""Metrics that the words of the step name; all are in its figures."""


class Evaluation(NamedTuple):
    """How good the answers to the held-out rows are."""

    metrics: tuple[Metric, ...]
    words: str
    figures: dict[str, Any]


def answers_of(fitted: Fitted, frame: pl.DataFrame) -> NDArray[np.float64]:
    """What the trained model says of rows, n x k probabilities or n values; a fault where one is not finite."""
    answers = fitted.answer(frame)
    if not np.isfinite(answers).all():
        bad = (
            int((~np.isfinite(answers)).any(axis=-1).sum()) if answers.ndim > 1 else int((~np.isfinite(answers)).sum())
        )
        raise Failed(f"got {bad} of {len(answers)} answers that are not finite, expected numbers", field="train")
    return answers


def evaluate(answers: NDArray[np.float64], truth: pl.Series, meaning: Meaning) -> Evaluation:
    """Metrics of the held-out rows; a metric that is not defined on them is left out and said, never a number."""
    if meaning.task == "classification":
        names = np.array(meaning.classes, dtype=str)
        found = quality.classification(truth.to_list(), names[answers.argmax(axis=1)], answers, meaning.classes)
    else:
        found = quality.regression(truth.to_numpy(), answers)
    figures: dict[str, Any] = {metric.name: _figure(metric) for metric in found.metrics}
    parts = [_words(metric) for metric in found.metrics if metric.name in SHOWN]
    if found.undefined:
        figures["undefined"] = dict(found.undefined)
        parts.extend(f"{name} is not defined: {why}" for name, why in found.undefined)
    return Evaluation(found.metrics, f"on {len(truth):,} held-out rows: " + ", ".join(parts), figures)


def _figure(metric: Metric) -> dict[str, float | int | None]:
    return {"value": metric.value, "low": metric.low, "high": metric.high, "n": metric.n}


def _words(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return f"{metric.name} {metric.value:.4g}"
    return f"{metric.name} {metric.value:.4g} ({metric.low:.4g} to {metric.high:.4g})"
