"""What a convert job is given, and what it made."""

from __future__ import annotations

from quarterstore.records.base import Record
from quarterstore.records.registry import Metric, Signature


class ConvertSpec(Record, frozen=True):
    """What a convert job is given; `model` and `golden` are hashes in the journal and paths in the job's folder."""

    version: str
    model: str
    digest: str
    golden: str
    signature: Signature
    code: tuple[str, ...] = ()


class ConvertResult(Record, frozen=True):
    """What a convert job made: the largest difference to the estimator is `parity`."""

    model: str
    golden: str
    signature: Signature
    metrics: tuple[Metric, ...]
    parity: float
    words: str
    size: int = 0
