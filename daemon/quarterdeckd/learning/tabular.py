"""Scikit-learn baselines for tables: logistic, forest, boosting and ridge, each with a curve where the learner has
one."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from quarterdeckd.learning.fitted import Learning, Meaning, Points, matrix
from quarterstore.records.faults import got

CHUNKS = 10
"""Points of a curve: the learner goes on from where it was (warm start) this many times."""


def fit(learner: str, rows: Learning, meaning: Meaning, params: dict[str, Any], seed: int, points: Points) -> Pipeline:
    """A fitted pipeline of preparation and model; labels are int64 or text as `meaning.labels()`.

    It takes n x d float32 where all features are numbers, else a frame with the columns of `meaning`. The watched
    rows are only looked at: nothing is chosen by them.
    """
    prepare = _prepare(meaning, scaled=learner in ("logistic", "ridge"))
    x = prepare.fit_transform(seen(rows.frame, meaning))
    y = _target(rows.target, meaning)
    model = _model(learner, meaning.task, params, seed, len(y))
    watched = prepare.transform(seen(rows.watch, meaning)) if len(rows.watch) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a chunk of iterations is meant to end early
        _grow(learner, model, x, y, params, lambda step: _tell(model, x, y, watched, rows, meaning, step, points))
    return Pipeline([("prepare", prepare), ("model", model)])


def seen(frame: pl.DataFrame, meaning: Meaning) -> Any:
    """A frame as a scikit-learn estimator is given it: float32 matrix, or the frame itself where there are
    categories."""
    if meaning.texts:
        return frame.select(column.name for column in meaning.features)
    return matrix(frame, meaning.numbers)


def answer(estimator: Any, frame: pl.DataFrame, meaning: Meaning) -> NDArray[np.float64]:
    """n x k probabilities in the order of the classes, or n values."""
    x = seen(frame, meaning)
    if meaning.task == "regression":
        return np.asarray(estimator.predict(x), dtype=np.float64).reshape(-1)
    if not hasattr(estimator, "predict_proba"):
        raise got("train", f"{type(estimator).__name__} without predict_proba", "a classifier that gives probabilities")
    known = [str(one) for one in estimator.classes_]
    if known != list(meaning.classes):
        raise got("train", f"a classifier of {known[:5]}", f"the classes {list(meaning.classes[:5])}")
    return np.asarray(estimator.predict_proba(x), dtype=np.float64)


def categories(frame: pl.DataFrame, meaning: Meaning) -> dict[str, tuple[str, ...]]:
    """The different texts of each category column, sorted."""
    return {name: tuple(sorted(frame[name].unique().to_list())) for name in meaning.texts}


def _target(target: NDArray[Any], meaning: Meaning) -> NDArray[Any]:
    return meaning.labels()[target] if meaning.task == "classification" else target


def _prepare(meaning: Meaning, *, scaled: bool) -> Any:
    """Medians for what is missing; scaled for linear models only: a tree's threshold must meet the very float32 it was
    learnt from, and scaling in double precision moves it."""
    steps: list[tuple[str, Any]] = [("impute", SimpleImputer(strategy="median", keep_empty_features=True))]
    if scaled:
        steps.append(("scale", StandardScaler()))
    numbers = Pipeline(steps)
    if not meaning.texts:
        return numbers
    parts: list[tuple[str, Any, list[str]]] = [
        ("categories", OneHotEncoder(handle_unknown="ignore"), meaning.texts),
    ]
    if meaning.numbers:
        parts.insert(0, ("numbers", numbers, meaning.numbers))
    return ColumnTransformer(parts)


def _model(learner: str, task: str, params: dict[str, Any], seed: int, n: int) -> Any:
    classes = task == "classification"
    if learner == "logistic":
        return LogisticRegression(C=params["c"], max_iter=max(1, params["iterations"] // CHUNKS), warm_start=True)
    if learner == "ridge":
        return Ridge(alpha=params["alpha"])
    if params["trees"] < 1 or params["depth"] < 0:
        raise got("train.params", params, "at least one tree and a depth that is not negative")
    if learner == "forest":
        kind = RandomForestClassifier if classes else RandomForestRegressor
        leaf = params["leaf"] or max(2, n // 1000)
        return kind(
            n_estimators=1, max_depth=params["depth"] or None, min_samples_leaf=leaf, random_state=seed, warm_start=True
        )
    boosted = GradientBoostingClassifier if classes else GradientBoostingRegressor
    return boosted(
        n_estimators=1,
        max_depth=params["depth"] or None,
        learning_rate=params["rate"],
        random_state=seed,
        warm_start=True,
    )


def _grow(learner: str, model: Any, x: Any, y: NDArray[Any], params: dict[str, Any], tell: Any) -> None:
    """Fit in chunks, telling the curve after each: iterations of the logistic, trees of the others; ridge in one."""
    if learner == "ridge":
        model.fit(x, y)
        tell(1)
    elif learner == "logistic":
        for chunk in range(1, CHUNKS + 1):
            model.fit(x, y)
            tell(chunk)
            if int(np.max(model.n_iter_)) < model.max_iter:
                break
    else:
        for trees in sorted({max(1, round(params["trees"] * part / CHUNKS)) for part in range(1, CHUNKS + 1)}):
            model.set_params(n_estimators=trees)
            model.fit(x, y)
            tell(trees)


def _tell(
    model: Any, x: Any, y: NDArray[Any], watched: Any, rows: Learning, meaning: Meaning, step: int, points: Points
) -> None:
    found = {"loss": _loss(model, x, y, meaning)[0]}
    if watched is not None:
        truth = _target(rows.watch_target, meaning)
        found["val_loss"], accuracy = _loss(model, watched, truth, meaning)
        if meaning.task == "classification":
            found["val_accuracy"] = accuracy
    points(step, found)


def _loss(model: Any, x: Any, y: NDArray[Any], meaning: Meaning) -> tuple[float, float]:
    """(log loss, accuracy), or (mean squared error, 0)."""
    if meaning.task == "regression":
        return float(np.mean((model.predict(x) - y) ** 2)), 0.0
    scores = model.predict_proba(x)
    truth = np.searchsorted(model.classes_, y)
    sure = np.clip(scores[np.arange(len(y)), truth], 1e-15, 1.0)
    return float(-np.log(sure).mean()), float((scores.argmax(axis=1) == truth).mean())
