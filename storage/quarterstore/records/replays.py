"""Replays: recorded traffic answered again by another version, and how its answers differ from what was answered."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from quarterstore.records.base import Act, Event, Query, Record, Role
from quarterstore.records.jobs import Job
from quarterstore.records.registry import Signature
from quarterstore.records.trials import Slice

DAY = 86_400.0


class Answered(Record, frozen=True):
    """The rows that one version answered when they were recorded, and how many the candidate answers the same, with the
    95 % Wilson interval of that share."""

    version: str
    rows: int
    agreed: int
    rate: float
    low: float
    high: float


class Difference(Record, frozen=True):
    """One row that the candidate answers otherwise; what was asked is not copied, `qd predictions show` has it."""

    prediction: str
    row: int
    at: float
    recorded: str | None
    candidate: str | None
    recorded_score: float | None
    candidate_score: float | None


class Flip(Record, frozen=True):
    """Rows that were answered with one class and are now answered with another."""

    recorded: str | None
    candidate: str | None
    rows: int


class Scored(Record, frozen=True):
    """A metric over the `n` rows whose label is known, of what was answered and of the candidate, each with its 95 %
    interval (Wilson's of an accuracy, the normal one of a mean)."""

    metric: str
    n: int
    recorded: float
    recorded_low: float
    recorded_high: float
    candidate: float
    candidate_low: float
    candidate_high: float


class Timing(Record, frozen=True):
    """Milliseconds of one row: `recorded` as the hosts measured it with reading and writing, else of the run alone in
    the replay's process, both versions in turn over the same rows."""

    version: str
    recorded: bool
    rows: int
    p50: float
    p95: float


class Histogram(Record, frozen=True):
    """Rows by the difference of their scores (candidate less recorded) in bins of equal width from `-reach` to
    `reach`; the middle one holds no difference."""

    reach: float
    counts: tuple[int, ...]


class ReplayResult(Record, frozen=True):
    """What a replay found. `left_out` counts the rows that could not be answered again, by reason; `older` those of the
    window beyond the limit. `reproduced` of `checked` rows of the live version are answered by it as they were, which
    says whether what was recorded is what it was asked. `hash` is the SHA-256 of rows, candidate, question and
    everything found but times: the same input gives the same one."""

    rows: int
    agreed: int
    rate: float | None
    low: float | None
    high: float | None
    words: str
    hash: str
    older: int = 0
    left_out: dict[str, int] = msgspec.field(default_factory=dict)
    answered: tuple[Answered, ...] = ()
    psi: float | None = None
    """PSI of the candidate's answers against those recorded (see `measures.drift`)."""
    mean_difference: float | None = None
    largest_difference: float | None = None
    """Mean and largest absolute difference of the scores."""
    histogram: Histogram | None = None
    flips: tuple[Flip, ...] = ()
    scored: tuple[Scored, ...] = ()
    slices: tuple[Slice, ...] = ()
    differences: tuple[Difference, ...] = ()
    timings: tuple[Timing, ...] = ()
    checked: int = 0
    reproduced: int = 0


class Replay(Record, frozen=True):
    """Recorded traffic of a window (seconds of the epoch) against a candidate."""

    id: str
    endpoint: str
    version: str
    at: float
    since: float
    until: float
    limit: int
    tolerance: float
    found: ReplayResult
    job: str | None = None


class ReplaySpec(Record, frozen=True):
    """What a replay job is given. Files are local paths; `features` names what each version takes that may have
    answered; `live` is timed beside the candidate where its file is here."""

    endpoint: str
    version: str
    model: str
    digest: str
    signature: Signature
    since: float
    until: float
    limit: int
    tolerance: float
    top: int
    live: str = ""
    live_model: str = ""
    live_digest: str = ""
    live_signature: Signature | None = None
    predictions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    features: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)


class StartReplay(Act[Job], tag="replays.start", frozen=True):
    """Answer the recorded traffic of an endpoint (the model's name unless given) of the last `window` seconds again
    with a version, in a job: the newest `limit` rows. Numbers agree within the part `tolerance` of the larger one,
    labels when they are the same."""

    version: str
    endpoint: str | None = None
    window: float = DAY
    limit: int = 100_000
    tolerance: float = 0.01
    top: int = 20


class RecordReplay(Act[Replay], tag="replays.record", frozen=True):
    """Keep what a replay job found."""

    role: ClassVar[Role] = "daemon"
    job: str
    endpoint: str
    version: str
    since: float
    until: float
    limit: int
    tolerance: float
    found: ReplayResult


class ListReplays(Query[list[Replay]], tag="replays.list", frozen=True):
    """Replays, newest first; of one version or one endpoint when named."""

    version: str | None = None
    endpoint: str | None = None
    limit: int = 100


class ShowReplay(Query[Replay], tag="replays.show", frozen=True):
    """One replay."""

    replay: str


class TrafficReplayed(Event, tag="replays.replayed", frozen=True):
    """Recorded traffic was answered again by a version."""

    replay: Replay
