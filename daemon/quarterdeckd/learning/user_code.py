"""A user's own training function: called once with rows, and what it returns taken as a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterdeckd.learning.calling import Log, call
from quarterdeckd.learning.fitted import Fitted, Learning, Meaning, matrix
from quarterstore.records.faults import got
from quarterstore.records.names import drawn


def fit(
    python: str, code: Path, rows: Learning, meaning: Meaning, target: str, params: dict[str, Any], log: Log
) -> Fitted:
    """Call `train(frame, target, params, log)` of `FILE.py:FUNCTION` and take the model it returns.

    frame: a `polars.DataFrame` of the rows to learn from: the features in order (numbers as Float32 with NaN for what
    is missing, texts as String with "" for it), then the target under its own name (text or integer classes, or
    Float64). Returns a fitted scikit-learn estimator (given the n x d float32 matrix of the features where all are
    numbers, else the frame), a `torch.nn.Module` (n x d float32 to n x k logits in the order of the sorted classes, or
    to n values) or the bytes of an ONNX file. Whatever it raises becomes one line with the line number in its file.
    """
    labels = meaning.labels()[rows.target] if meaning.task == "classification" else rows.target
    frame = rows.frame.with_columns(pl.Series(target, list(labels)))
    return _fitted(python, call(python, code, frame, target, params, log), meaning, params)


def _fitted(python: str, model: Any, meaning: Meaning, params: dict[str, Any]) -> Fitted:
    kind = type(model)
    if isinstance(model, bytes):
        return given_model(model, meaning, params)
    if "torch" in sys.modules and isinstance(model, sys.modules["torch"].nn.Module):
        return _module(python, model, meaning, params)
    if hasattr(model, "predict") and hasattr(model, "get_params"):
        return estimator(model, meaning, params)
    said = drawn(f"{kind.__module__}.{kind.__name__}", longest=80)
    raise got(python, said, "a fitted scikit-learn estimator, a torch.nn.Module or the bytes of an ONNX file")


def estimator(model: Any, meaning: Meaning, params: dict[str, Any]) -> Fitted:
    """A fitted scikit-learn estimator: asked as it is, exported by skl2onnx."""
    import sklearn

    from quarterdeckd.learning import adapters, tabular

    return Fitted(
        answer=lambda frame: tabular.answer(model, frame, meaning),
        export=lambda: adapters.sklearn_onnx(model, meaning),
        params=params,
        framework=f"scikit-learn {sklearn.__version__}",
        device="cpu",
        words=type(model).__name__,
    )


def _module(python: str, model: Any, meaning: Meaning, params: dict[str, Any]) -> Fitted:
    import torch

    from quarterdeckd.learning import adapters, torch_loop

    if meaning.texts:
        raise got(python, f"a torch module and text features ({meaning.texts[0]})", "numbers only (or data.ignore)")
    first = next(model.parameters(), torch.zeros(0))
    where = torch_loop.said(first.device)
    model.eval().cpu()

    def answer(frame: pl.DataFrame) -> NDArray[np.float64]:
        with torch.inference_mode():
            out = model(torch.from_numpy(matrix(frame, meaning.numbers)))
            width = len(meaning.classes) or 1
            if out.ndim == 1:
                out = out[:, None]
            if tuple(out.shape) != (frame.height, width):
                raise got(python, f"an output of shape {tuple(out.shape)}", f"({frame.height}, {width})")
            return np.asarray((torch.softmax(out, dim=1) if meaning.classes else out[:, 0]).numpy(), dtype=np.float64)

    return Fitted(
        answer=answer,
        export=lambda: adapters.torch_onnx(model, meaning),
        params=params,
        framework=f"torch {torch.__version__.partition('+')[0]}",
        device=where,
        words=type(model).__name__,
    )


def given_model(data: bytes, meaning: Meaning, params: dict[str, Any]) -> Fitted:
    """The bytes of an ONNX file with the inputs and outputs of the features and the task."""
    import onnxruntime

    from quarterdeckd.learning import adapters
    from quarterdeckd.learning.fitted import tensor_names

    checked = adapters.given_onnx(data, meaning)
    session = onnxruntime.InferenceSession(checked, providers=["CPUExecutionProvider"])

    def answer(frame: pl.DataFrame) -> NDArray[np.float64]:
        feeds: dict[str, Any] = {"x": matrix(frame, meaning.numbers)}
        if meaning.texts:
            feeds = {
                name: frame[column.name].to_numpy().reshape(-1, 1)
                for name, column in zip(tensor_names(meaning), meaning.features, strict=True)
            }
        found = session.run(["score" if meaning.classes else "value"], feeds)[0]
        return np.asarray(found if meaning.classes else found[:, 0], dtype=np.float64)

    return Fitted(answer, lambda: checked, params, f"onnx by {python_version()}", "cpu", "an ONNX model of its own")


def python_version() -> str:
    """As in `python 3.11.7`."""
    return "python " + sys.version.partition(" ")[0]
