"""Compression: a smaller child of a version, measured against its parent on this machine."""

from __future__ import annotations

from typing import ClassVar, Literal

from quarterstore.records.base import Act, Event, Query, Record, Role
from quarterstore.records.jobs import Job
from quarterstore.records.registry import Metric, Signature

Recipe = Literal["int8"]


class Measured(Record, frozen=True):
    """A child beside its parent: bytes, P50 in milliseconds and rows per second (interleaved, warm, one thread),
    and the metric with the interval of the paired difference."""

    size_before: int
    size_after: int
    p50_before: float
    p50_after: float
    p95_before: float
    p95_after: float
    throughput_before: float
    throughput_after: float
    metric: str
    metric_before: float
    metric_after: float
    difference: float
    difference_low: float
    difference_high: float
    agreement: float
    rows: int
    rounds: int


class Optimisation(Record, frozen=True):
    """What a recipe made of a version here; `recommended` is false with the reason in `words` (`NOT FASTER HERE`)."""

    id: str
    parent: str
    child: str | None
    recipe: Recipe
    at: float
    measured: Measured
    recommended: bool
    words: str
    job: str | None = None


class Optimise(Act[Job], tag="compression.optimise", frozen=True):
    """Make an int8 child of a version in a job, measure both, register the child with its parent link."""

    version: str
    recipe: Recipe = "int8"


class RecordOptimisation(Act[Optimisation], tag="compression.record", frozen=True):
    """Keep what an optimisation job measured, with the child it registered."""

    role: ClassVar[Role] = "daemon"
    job: str
    parent: str
    child: str | None
    recipe: Recipe
    measured: Measured
    recommended: bool
    words: str


class ListOptimisations(Query[list[Optimisation]], tag="compression.list", frozen=True):
    """What was tried, newest first; of one version when named."""

    version: str | None = None


class OptimisationMeasured(Event, tag="compression.measured", frozen=True):
    """A child was made and measured."""

    optimisation: Optimisation


class OptimiseSpec(Record, frozen=True):
    """What an optimisation job is given: the parent's file and its golden rows with labels, as local paths."""

    version: str
    recipe: Recipe
    model: str
    golden: str
    signature: Signature


class OptimiseResult(Record, frozen=True):
    """What an optimisation job answers: the child's file and golden rows inside the job's folder, and the figures."""

    model: str
    golden: str
    signature: Signature
    metrics: tuple[Metric, ...]
    measured: Measured
    recommended: bool
    words: str
