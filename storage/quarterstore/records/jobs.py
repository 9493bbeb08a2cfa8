"""Jobs: work in a child process, followed from the outside and never lost sight of."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from quarterstore.records.base import Act, Event, Pulse, Query, Record, Role

JobState = Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "LOST"]
JobKind = Literal[
    "pipeline",
    "drift",
    "optimise",
    "admission",
    "convert",
    "batch",
    "stream",
    "feature_rows",
    "training_set",
    "materialise",
    "compaction",
    "forgetting",
    "feature_stats",
    "feature_parity",
    "replay",
    "drill",
    "study",
]


class Limits(Record, frozen=True):
    """What a job may use; exceeding one ends the whole process group and says which."""

    seconds: float = 3600.0
    """How long, by the clock."""
    memory: int = 8 * 1024**3
    """Bytes, of all that it started."""
    disk: int = 4 * 1024**3
    """Bytes that it may write in its folder."""


class Job(Record, frozen=True):
    """One piece of work; `spec` is what its kind needs, `result` what it answered."""

    id: str
    kind: JobKind
    subject: str
    state: JobState
    created: float
    actor: str
    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    limits: Limits = Limits()
    started: float | None = None
    ended: float | None = None
    pid: int | None = None
    born: int | None = None
    """Start time of the process in clock ticks since boot, so that a reused pid is not taken for it."""
    result: dict[str, Any] | None = None
    error: str | None = None
    cause: str | None = None
    """What asked for it: a person, a schedule, a reaction."""


class CancelJob(Act[Job], tag="jobs.cancel", frozen=True):
    """End a job: its whole process group is stopped."""

    job: str
    reason: str = ""


class BeginJob(Act[Job], tag="jobs.begin", frozen=True):
    """Say that a job's process runs; spoken by the supervisor."""

    role: ClassVar[Role] = "daemon"
    job: str
    pid: int
    born: int


class EndJob(Act[Job], tag="jobs.end", frozen=True):
    """Say how a job ended; spoken by the supervisor from the result file. What a success leads to (a version is
    registered, a drift is recorded) happens in the same entry."""

    role: ClassVar[Role] = "daemon"
    job: str
    state: JobState
    result: dict[str, Any] | None = None
    error: str | None = None
    metrics: dict[str, float] = {}
    """The last value of each metric of the job's run."""


class ListJobs(Query[list[Job]], tag="jobs.list", frozen=True):
    """Jobs, newest first; `live` leaves out those that ended."""

    live: bool = False
    kind: JobKind | None = None
    limit: int = 100


class ShowJob(Query[Job], tag="jobs.show", frozen=True):
    """One job."""

    job: str


class JobLog(Query[list[str]], tag="jobs.log", frozen=True):
    """The last lines a job wrote."""

    job: str
    lines: int = 100


class JobQueued(Event, tag="jobs.queued", frozen=True):
    """A job waits for its process."""

    job: Job


class JobBegan(Event, tag="jobs.began", frozen=True):
    """A job's process runs."""

    job: str
    pid: int
    born: int
    at: float


class JobEnded(Event, tag="jobs.ended", frozen=True):
    """A job is over."""

    job: str
    state: JobState
    at: float
    result: dict[str, Any] | None = None
    error: str | None = None


class Progress(Pulse, tag="jobs.progress", frozen=True):
    """How far a job is: the step, a fraction from 0 to 1 when it can be told, and words."""

    job: str
    step: str
    fraction: float | None = None
    words: str = ""


class JobSpec(Record, frozen=True):
    """`spec.json` in a job's folder: what the worker is asked to do; `spec` is the record its kind names."""

    job: str
    kind: JobKind
    spec: dict[str, Any]
    limits: Limits = Limits()


class JobResult(Record, frozen=True):
    """`result.json` in a job's folder, written under another name and renamed: exactly one of `result` and `error`."""

    ok: bool
    result: dict[str, Any] | None = None
    error: str | None = None
    lost: bool = False
    """Whether nobody knows why: a part of it died without a word."""


class Line(Record, frozen=True):
    """One line of `progress.jsonl` in a job's folder: `kind` step (a `pipelines.Step` in `step`), progress (`name`,
    `fraction`, `words`) or point (one value of a metric: `name`, `number`, `value` as text where it is not finite)."""

    kind: Literal["step", "progress", "point"]
    at: float
    name: str = ""
    step: dict[str, Any] | None = None
    fraction: float | None = None
    words: str = ""
    number: int = 0
    value: float | str | None = None
