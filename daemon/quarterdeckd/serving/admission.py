"""Admission: a version has to load and give its golden answers in a throw-away process before a host may hold it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from quarterdeckd.serving.session import DTYPES, Loaded
from quarterstore.records.deployments import AdmissionResult, AdmissionSpec, Golden
from quarterstore.records.faults import Failed, got

ROUNDS = 50


def run(spec: AdmissionSpec, report: Any) -> AdmissionResult:
    """Load the file, answer the golden rows, compare, time one row; raises a fault that says what differs."""
    loaded = Loaded(Path(spec.model), spec.digest, spec.signature)
    _same_signature(spec, loaded)
    golden = msgspec.json.decode(Path(spec.golden).read_bytes(), type=Golden) if spec.golden else None
    feed = _feed(golden, loaded) if golden else _zeros(loaded)
    try:
        found = dict(zip(loaded.names, loaded.run(feed), strict=True))
    except Exception as error:
        raise Failed(
            f"the model raised an error on its golden rows ({' '.join(str(error).split())[:200]})", field="golden"
        ) from error
    largest = _compare(golden, found) if golden else 0.0
    one = {name: array[:1] for name, array in feed.items()}
    rows = len(next(iter(feed.values())))
    return AdmissionResult(rows=rows if golden else 0, largest_difference=largest, p50=_p50(lambda: loaded.run(one)))


def _same_signature(spec: AdmissionSpec, loaded: Loaded) -> None:
    for side, declared, real in (
        ("inputs", spec.signature.inputs, loaded.inputs),
        ("outputs", spec.signature.outputs, loaded.outputs),
    ):
        wanted = {each.name: each.datatype for each in declared}
        there = {each.name: each.datatype for each in real}
        if wanted != there:
            raise got(f"signature.{side}", wanted, f"what the file has, {there}")


def _feed(golden: Golden, loaded: Loaded) -> dict[str, np.ndarray[Any, Any]]:
    return {each.name: np.array(golden.inputs[each.name], dtype=DTYPES[each.datatype]) for each in loaded.inputs}


def _zeros(loaded: Loaded) -> dict[str, np.ndarray[Any, Any]]:
    """One row of zeros, for a version without golden rows: it must at least run."""
    shapes = {each.name: [1 if size < 0 else size for size in each.shape] for each in loaded.inputs}
    return {
        each.name: np.full(shapes[each.name], "", object)
        if each.datatype == "BYTES"
        else np.zeros(shapes[each.name], DTYPES[each.datatype])
        for each in loaded.inputs
    }


def _compare(golden: Golden, found: dict[str, Any]) -> float:
    largest = 0.0
    for name, expected in golden.outputs.items():
        if name not in found:
            raise got("golden.outputs", name, f"one of {', '.join(found)}")
        answer = found[name]
        if answer.dtype.kind == "f":
            wanted = np.array(expected, dtype=np.float64)
            difference = np.abs(answer.astype(np.float64) - wanted.reshape(answer.shape))
            worst = float(np.nanmax(difference)) if difference.size else 0.0
            if not np.isfinite(answer).all() or worst > golden.tolerance:
                row = int(np.argmax(np.nan_to_num(difference, nan=np.inf).reshape(len(answer), -1).max(axis=1)))
                raise Failed(
                    f"row {row} of {name}: got a difference of {worst:.3g}, expected at most {golden.tolerance:g}",
                    field="golden",
                )
            largest = max(largest, worst)
        elif [str(value) for value in answer.ravel().tolist()] != [
            str(value) for value in np.array(expected, dtype=object).ravel().tolist()
        ]:
            raise Failed(f"{name}: got other answers than the golden ones", field="golden")
    return largest


def _p50(once: Callable[[], Any]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        once()
        times.append(time.perf_counter() - began)
    return sorted(times)[ROUNDS // 2] * 1000
