"""How a pipeline's job ends well: what is to be registered, or the step that asks a person."""

from __future__ import annotations

from typing import Any

from quarterstore.records.base import Record
from quarterstore.records.pipelines import Step
from quarterstore.records.registry import Metric, Signature


class PipelineResult(Record, frozen=True):
    """What a pipeline job answers for the step `register`: hashes of files that its steps left."""

    model: str
    reference: str
    golden: str | None
    """None of a model that nobody here can ask: safetensors, skops that ONNX cannot hold."""
    format: str
    signature: Signature
    metrics: tuple[Metric, ...]
    params: dict[str, Any]
    dataset: str
    """SHA-256 of the rows that were used."""
    rows: int
    parity: float
    """Largest absolute difference between the trained model and the exported file."""
    device: str
    framework: str
    size: int = 0
    rejected: str = ""
    """Why the version must not go anywhere: it is worse than the champion; it is registered with that."""
    leak: str = ""
    """What is on both sides of the split, and why it may be; kept as the tag `leak` of the run and of the version."""
    warnings: tuple[str, ...] = ()
    """Signs that a feature knows the target; kept as the tag `warning` of the run and of the version."""
    python: str | None = None
    """Version of the Python that a person's code ran in, where that is an environment of its own."""
    interpreter: str | None = None
    packages: tuple[str, ...] = ()
    """What was installed there, `name==version`."""


class PipelineOutcome(Record, frozen=True):
    """How a pipeline job ended well: with what is to be registered, with a step that asks a person, or with neither."""

    result: PipelineResult | None = None
    asks: Step | None = None
