"""The end of the training step: the model as a file, proved to answer as the trained model does, with what serving
needs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterdeckd.compression.onnx import checked_onnx, lists, opened
from quarterdeckd.learning.fitted import Fitted, Kept, Meaning, matrix, signature
from quarterstore.records.admission import Golden
from quarterstore.records.faults import Failed
from quarterstore.records.registry import Signature

TOLERANCE: Final = 1e-4
"""Largest difference between the trained model's answer and the file's: of a probability, or of a value relative to the
spread of the values (at least 1)."""
MOST_REFERENCE: Final = 50_000
MOST_GOLDEN: Final = 1000
GOLDEN_CELLS: Final = 100_000
"""Cells of golden rows at most, so that the file stays about a megabyte."""


class Exported(NamedTuple):
    """The signature of the file, the parity that was found, and the bytes of the model."""

    signature: Signature
    parity: float
    size: int


def export(
    out: Path,
    fitted: Fitted,
    meaning: Meaning,
    learnt: pl.DataFrame,
    held_out: pl.DataFrame,
    truth: pl.Series,
    answers: NDArray[np.float64],
    seed: int,
) -> Exported:
    """Write `model.onnx`, `reference.parquet` and `golden.json` into `out`; a file that answers otherwise than the
    trained model on the held-out rows is refused, naming the worst row."""
    if fitted.kept is not None:
        return _as_it_is(out, fitted.kept, meaning, learnt, seed)
    model = out / "model.onnx"
    model.write_bytes(fitted.export())
    checked_onnx(model)
    signed = signature(meaning, _categories(learnt, meaning))
    session = opened(model)
    given = feeds(held_out, signed)
    outputs = dict(
        zip((one.name for one in signed.outputs), session.run([o.name for o in signed.outputs], given), strict=True)
    )
    parity = compared(answers, outputs, signed)
    _write_golden(out / "golden.json", signed, given, outputs, truth)
    _write_reference(out / "reference.parquet", fitted, meaning, learnt, seed)
    return Exported(signed, parity, model.stat().st_size)


def _as_it_is(out: Path, kept: Kept, meaning: Meaning, learnt: pl.DataFrame, seed: int) -> Exported:
    """A file that nobody here can ask: no golden rows, no parity, and what drift is measured against are the features
    alone."""
    model = out / f"model.{kept.format}"
    shutil.copyfile(kept.file, model)
    rows = learnt.sample(MOST_REFERENCE, seed=seed) if learnt.height > MOST_REFERENCE else learnt
    rows.with_columns(pl.col(meaning.numbers).cast(pl.Float64)).write_parquet(out / "reference.parquet")
    return Exported(signature(meaning, _categories(learnt, meaning)), 0.0, model.stat().st_size)


def _categories(learnt: pl.DataFrame, meaning: Meaning) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sorted(learnt[name].unique().to_list())) for name in meaning.texts}


def feeds(frame: pl.DataFrame, signed: Signature) -> dict[str, NDArray[Any]]:
    """A frame as the input tensors of a signature."""
    if len(signed.inputs) == 1 and signed.inputs[0].name == "x":
        return {"x": matrix(frame, [feature.name for feature in signed.features])}
    return {
        feature.input: matrix(frame, [feature.name])
        if feature.kind == "number"
        else frame[feature.name].to_numpy().astype(object).reshape(-1, 1)
        for feature in signed.features
    }


def compared(answers: NDArray[np.float64], outputs: dict[str, NDArray[Any]], signed: Signature) -> float:
    """The largest difference between the trained model's answers (n x k, or n) and the file's; above the tolerance, or
    where a label is not the most probable class, a fault that names the row."""
    if signed.task == "classification":
        file = np.asarray(outputs["score"], dtype=np.float64)
        difference, scale = np.abs(file - answers).max(axis=1), 1.0
    else:
        file = np.asarray(outputs["value"], dtype=np.float64).reshape(-1)
        difference, scale = np.abs(file - answers), max(1.0, float(answers.std()))
    worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
    if not difference[worst] <= TOLERANCE * scale:
        raise Failed(
            f"got {difference[worst]:.3g} between the trained model and the ONNX file in held-out row {worst}, "
            f"expected at most {TOLERANCE * scale:.3g}",
            field="export",
        )
    if signed.task == "classification":
        _check_labels(outputs, signed)
    return float(difference[worst])


def _check_labels(outputs: dict[str, NDArray[Any]], signed: Signature) -> None:
    scores = np.asarray(outputs["score"], dtype=np.float64)
    place = {name: index for index, name in enumerate(signed.classes)}
    for row, label in enumerate(np.asarray(outputs["label"]).reshape(-1).tolist()):
        chosen = place.get(label.decode() if isinstance(label, bytes) else str(label))
        if chosen is None or scores[row, chosen] < scores[row].max() - TOLERANCE:
            raise Failed(
                f"got the label {label!r} in held-out row {row}, expected the most probable class", field="export"
            )


def _write_golden(
    path: Path, signed: Signature, given: dict[str, NDArray[Any]], outputs: dict[str, NDArray[Any]], truth: pl.Series
) -> None:
    rows = min(len(truth), MOST_GOLDEN, max(64, GOLDEN_CELLS // max(1, len(signed.features))))
    golden = Golden(
        inputs={name: lists(values[:rows]) for name, values in given.items()},
        outputs={name: lists(np.asarray(values)[:rows]) for name, values in outputs.items()},
        labels=truth[:rows].to_list(),
        tolerance=TOLERANCE,
    )
    path.write_bytes(msgspec.json.encode(golden))


def _write_reference(path: Path, fitted: Fitted, meaning: Meaning, learnt: pl.DataFrame, seed: int) -> None:
    """The learnt rows (a sample of them beyond `MOST_REFERENCE`) and what the model says of each: the class as text, or
    the value; drift is measured against this."""
    rows = learnt
    if learnt.height > MOST_REFERENCE:
        rows = learnt.sample(MOST_REFERENCE, seed=seed)
    answers = fitted.answer(rows)
    if meaning.task == "classification":
        said = pl.Series("prediction", np.array(meaning.classes, dtype=object)[answers.argmax(axis=1)], dtype=pl.String)
    else:
        said = pl.Series("prediction", answers)
    numbers = pl.col(meaning.numbers).cast(pl.Float64)
    rows.with_columns(numbers).with_columns(said).write_parquet(path)
