"""What a recorded prediction says of its tensors: each feature's values, a label and a score a row."""

from __future__ import annotations

import math
from typing import Any

from quarterdeckd.serving.router import Arm
from quarterstore.records.registry import Signature

SMALL = 64
"""Values up to which Python's own `max` is quicker than numpy's."""


def features_of(arm: Arm, feed: dict[str, Any]) -> dict[str, list[Any]]:
    """The values of each feature, a row each, as the signature names them; the tensors' own columns without one."""
    if arm.columns:
        ordered: dict[str, list[Any]] = {}
        for tensor, names in arm.columns.items():
            array = feed[tensor]
            columns = _rows(array).T.tolist()
            if array.dtype.kind == "O":
                columns = [[_plain(value) for value in column] for column in columns]
            ordered.update(zip(names, columns, strict=False))
        return ordered
    features = arm.slot.signature.features
    if features:
        found = {name: _rows(array).T.tolist() for name, array in feed.items()}
        texts = {name for name, array in feed.items() if array.dtype.kind == "O"}
        return {
            each.name: [_plain(value) for value in found[each.input][each.index]]
            if each.input in texts
            else found[each.input][each.index]
            for each in features
        }
    unnamed: dict[str, list[Any]] = {}
    for name, array in feed.items():
        table = _rows(array)
        for index in range(min(table.shape[1], 64)):
            unnamed[f"{name}_{index}" if table.shape[1] > 1 else name] = [
                _plain(value) for value in table[:, index].tolist()
            ]
    return unnamed


def _rows(array: Any) -> Any:
    """An array as rows and columns; a scalar is one row."""
    return array.reshape(len(array) if array.ndim else 1, -1)


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def said_of(signature: Signature, outputs: dict[str, Any]) -> tuple[list[Any], list[float]]:
    """What was predicted and how surely, a row each: the outputs that the signature names, else the first one."""
    label, score = outputs.get(signature.label or ""), outputs.get(signature.score or "")
    if label is None and score is None and outputs:
        label = next(iter(outputs.values()))
    predicted = label.reshape(len(label), -1)[:, 0].tolist() if label is not None and label.ndim else []
    return predicted, scores_of(score if score is not None else label)


def scores_of(array: Any) -> list[float]:
    """One number a row: the highest score, or the value itself."""
    if array is None or not array.ndim or array.dtype.kind not in "fiu":
        return []
    table = array.reshape(len(array), -1)
    if table.size <= SMALL:
        highest = map(max, table.tolist())
    else:
        highest = (table.max(axis=1) if table.shape[1] > 1 else table[:, 0]).tolist()
    return [float(value) for value in highest if math.isfinite(value)]
