"""The key of a step: a hash of its code, its inputs and its params, so that the same key means the same outputs."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

import quarterdeckd
import quarterstore.records
from quarterdeckd.pipeline import own_process
from quarterstore.records import flows
from quarterstore.records.evaluations import Against
from quarterstore.records.features import JoinSpec
from quarterstore.records.pipelines import Definition, StepSection
from quarterstore.records.training import named_code
from quarterstore.records.training_sets import said

OURS = ("pipeline", "learning", "measures", "features", "compression")
"""Floors whose source decides what our own steps do."""
LIBRARIES = ("numpy", "polars", "duckdb", "scikit-learn", "torch", "onnx", "onnxruntime", "skl2onnx", "optuna")


def key(
    definition: Definition,
    step: StepSection,
    data: str | None,
    sources: Mapping[str, str],
    inputs: Any,
    against: Against | None = None,
    join: JoinSpec | None = None,
) -> str:
    """SHA-256 of what the outputs of a step depend on. `sources` and `inputs` are paths or places -> SHA-256, `against`
    is the champion, `join` the views with the hashes of their rows, however these lie. A step that asks how old its
    rows are has another key each time."""
    laid = flows.effective(definition, step)
    fields = flows.KINDS[step.uses].depends if step.uses else ()
    trained = named_code(laid.train)
    theirs = {"train": trained, "tune": trained, "validate": laid.validate.pandera}
    own = step.uses is None or theirs.get(step.uses) is not None
    interpreter = laid.train.interpreter if step.uses == "train" else step.interpreter
    ages = step.uses == "validate" and any(check.check == "freshness" for check in laid.validate.checks)
    what = (
        flows.kind_of(step),
        step.run,
        step.command,
        interpreter,
        step.params if step.uses is None else {},
        {field: msgspec.to_builtins(getattr(laid, field)) for field in fields},
        data,
        dict(inputs),
        dict(sources) if own else {},
        msgspec.to_builtins(against),
        *((msgspec.to_builtins(said(join)),) if join else ()),
        time.time_ns() if ages else 0,
        _ours() if step.uses else "",
        _environment(),
        own_process.about(interpreter) if interpreter else None,
    )
    return hashlib.sha256(msgspec.msgpack.encode(what, order="deterministic")).hexdigest()


@functools.cache
def _ours() -> str:
    """SHA-256 of our own source."""
    hasher = hashlib.sha256()
    roots = [Path(quarterdeckd.__file__).parent / floor for floor in OURS]
    for root in (*roots, Path(quarterstore.records.__file__).parent):
        for path in sorted(root.rglob("*.py")):
            hasher.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()


@functools.cache
def _environment() -> tuple[str, ...]:
    """The interpreter and the versions of what computes."""
    found = [sys.version.partition(" ")[0]]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)
