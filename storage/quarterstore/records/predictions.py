"""Predictions: what was asked of a model and what it answered, as far as the recording rule keeps it."""

from __future__ import annotations

from typing import Any

import msgspec

from quarterstore.records.base import Query, Record


class Prediction(Record, frozen=True):
    """One recorded request: the values it kept by feature, the answer, and which version gave it under which routes."""

    id: str
    at: float
    endpoint: str
    version: str
    role: str
    epoch: int
    status: int
    latency: float
    """Milliseconds in the host."""
    inputs: dict[str, Any] = msgspec.field(default_factory=dict)
    output: Any = None
    rows: int = 1
    error: str | None = None


class PredictionCount(Record, frozen=True):
    """How many predictions an endpoint has kept, by version, and how many were counted but not kept."""

    endpoint: str
    versions: dict[str, int]
    dropped: int = 0


class ListPredictions(Query[list[Prediction]], tag="predictions.list", frozen=True):
    """The newest recorded predictions of an endpoint."""

    endpoint: str
    limit: int = 20
    version: str | None = None


class ShowPrediction(Query[Prediction], tag="predictions.show", frozen=True):
    """One recorded prediction by the id its answer carried."""

    prediction: str


class CountPredictions(Query[PredictionCount], tag="predictions.count", frozen=True):
    """How many predictions of an endpoint are kept, by version."""

    endpoint: str
