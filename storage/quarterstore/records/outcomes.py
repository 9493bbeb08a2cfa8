"""Outcomes: what became of a prediction, joined to it later: its true label, or a number such as revenue."""

from __future__ import annotations

from typing import ClassVar, Literal

from quarterstore.records.base import Act, Blob, Event, Query, Record, Role

LABEL = "label"
"""The metric of true labels; every other metric holds numbers."""
WINDOW = 30 * 86400.0
"""Seconds after its prediction by which an outcome is late, unless an upload says otherwise."""


Unit = Literal["answer", "dealt", "caller"]
"""What one outcome is of: an answer; an answer whose version was dealt, not named by who asked; or a caller whose
version was dealt: then its value is the mean of what came of its answers, since they are no independent draws."""


class ArmOutcome(Record, frozen=True):
    """What came of the answers of one version: over `n` of them with a value in time, its `mean` and `m2` (the sum of
    squared deviations from it), `successes` (values above 0), and how many have a `late` value only. Of labels a value
    is 1 where the prediction was right, else 0."""

    version: str
    n: int
    mean: float
    m2: float
    successes: int
    late: int


class OutcomeUpload(Record, frozen=True):
    """One file of outcomes as it was taken: its SHA-256, who sent it, and what its rows were.

    `joined` rows are the first value of their prediction, `late` ones came after `window` seconds, `unknown` ones name
    no kept prediction, `duplicate` ones say what was said before, `conflicting` ones say otherwise: both are kept, and
    the one of the latest time holds (at equal times that of the later upload, within one that of the later line)."""

    id: str
    at: float
    by: str
    digest: str
    metric: str
    window: float
    rows: int
    joined: int
    late: int
    unknown: int
    duplicate: int
    conflicting: int
    endpoints: tuple[str, ...] = ()
    """Where the predictions were answered."""


class OutcomeValue(Record, frozen=True):
    """One value that was given for a row of a prediction: `at` is when it was so, or when it came."""

    prediction: str
    row: int
    version: str
    metric: str
    value: str
    at: float
    late: bool
    upload: str
    holds: bool = False
    """Whether it is the one that counts."""


class OutcomeSummary(Record, frozen=True):
    """What is known of an endpoint's answers, by version: the outcomes, and how many rows were answered."""

    endpoint: str
    metric: str
    arms: dict[str, ArmOutcome]
    answered: dict[str, int]


class AddOutcomes(Blob[OutcomeUpload], tag="outcomes.add", frozen=True):
    """Join an uploaded file of outcomes to the predictions: columns `id` (with `row` where a request had several) or
    `key` (with `endpoint`: the last answer to that key), `value`, and `time` unless it is now. Bad rows refuse all."""

    digest: str
    format: Literal["csv", "parquet"] = "csv"
    metric: str = LABEL
    endpoint: str | None = None
    window: float = WINDOW


class NoteUpload(Act[OutcomeUpload], tag="outcomes.note", frozen=True):
    """Say that a file of outcomes was taken, with its counts; spoken by the daemon."""

    role: ClassVar[Role] = "daemon"
    upload: OutcomeUpload


class ListUploads(Query[list[OutcomeUpload]], tag="outcomes.uploads", frozen=True):
    """The last uploads of outcomes, newest first."""

    limit: int = 20


class ShowOutcomes(Query[OutcomeSummary], tag="outcomes.show", frozen=True):
    """What is known of an endpoint's answers by version, from a routing epoch on; of labels that is the accuracy."""

    endpoint: str
    metric: str = LABEL
    since_epoch: int = 0


class ListValues(Query[list[OutcomeValue]], tag="outcomes.history", frozen=True):
    """Every value that was given for one prediction, oldest first, and which one holds."""

    prediction: str
    metric: str = LABEL


class OutcomesAdded(Event, tag="outcomes.added", frozen=True):
    """A file of outcomes was joined to the predictions."""

    upload: OutcomeUpload


class JoinSpec(Record, frozen=True):
    """What a join is given: the file, the recorded predictions and the outcomes of its metric so far, as local Parquet
    files; `salt` hashes keys; `target` is where the rows that are kept go."""

    file: str
    format: Literal["csv", "parquet"]
    metric: str
    endpoint: str | None
    salt: str
    window: float
    now: float
    upload: str
    predictions: tuple[str, ...]
    history: tuple[str, ...]
    target: str


class Joined(Record, frozen=True):
    """What the rows of a file were; see `OutcomeUpload`. `kept` rows are new."""

    rows: int = 0
    joined: int = 0
    late: int = 0
    unknown: int = 0
    duplicate: int = 0
    conflicting: int = 0
    kept: int = 0
    endpoints: tuple[str, ...] = ()
