"""Batches: a version run over a file of rows in a job, the answers in a Parquet file."""

from __future__ import annotations

from typing import ClassVar, Literal

from quarterstore.records.base import Act, Record, Role
from quarterstore.records.jobs import Job
from quarterstore.records.online import Needed
from quarterstore.records.registry import Signature


class BatchSpec(Record, frozen=True):
    """What a batch job is given: the model's file and the rows as local paths, the columns of the rows that are kept
    beside the answers, rows a chunk, and the key under which its finished chunks outlive its process."""

    version: str
    model: str
    digest: str
    data: str
    format: Literal["csv", "parquet"]
    signature: Signature
    keep: tuple[str, ...]
    chunk: int
    key: str
    work: str = ""
    """The folder of its chunks; set when the job starts."""
    views: tuple[Needed, ...] = ()
    """What the version needs of views: a batch takes the values, not the keys."""


class BatchResult(Record, frozen=True):
    """What a batch job answers: the file of answers, its rows, the rows with an answer that is not finite, the chunks
    that an earlier attempt had finished, and seconds."""

    output: str
    rows: int
    not_finite: int
    resumed: int
    seconds: float


class StartBatch(Act[Job], tag="batches.start", frozen=True):
    """Run a version over an uploaded file of rows (CSV or Parquet) in a job; the answers are a Parquet file with a row
    for each, in order. The same again is the same job while it runs and once it has succeeded; one that was lost goes
    on with the chunks that are finished."""

    role: ClassVar[Role] = "operator"
    version: str
    digest: str
    """The SHA-256 of the uploaded rows."""
    format: Literal["csv", "parquet"] = "parquet"
    keep: tuple[str, ...] = ()
    """Columns of the rows that stand beside the answers."""
    chunk: int = 131_072
