"""Runs: what was tried, with which parameters, and what came out."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from quarterstore.records.base import Act, Event, Pulse, Query, Record, Role, Sample

RunState = Literal["RUNNING", "FINISHED", "FAILED", "KILLED", "LOST"]
Value = str | int | float | bool | None


class Source(Record, frozen=True):
    """Where a run came from, taken without asking; `packages` is the hash of a list that `packages.show` tells,
    `inside` is `folder` as it lies in its repository."""

    command: str | None = None
    folder: str | None = None
    inside: str | None = None
    interpreter: str | None = None
    commit: str | None = None
    patch: str | None = None
    host: str | None = None
    python: str | None = None
    packages: str | None = None
    seed: int | None = None


class Artefact(Record, frozen=True):
    """A file of a run, by its path inside the run and the SHA-256 of its bytes; an image may have a step."""

    path: str
    digest: str
    size: int
    step: int | None = None


class DatasetInput(Record, frozen=True):
    """A dataset that a run used: its name and digest, where it came from, its schema and profile as texts."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""
    tags: dict[str, str] = msgspec.field(default_factory=dict)


class ModelOutput(Record, frozen=True):
    """A logged model that a run made, and at which step."""

    model: str
    step: int = 0


class Run(Record, frozen=True):
    """One run as it is read; `metrics` holds the last value of each (NaN and infinities as text in JSON)."""

    id: str
    experiment: str
    name: str
    state: RunState
    started: float
    actor: str
    ended: float | None = None
    heard: float | None = None
    params: dict[str, Value] = msgspec.field(default_factory=dict)
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    source: Source = Source()
    artefacts: tuple[Artefact, ...] = ()
    datasets: tuple[str, ...] = ()
    job: str | None = None
    parent: str | None = None
    error: str | None = None
    removed: float | None = None
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    notes: str = ""
    inputs: tuple[DatasetInput, ...] = ()
    models: tuple[str, ...] = ()
    """Logged models that the run used."""
    outputs: tuple[ModelOutput, ...] = ()
    beats: bool = True
    points_purged_at: float | None = None
    """When its points were purged by the limits of retention; the last values stay in `metrics`."""


class Curve(Record, frozen=True):
    """The history of one metric of one run, in order of arrival."""

    run: str
    key: str
    steps: list[int]
    times: list[float]
    values: list[float]


class RunPage(Record, frozen=True):
    """One page of runs and the cursor of the next, `None` at the end; `total` counts all that match. A search also says
    the cursor of the page before, `None` at the beginning."""

    runs: list[Run]
    total: int
    next: str | None = None
    previous: str | None = None


class Difference(Record, frozen=True):
    """One thing that differs between runs: where (`param`, `metric`, `held out` of the version that came of it,
    `source`, `dataset`), its name, a value per run."""

    where: str
    name: str
    values: tuple[Value, ...]


class Comparison(Record, frozen=True):
    """Several runs side by side; only what differs unless asked for all."""

    runs: tuple[str, ...]
    rows: tuple[Difference, ...]


class StartRun(Act[Run], tag="runs.start", frozen=True):
    """Open a run in an experiment (made when new); the asker may choose the id, so that a spooled run keeps its own."""

    experiment: str
    name: str = ""
    run: str | None = None
    params: dict[str, Value] = {}
    tags: dict[str, str] = {}
    source: Source = Source()
    datasets: tuple[str, ...] = ()
    parent: str | None = None
    started: float | None = None
    beats: bool = True
    """Whether its writer gives signs of life; one that does not is never LOST by silence."""


class EndRun(Act[Run], tag="runs.end", frozen=True):
    """Close a run as FINISHED, FAILED or KILLED."""

    run: str
    state: RunState = "FINISHED"
    error: str | None = None
    ended: float | None = None
    metrics: dict[str, float] = {}
    """Added by the daemon: the last value of each metric."""


class LoseRun(Act[Run], tag="runs.lose", frozen=True):
    """Say that a run has not been heard of for too long; spoken by the daemon's clock."""

    role: ClassVar[Role] = "daemon"
    run: str
    heard: float
    metrics: dict[str, float] = {}


class FindRun(Act[Run], tag="runs.find", frozen=True):
    """Say that a lost run spoke again; spoken by the daemon when it does."""

    role: ClassVar[Role] = "daemon"
    run: str


class LogParams(Act[Run], tag="runs.log_params", frozen=True):
    """Add parameters to a run; a parameter that is there already keeps its value, another value is a conflict."""

    run: str
    params: dict[str, Value]


class SetTags(Act[Run], tag="runs.set_tags", frozen=True):
    """Set tags of a run; a tag that is given no value (null) is removed. `before` says which values some tags have to
    have still (null: none), so that who reads, works out and writes loses nothing that came in between."""

    run: str
    tags: dict[str, str | None]
    before: dict[str, str | None] = {}


class LogArtefact(Act[Run], tag="runs.log_artefact", frozen=True):
    """Bind an uploaded file (see `store.put_blob`) to a run under a path."""

    run: str
    path: str
    digest: str
    size: int
    step: int | None = None


class RemoveArtefact(Act[Run], tag="runs.remove_artefact", frozen=True):
    """Take a file off a run: the path, or everything below it."""

    run: str
    path: str


class RenameRun(Act[Run], tag="runs.rename", frozen=True):
    """Give a run another name."""

    run: str
    name: str


class NoteRun(Act[Run], tag="runs.note", frozen=True):
    """Replace the notes of a run, a text of several lines."""

    run: str
    notes: str


class ResumeRun(Act[Run], tag="runs.resume", frozen=True):
    """Open a run again that was closed."""

    run: str


class LogInputs(Act[Run], tag="runs.log_inputs", frozen=True):
    """Say which datasets and logged models a run used; those that are known already are not added again."""

    run: str
    inputs: tuple[DatasetInput, ...] = ()
    models: tuple[str, ...] = ()


class LogOutputs(Act[Run], tag="runs.log_outputs", frozen=True):
    """Say which logged models a run made."""

    run: str
    models: tuple[ModelOutput, ...]


class RemoveRun(Act[Run], tag="runs.remove", frozen=True):
    """Take a run out of sight; `undo` brings it back; refused while a registered version came from it."""

    run: str


class RestoreRun(Act[Run], tag="runs.restore", frozen=True):
    """Bring a removed run back, with metrics and artefacts."""

    run: str


class Logged(Record, frozen=True):
    """How many points were taken, and how durable they are: `written` survives kill -9, `synced` power loss too."""

    points: int
    durability: Literal["written", "synced"]


class LogMetrics(Sample[Logged], tag="runs.log_metrics", frozen=True):
    """Points of one run in columns: `keys` names the metrics, `key` indexes it (uint16), `step` int64, `time` and
    `value` float64, each little-endian and equally long; `batch` makes a resent batch count once."""

    run: str
    batch: str
    keys: tuple[str, ...]
    key: bytes
    step: bytes
    time: bytes
    value: bytes
    durable: bool = False


class Beat(Sample[None], tag="runs.beat", frozen=True):
    """A run says that it is alive."""

    run: str


class ListRuns(Query[RunPage], tag="runs.list", frozen=True):
    """A page of runs: filtered by experiment, state and a text in id, name or experiment; `sort` is a field or
    `metrics.NAME` / `params.NAME`, `-` before it for descending; NaN and missing come last either way."""

    experiment: str | None = None
    state: RunState | None = None
    text: str = ""
    sort: str = "-started"
    limit: int = 50
    after: str | None = None
    removed: bool = False


class ShowRun(Query[Run], tag="runs.show", frozen=True):
    """One run by id, or by a start of it that no other has."""

    run: str


class MetricHistory(Query[list[Curve]], tag="runs.history", frozen=True):
    """Curves of one run; all keys unless named; thinned to at most `points` a curve, first and last kept; 0 gives
    every point."""

    run: str
    keys: tuple[str, ...] = ()
    points: int = 1000


class CompareRuns(Query[Comparison], tag="runs.compare", frozen=True):
    """Params, metrics, source and datasets of up to 200 runs side by side."""

    runs: tuple[str, ...]
    all: bool = False


class RunStarted(Event, tag="runs.started", frozen=True):
    """A run is open."""

    run: Run


class RunEnded(Event, tag="runs.ended", frozen=True):
    """A run is closed, by itself or as LOST."""

    run: str
    state: RunState
    at: float
    error: str | None = None
    metrics: dict[str, float] = {}


class RunHeard(Event, tag="runs.heard", frozen=True):
    """A lost run spoke again and is RUNNING."""

    run: str
    at: float


class ParamsLogged(Event, tag="runs.params_logged", frozen=True):
    """Parameters were added."""

    run: str
    params: dict[str, Value]


class TagsSet(Event, tag="runs.tags_set", frozen=True):
    """Tags were set or removed."""

    run: str
    tags: dict[str, str | None]


class ArtefactLogged(Event, tag="runs.artefact_logged", frozen=True):
    """A file was bound to a run."""

    run: str
    artefact: Artefact


class ArtefactRemoved(Event, tag="runs.artefact_removed", frozen=True):
    """A file, or those below a path, was taken off a run."""

    run: str
    path: str


class RunRenamed(Event, tag="runs.renamed", frozen=True):
    """A run has another name."""

    run: str
    name: str


class RunNoted(Event, tag="runs.noted", frozen=True):
    """A run has other notes."""

    run: str
    notes: str


class InputsLogged(Event, tag="runs.inputs_logged", frozen=True):
    """Datasets and logged models that a run used."""

    run: str
    inputs: tuple[DatasetInput, ...]
    models: tuple[str, ...] = ()


class EnvironmentNoted(Event, tag="runs.environment_noted", frozen=True):
    """Where the code of a run ran, known when it was over: the interpreter, its version, its packages by their hash."""

    run: str
    interpreter: str | None = None
    python: str | None = None
    packages: str | None = None


class OutputsLogged(Event, tag="runs.outputs_logged", frozen=True):
    """Logged models that a run made."""

    run: str
    models: tuple[ModelOutput, ...]


class RunRemoved(Event, tag="runs.removed", frozen=True):
    """A run is out of sight."""

    run: str
    at: float


class RunRestored(Event, tag="runs.restored", frozen=True):
    """A run is in sight again."""

    run: str


class CurvePoint(Pulse, tag="runs.curve_point", frozen=True):
    """The newest points of a run, thinned: name -> (step, value)."""

    run: str
    points: dict[str, tuple[int, float]]
