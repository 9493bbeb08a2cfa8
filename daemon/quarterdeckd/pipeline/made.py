"""From the files that the steps left to what the step `register` registers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from quarterdeckd.pipeline.step import At
from quarterstore.records.base import Record
from quarterstore.records.pipeline_results import PipelineResult
from quarterstore.records.pipelines import Step
from quarterstore.records.registry import Metric, Signature


class Made(Record, frozen=True):
    """`made.json`, beside `model.onnx`: what the model is."""

    signature: Signature
    params: dict[str, Any]
    parity: float
    device: str
    framework: str
    format: str = "onnx"
    """The file is `model.FORMAT`; only ONNX has golden rows beside it."""
    interpreter: str | None = None
    python: str | None = None
    packages: tuple[str, ...] = ()


class Measured(Record, frozen=True):
    """`metrics.json`: how good the model is on rows it never saw."""

    metrics: tuple[Metric, ...]


class _Rows(Record, frozen=True):
    """What is read of `rows.json` here."""

    digest: str
    table: _Table


class _Table(Record, frozen=True):
    rows: int


def result(at: At, digests: Mapping[str, str], steps: tuple[Step, ...]) -> PipelineResult:
    """What is registered, from the nearest files before the step `register`; `digests` are those of its inputs."""

    def digest(name: str) -> str:
        path = at.file(name)
        return next(digests[place] for place, found in at.inputs.items() if found == path)

    made = msgspec.json.decode(at.file("made.json").read_bytes(), type=Made)
    measured = msgspec.json.decode(at.file("metrics.json").read_bytes(), type=Measured)
    rows = _rows(at)
    return PipelineResult(
        model=digest(f"model.{made.format}"),
        reference=digest("reference.parquet"),
        golden=digest("golden.json") if made.format == "onnx" else None,
        format=made.format,
        signature=made.signature,
        metrics=measured.metrics,
        params=made.params,
        dataset=rows.digest,
        rows=rows.table.rows,
        parity=made.parity,
        device=made.device,
        framework=made.framework,
        size=at.file(f"model.{made.format}").stat().st_size,
        interpreter=made.interpreter,
        python=made.python,
        packages=made.packages,
        rejected=next((step.figures["rejected"] for step in steps if "rejected" in step.figures), ""),
        leak=next((step.figures["leak"] for step in steps if "leak" in step.figures), ""),
        warnings=tuple(one for step in steps for one in step.figures.get("warnings", ())),
    )


def _rows(at: At) -> _Rows:
    path: Path = at.file("rows.json")
    return msgspec.json.decode(path.read_bytes(), type=_Rows)
