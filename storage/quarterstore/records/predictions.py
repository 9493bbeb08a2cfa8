"""Predictions: what was asked of a model and what it answered, as far as the recording rule keeps it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from quarterstore.records.base import Query, Record

COLUMNS = (
    "id",
    "row",
    "at",
    "endpoint",
    "version",
    "role",
    "epoch",
    "status",
    "latency",
    "prediction",
    "score",
    "error",
    "key_hash",
    "dealt",
    "propensity",
    "features_read",
)
"""What every recorded row has, whatever the model; its features are the columns beside these."""
PREFIX = "feature."


def column_of(feature: str) -> str:
    """The column a feature is recorded under: its name, behind `feature.` where that would be one of `COLUMNS`."""
    return PREFIX + feature if feature in COLUMNS or feature.startswith(PREFIX) else feature


def feature_of(column: str) -> str:
    """The feature a column beside `COLUMNS` holds: the reverse of `column_of`."""
    return column.removeprefix(PREFIX)


def hashed(salt: str, value: object) -> str:
    """A value as it is kept where it must not be read: salted SHA-256, 32 hex digits of it."""
    return hashlib.sha256(f"{salt}{value!r}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


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
    propensity: float = 1.0
    """The chance that this version had of answering it, as a rollout dealt."""
    features_read: dict[str, tuple[str | None, float | None]] = msgspec.field(default_factory=dict)
    """Of each view that was read by the caller's keys, as `usage@2`: the status and the age in seconds."""


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
    """How many predictions of an endpoint are kept, by version; with `since` (seconds of the epoch), those answered
    from then on."""

    endpoint: str
    since: float | None = None
