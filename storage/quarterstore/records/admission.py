"""Admission: what a version has to answer before a host may hold it."""

from __future__ import annotations

from typing import Any

from quarterstore.records.base import Record
from quarterstore.records.registry import Signature


class AdmissionSpec(Record, frozen=True):
    """What an admission job is given: a version's file and golden rows, as local paths."""

    endpoint: str
    version: str
    model: str
    digest: str
    golden: str | None
    signature: Signature


class AdmissionResult(Record, frozen=True):
    """What an admission job answers: how many golden rows were given again, the largest difference, P50 in ms."""

    rows: int
    largest_difference: float
    p50: float


class Golden(Record, frozen=True):
    """A version's golden rows: input and output tensors by name, as nested lists (64 to 1,000 rows held out from
    training; float64 numbers in JSON), and the true labels where they are known."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    labels: list[Any] | None = None
    tolerance: float = 1e-4
