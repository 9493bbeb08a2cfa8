"""The built-in learners by name: each takes rows and gives a fitted model; only the library it needs is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quarterdeckd.learning.fitted import Fitted, Learning, Meaning, Points, checked_params
from quarterdeckd.learning.parameters import LEARNERS
from quarterstore.records.faults import got, missing


def check_task(learner: str, task: str, field: str = "train.learner") -> None:
    """`NotFound` with the nearest for a name that is none, `Invalid` for a learner of the other task only."""
    if learner not in LEARNERS:
        raise missing(field, learner, LEARNERS)
    if learner == "logistic" and task == "regression":
        raise got(field, "logistic", "ridge, forest, boosting or mlp for a regression")
    if learner == "ridge" and task == "classification":
        raise got(field, "ridge", "logistic, forest, boosting or mlp for a classification")


def fit(
    learner: str,
    rows: Learning,
    meaning: Meaning,
    params: dict[str, Any],
    seed: int,
    points: Points,
    checkpoint: Path | None = None,
) -> Fitted:
    """Train a built-in learner; raises as `check_task`. The network keeps where it is in the folder `checkpoint`, and
    goes on from what is there; the others are quick, and begin again."""
    check_task(learner, meaning.task)
    if learner == "mlp":
        return _mlp(rows, meaning, params, seed, points, checkpoint)
    return _tabular(learner, rows, meaning, params, seed, points)


def _mlp(
    rows: Learning, meaning: Meaning, params: dict[str, Any], seed: int, points: Points, checkpoint: Path | None
) -> Fitted:
    import torch

    from quarterdeckd.learning import adapters, encoding, torch_loop

    chosen = checked_params("mlp", params, LEARNERS["mlp"])
    learnt = encoding.learn_encoding(rows.frame, meaning)
    classes = len(meaning.classes)
    x, x_watch = encoding.encode(rows.frame, learnt), encoding.encode(rows.watch, learnt)
    mlp = torch_loop.fit(x, rows.target, x_watch, rows.watch_target, classes, chosen, seed, points, checkpoint)
    widths = "-".join(str(len(bias)) for _, bias in mlp.layers)
    words = f"{learnt.width}-{widths} network, epoch {mlp.epoch} of {mlp.epochs} kept"
    return Fitted(
        answer=lambda frame: torch_loop.answer(mlp, encoding.encode(frame, learnt), classes),
        export=lambda: adapters.mlp_onnx(mlp.layers, learnt, meaning, mlp.shift, mlp.scale),
        params=chosen,
        framework=f"torch {torch.__version__.partition('+')[0]}",
        device=mlp.device,
        words=words,
    )


def _tabular(
    learner: str, rows: Learning, meaning: Meaning, params: dict[str, Any], seed: int, points: Points
) -> Fitted:
    import sklearn

    from quarterdeckd.learning import tabular

    chosen = checked_params(learner, params, LEARNERS[learner])
    estimator = tabular.fit(learner, rows, meaning, chosen, seed, points)
    return Fitted(
        answer=lambda frame: tabular.answer(estimator, frame, meaning),
        export=lambda: _converted(estimator, meaning),
        params=chosen,
        framework=f"scikit-learn {sklearn.__version__}",
        device="cpu",
        words=type(estimator.steps[-1][1]).__name__,
    )


def _converted(estimator: Any, meaning: Meaning) -> bytes:
    from quarterdeckd.learning import adapters

    return adapters.sklearn_onnx(estimator, meaning)
