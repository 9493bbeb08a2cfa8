"""The champion on the same held-out rows: its ONNX file answers what the challenger answered, and both are compared row
for row."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterdeckd.compression.onnx import opened
from quarterdeckd.learning.fitted import Meaning
from quarterdeckd.measures.pairing import classes_differ, numbers_differ
from quarterdeckd.pipeline.export import feeds
from quarterstore.records.evaluations import LOWER_IS_BETTER, Against, EvaluateSection
from quarterstore.records.names import drawn
from quarterstore.records.registry import Metric, Signature


class Answers(NamedTuple):
    """What a model said of n rows: a class each and n x k scores in the order of the meaning's classes, or n values."""

    said: NDArray[Any]
    scores: NDArray[np.float64] | None


class Compared(NamedTuple):
    """The difference to the champion, challenger minus champion, or in words why there is none; `worse` where all of
    its interval is a loss beyond the margin."""

    version: str
    difference: Metric | None
    worse: bool
    words: str


class Asked:
    """An ONNX file that is asked by the names of its features."""

    def __init__(self, path: Path, signature: Signature, meaning: Meaning) -> None:
        self._signature = signature
        self._meaning = meaning
        self._names = [output.name for output in signature.outputs]
        self._session = opened(path)

    def __call__(self, frame: pl.DataFrame) -> Answers | str:
        """What it says of rows; a sentence where it cannot be asked about them."""
        signature, meaning = self._signature, self._meaning
        if not signature.features or signature.task != meaning.task:
            return f"it does {signature.task}" if signature.features else "its features are not known by name"
        columns = []
        for feature in signature.features:
            column = _column(frame, feature.name, feature.kind)
            if isinstance(column, str):
                return column
            columns.append(column)
        try:
            found = self._session.run(self._names, feeds(pl.DataFrame(columns), signature))
        except Exception as error:  # ONNX Runtime raises bare classes of its C extension
            return f"it does not answer ({drawn(str(error).splitlines()[0], longest=120)})"
        outputs = dict(zip(self._names, found, strict=True))
        said = np.asarray(outputs[signature.label or self._names[0]]).reshape(-1)
        if meaning.task == "regression":
            return Answers(said.astype(np.float64), None)
        texts = [each.decode() if isinstance(each, bytes) else str(each) for each in said.tolist()]
        scores = _scores(outputs.get(signature.score or ""), signature.classes, meaning.classes)
        return Answers(np.array(texts, dtype=str), scores)


def compared(
    challenger: Answers,
    champion: Answers,
    truth: NDArray[Any],
    meaning: Meaning,
    section: EvaluateSection,
    against: Against,
) -> Compared:
    """Challenger against champion by the metric of the section. truth: n class names, or n values."""
    metric = section.metric
    if meaning.task == "regression":
        metric = "rmse" if metric == "auto" else metric
        found = numbers_differ(metric, truth, champion.said, challenger.said) if metric in ("rmse", "mae") else None
    else:
        metric = "accuracy" if metric == "auto" else metric
        found = _of_classes(metric, challenger, champion, truth, meaning)
    if found is None:
        return Compared(against.version, None, False, f"not compared with {against.version}: no {metric} on these rows")
    assert found.low is not None and found.high is not None
    lower = metric in LOWER_IS_BETTER
    worse = found.low > section.margin if lower else found.high < -section.margin
    better = found.high < 0 if lower else found.low > 0
    span = f"{found.value:+.4g} ({found.low:+.4g} to {found.high:+.4g})"
    verdict = "worse" if worse else "better" if better else "no worse"
    words = f"{metric} against {against.version} on the same rows {span}: {verdict}"
    return Compared(against.version, found, worse, words)


def _of_classes(
    metric: str, challenger: Answers, champion: Answers, truth: NDArray[Any], meaning: Meaning
) -> Metric | None:
    both = champion.scores, challenger.scores
    scores = (both[0], both[1]) if both[0] is not None and both[1] is not None else None
    if metric in ("rmse", "mae"):
        return None
    return classes_differ(metric, truth, (champion.said, challenger.said), scores, meaning.classes)


def _column(frame: pl.DataFrame, name: str, kind: str) -> pl.Series | str:
    """A feature as the champion takes it, or why it cannot have it."""
    if name not in frame.columns:
        return f"it takes {drawn(name, longest=60)}, which these rows do not have"
    values = frame[name]
    if kind != "number":
        text = values.cast(pl.Int64).cast(pl.String) if values.dtype.is_numeric() and _whole(values) else values
        return text.cast(pl.String).fill_null("")
    if not values.dtype.is_numeric():
        return f"{drawn(name, longest=60)} holds texts by now, it takes numbers"
    return values.cast(pl.Float32).fill_null(float("nan"))


def _whole(values: pl.Series) -> bool:
    known = values.drop_nulls().drop_nans() if values.dtype.is_float() else values.drop_nulls()
    return bool((known == known.floor()).all()) and values.null_count() + known.len() == values.len()


def _scores(found: Any, classes: tuple[str, ...], wanted: tuple[str, ...]) -> NDArray[np.float64] | None:
    """Scores in the order of other classes; a class that the file does not know has 0."""
    if found is None:
        return None
    given = np.asarray(found, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != len(classes):
        return None
    place = {name: number for number, name in enumerate(classes)}
    columns = [given[:, place[name]] if name in place else np.zeros(len(given)) for name in wanted]
    return np.column_stack(columns)
