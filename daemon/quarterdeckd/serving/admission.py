"""Admission: a version has to load and give its golden answers in a throw-away process before a host may hold it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from quarterdeckd.compression.onnx import checked_onnx
from quarterdeckd.serving.session import DTYPES, Loaded, checked
from quarterstore.records.admission import AdmissionResult, AdmissionSpec, Golden
from quarterstore.records.faults import Failed, got, missing
from quarterstore.records.registry import Signature

ROUNDS = 50
TIMED_FOR = 1.0
"""Seconds after which timing ends: a model of 5 s would be timed for four minutes, and admission waits for that."""


def run(spec: AdmissionSpec, report: Any) -> AdmissionResult:
    """Load the file, answer the golden rows, compare, time one row; raises a fault that says what differs."""
    loaded = admitted(Path(spec.model), spec.digest, spec.signature)
    _same_signature(spec, loaded)
    golden = golden_of(Path(spec.golden)) if spec.golden else None
    feed = golden_feed(golden, loaded) if golden else zeros(loaded)
    try:
        found = dict(zip(loaded.names, loaded.run(feed), strict=True))
    except Exception as error:
        raise Failed(
            f"the model raised an error on its golden rows ({' '.join(str(error).split())[:200]})", field="golden"
        ) from error
    largest = compare(golden, found) if golden else 0.0
    one = {name: array[:1] if array.ndim else array for name, array in feed.items()}
    rows = max((len(array) for array in feed.values() if array.ndim), default=1)
    return AdmissionResult(rows=rows if golden else 0, largest_difference=largest, p50=_p50(lambda: loaded.run(one)))


def admitted(path: Path, digest: str, signature: Signature | None = None) -> Loaded:
    """A file loaded once it has its SHA-256 and holds nothing but itself: no external data, no custom operator
    (`compression.onnx.checked_onnx`). ONNX Runtime alone refuses the former late and follows a hard link."""
    with checked(path, digest):
        checked_onnx(path)
    return Loaded(path, digest, signature)


def golden_of(path: Path) -> Golden:
    """Golden rows as they are kept; `Invalid` for what is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Golden)
    except msgspec.DecodeError as error:
        raise got("golden", f"rows that are none ({str(error)[:200]})", "JSON with inputs and outputs") from error


def _same_signature(spec: AdmissionSpec, loaded: Loaded) -> None:
    for side, declared, real in (
        ("inputs", spec.signature.inputs, loaded.inputs),
        ("outputs", spec.signature.outputs, loaded.outputs),
    ):
        wanted = {each.name: each.datatype for each in declared}
        there = {each.name: each.datatype for each in real}
        if wanted != there:
            raise got(f"signature.{side}", wanted, f"what the file has, {there}")


def golden_feed(golden: Golden, loaded: Loaded) -> dict[str, np.ndarray[Any, Any]]:
    """The golden inputs as the model takes them; another set of names, shape, type or number of rows is `Invalid`."""
    wanted = {each.name: each for each in loaded.inputs}
    if golden.inputs.keys() != wanted.keys():
        raise got("golden.inputs", ", ".join(sorted(golden.inputs)) or "none", ", ".join(sorted(wanted)))
    feed = {}
    for name, tensor in wanted.items():
        field = f"golden.inputs.{name}"
        array = _array(golden.inputs[name], DTYPES[tensor.datatype], field)
        fits = array.ndim == len(tensor.shape) and all(
            size in (-1, found) for size, found in zip(tensor.shape, array.shape, strict=True)
        )
        if not fits or not array.size:
            raise got(f"{field}.shape", list(array.shape), f"{list(tensor.shape)} (-1 is any, but not 0)")
        feed[name] = array
    rows = {name: len(array) for name, array in feed.items() if array.ndim}
    if len(set(rows.values())) > 1:
        raise got("golden.inputs", f"rows {rows}", "as many in each")
    return feed


def _array(values: Any, kind: Any, field: str) -> np.ndarray[Any, Any]:
    try:
        return np.array(values, dtype=kind)
    except (ValueError, TypeError, OverflowError) as error:
        raise got(field, f"values that do not fit ({str(error)[:100]})", f"nested lists of {kind.__name__}") from error


def zeros(loaded: Loaded) -> dict[str, np.ndarray[Any, Any]]:
    """One row of zeros, for a version without golden rows: it must at least run."""
    shapes = {each.name: [1 if size < 0 else size for size in each.shape] for each in loaded.inputs}
    return {
        each.name: np.full(shapes[each.name], "", object)
        if each.datatype == "BYTES"
        else np.zeros(shapes[each.name], DTYPES[each.datatype])
        for each in loaded.inputs
    }


def compare(golden: Golden, found: dict[str, Any]) -> float:
    """The largest difference of a number; `Failed` names the output and the row that is worst."""
    if not golden.outputs:
        raise got("golden.outputs", "none", f"some of {', '.join(found)}")
    largest = 0.0
    for name, expected in golden.outputs.items():
        if name not in found:
            raise missing("golden.outputs", name, found)
        answer = found[name]
        field = f"golden.outputs.{name}"
        number = answer.dtype.kind == "f"
        wanted = _array(expected, np.float64 if number else np.object_, field)
        if wanted.size != answer.size:
            raise got(f"{field}.shape", list(wanted.shape), f"what the model answers, {list(answer.shape)}")
        wanted = wanted.reshape(answer.shape)
        if number:
            largest = max(largest, _largest(name, answer, wanted, golden.tolerance))
            continue
        same = [str(one) == str(other) for one, other in zip(answer.ravel(), wanted.ravel(), strict=True)]
        if not all(same):
            row = same.index(False) * len(answer) // len(same) if answer.ndim else 0
            raise Failed(f"row {row} of {name}: got another answer than the golden one", field="golden")
    return largest


def _largest(name: str, answer: Any, wanted: Any, tolerance: float) -> float:
    # a golden NaN (a null in JSON) says nothing of that value
    difference = np.where(np.isnan(wanted), 0.0, np.abs(answer.astype(np.float64) - wanted))
    worst = float(np.nanmax(difference)) if np.isfinite(difference).any() else 0.0
    if not np.isfinite(answer).all() or worst > tolerance:
        by_row = np.nan_to_num(difference, nan=np.inf).reshape(len(answer) if answer.ndim else 1, -1).max(axis=1)
        row = int(np.argmax(by_row))
        raise Failed(
            f"row {row} of {name}: got a difference of {by_row[row]:.3g}, expected at most {tolerance:g}",
            field="golden",
        )
    return worst


def _p50(once: Callable[[], Any]) -> float:
    """Milliseconds of one row: the median of up to `ROUNDS` runs, fewer of a slow model."""
    times: list[float] = []
    deadline = time.perf_counter() + TIMED_FOR
    while len(times) < ROUNDS and (not times or time.perf_counter() < deadline):
        began = time.perf_counter()
        once()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2] * 1000
