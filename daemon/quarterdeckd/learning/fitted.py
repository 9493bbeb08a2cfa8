"""What learning takes and gives: rows with their meaning in, a fitted model that can answer and be exported out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterdeckd.learning.calling import Environment as Environment
from quarterdeckd.learning.calling import Points as Points
from quarterstore.records.datasets import Column
from quarterstore.records.faults import got, missing
from quarterstore.records.registry import Feature, Signature, Tensor

Floats = NDArray[np.float32]


class Meaning(NamedTuple):
    """What the columns of a frame are to a model: the features in order, the task, the names of the classes in
    order."""

    features: tuple[Column, ...]
    task: Literal["classification", "regression"]
    classes: tuple[str, ...]

    @property
    def numbers(self) -> list[str]:
        """Names of the numeric features."""
        return [column.name for column in self.features if column.kind in ("number", "integer")]

    @property
    def texts(self) -> list[str]:
        """Names of the features that are categories."""
        return [column.name for column in self.features if column.kind not in ("number", "integer")]

    @property
    def whole(self) -> bool:
        """Whether the classes are integers, so that a label is an INT64 and not a text."""
        return bool(self.classes) and all(name.lstrip("-").isdigit() for name in self.classes)

    def labels(self) -> NDArray[Any]:
        """The classes as the model's own labels: int64 or text, in order."""
        return np.array([int(name) for name in self.classes]) if self.whole else np.array(self.classes, dtype=object)


class Learning(NamedTuple):
    """Rows to learn from: features as Float32 (missing is NaN) and String (missing is ""), and the target: the index of
    the class (int64) or the value (float64). `watch` are rows to watch and to stop by, taken from the learnt side."""

    frame: pl.DataFrame
    target: NDArray[Any]
    watch: pl.DataFrame
    watch_target: NDArray[Any]


class Kept(NamedTuple):
    """A model's own file where it is not made into ONNX: nobody here can ask it, and its code says what it predicts."""

    file: Path
    format: str


class Fitted(NamedTuple):
    """A model as it was trained. `answer(frame)` gives n x k probabilities, or n values of a regression, by the trained
    model itself (not by the exported file); `export()` gives the ONNX file. Of one that is `kept` as it is, `answer`
    tells the held-out rows only, as its code did."""

    answer: Callable[[pl.DataFrame], NDArray[np.float64]]
    export: Callable[[], bytes]
    params: dict[str, Any]
    framework: str
    device: str
    words: str
    kept: Kept | None = None
    environment: Environment | None = None


def matrix(frame: pl.DataFrame, names: list[str]) -> Floats:
    """The named numeric columns as n x d single precision, C order."""
    return np.ascontiguousarray(frame.select(pl.col(names).cast(pl.Float32)).to_numpy(), dtype=np.float32)


def checked_params(learner: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults with what was given over them; a fault for an unknown name or a value of another kind."""
    for name, value in given.items():
        if name not in defaults:
            raise missing(f"train.params ({learner})", name, defaults)
        like = defaults[name]
        if isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool):
            continue
        if like is not None and (type(value) is not type(like)) and not (isinstance(like, list) and value == []):
            raise got(f"train.params.{name}", value, f"a value like {like!r}")
    return {**defaults, **given}


def tensor_names(meaning: Meaning) -> list[str]:
    """One tensor a column where there are categories: letters, digits and `_` of its name, each name once."""
    names: list[str] = []
    for column in meaning.features:
        plain = "".join(char if char.isascii() and char.isalnum() else "_" for char in column.name) or "column"
        name, again = plain, 1
        while name in names or name in ("label", "score", "value"):
            again += 1
            name = f"{plain}_{again}"
        names.append(name)
    return names


def signature(meaning: Meaning, categories: Mapping[str, tuple[str, ...]]) -> Signature:
    """How the exported file is asked: one tensor `x` [n, d] where all features are numbers, else one [n, 1] a column;
    outputs `label` and `score` [n, k], or `value` [n, 1]."""
    if meaning.texts:
        names = tensor_names(meaning)
        inputs = tuple(
            Tensor(name, "BYTES" if column.name in meaning.texts else "FP32", (-1, 1))
            for name, column in zip(names, meaning.features, strict=True)
        )
        features = tuple(
            Feature(
                column.name,
                "category" if column.name in meaning.texts else "number",
                name,
                0,
                categories.get(column.name, ()),
                column.missing > 0,
            )
            for name, column in zip(names, meaning.features, strict=True)
        )
    else:
        inputs = (Tensor("x", "FP32", (-1, len(meaning.features))),)
        features = tuple(
            Feature(column.name, "number", "x", place, (), column.missing > 0)
            for place, column in enumerate(meaning.features)
        )
    if meaning.task == "regression":
        return Signature(inputs, (Tensor("value", "FP32", (-1, 1)),), features, "regression", label="value")
    outputs = (
        Tensor("label", "INT64" if meaning.whole else "BYTES", (-1,)),
        Tensor("score", "FP32", (-1, len(meaning.classes))),
    )
    return Signature(inputs, outputs, features, "classification", "label", "score", meaning.classes)
