"""Pipelines: a definition as data, and what each run of it did step by step."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

import msgspec

from quarterstore.records.base import Act, Event, Query, Record, Role
from quarterstore.records.checks import ValidateSection
from quarterstore.records.evaluations import Against, EvaluateSection
from quarterstore.records.features import JoinSpec
from quarterstore.records.jobs import Limits
from quarterstore.records.moments import Moment
from quarterstore.records.spaces import TuneSection

StepState = Literal["WAITING", "RUNNING", "ASKING", "DONE", "FAILED", "LOST", "SKIPPED"]
"""WAITING for steps before it or for its next try, ASKING a person."""
RunState = Literal["QUEUED", "RUNNING", "WAITING", "SUCCEEDED", "FAILED", "CANCELLED", "LOST"]
"""WAITING for a person; no process waits with it."""
CACHED: Final = "cached (inputs unchanged)"
"""What a step says that did nothing, since all that it goes by is as it was."""


class DataSection(Record, frozen=True):
    """`[data]`: where the rows are and what they mean; `dataset` is a hash once it is uploaded, `builtin` a
    scikit-learn set (breast_cancer, digits, wine, iris, diabetes) that needs no file."""

    target: str = ""
    """The column to predict."""
    dataset: str | None = None
    """SHA-256 of rows that are kept already; `file` becomes it."""
    builtin: str | None = None
    """A set of scikit-learn, with no file."""
    file: str | None = None
    """CSV or Parquet, beside the definition or where the command is given."""
    time: str | None = None
    """The column that orders the rows; no feature."""
    group: str | None = None
    """The column of those whose rows stay together; no feature."""
    ignore: tuple[str, ...] = ()
    """Columns that are left out."""
    missing: tuple[str, ...] = ("", "?", "NA", "NaN")
    """Cells that mean nothing is known."""
    columns: dict[str, str] = {}
    """Column -> number, integer, text, boolean or time, where the guess of `records.tables` shall not hold."""
    features: tuple[str, ...] = ()
    """Views, or `view:feature`, that the step `features` joins the rows of the file (entities) to, as known at their
    `entity_time`."""
    entity_time: str = "event_time"
    """The column of the file that says when each row is asked for."""


class SplitSection(Record, frozen=True):
    """`[split]`: `by` random, time, group, or hash of `key` (else of the group, else of the whole row), under which a
    row stays on its side whatever rows come; `test` is the share held out. What is on both sides is refused, unless
    `allow_leak` says why it may be."""

    by: Literal["random", "time", "group", "hash"] = "random"
    """How rows are dealt to the two sides."""
    test: float = 0.25
    """The share that is held out, between 0 and 1."""
    seed: int = 7
    """Of random, what is drawn with."""
    key: tuple[str, ...] = ()
    """Of hash, the columns that are hashed."""
    allow_leak: str = ""
    """Why both sides may share something; kept as a tag of the run and of the version."""


class TrainSection(Record, frozen=True):
    """`[train]`: a built-in learner (mlp, logistic, forest, ridge, boosting), `python = "train.py:train"` inside our
    worker, or code in an environment of its own: `run = "train.py:train"` by `interpreter`, or a `command`."""

    learner: str = "logistic"
    """Our own: mlp, logistic, forest, ridge or boosting."""
    python: str | None = None
    """`FILE.py:FUNCTION`, run inside our worker."""
    run: str | None = None
    """`FILE.py:FUNCTION`, run by `interpreter`."""
    command: tuple[str, ...] = ()
    """Words, never a shell's text; `{rows}` and its like in them are places (`training.PLACES`)."""
    interpreter: str | None = None
    """The Python of an environment that has none of our packages, by its absolute path."""
    code: str | None = None
    """The folder that is taken along, as it lies beside the definition; the run's own is there."""
    params: dict[str, Any] = {}
    """Parameters of the learner, or of your own code."""
    seed: int = 7
    """What is drawn with."""


class GateSection(Record, frozen=True):
    """`[gate]`: limits such as `accuracy = 0.9`; `set = true` also makes them the model's gate."""

    limits: dict[str, float] = {}
    """Metric -> the value that it has to reach, or stay below where lower is better."""
    set: bool = False
    """Also keep the limits as the gate of the model."""


class DeploySection(Record, frozen=True):
    """`[deploy]`: what happens to a version that passed: `none`, `staging` or `canary` on an endpoint."""

    then: Literal["none", "staging", "canary"] = "none"
    """Where a version that passed goes."""
    endpoint: str | None = None
    """Of a canary; the model's name unless given."""


class StepSection(Record, frozen=True):
    """`[[steps]]`: one step of a DAG. What it does is a kind of ours (`uses`), a function of the user's file (`run`, as
    `steps.py:clean`) or a program (`command`), exactly one of them; `after` names the steps it needs."""

    name: str
    """What other steps call it."""
    uses: str | None = None
    """A kind of ours."""
    run: str | None = None
    """`FILE.py:FUNCTION` of a file beside the definition."""
    command: tuple[str, ...] = ()
    """A program and its words, without a shell."""
    interpreter: str | None = None
    """The Python that `run` is called by, where that is not ours; whose programs a `command` finds first."""
    after: tuple[str, ...] = ()
    """Steps that have to be done before it."""
    retries: int = 0
    """How often it is tried again, up to 20 times."""
    backoff: float = 1.0
    """Seconds before the first retry; twice as many before each one more, half to one and a half times by chance."""
    limits: Limits = Limits()
    """What it may use before it is ended."""
    params: dict[str, Any] = {}
    """Laid over the section of its kind, or given to your own code."""


class Definition(Record, frozen=True):
    """A pipeline as it is written in TOML: sections that stand for the usual steps, or `[[steps]]` of one's own."""

    name: str
    """What its runs are called."""
    model: str = ""
    """What becomes a new version; none where no step registers."""
    data: DataSection = DataSection()
    """The rows."""
    validate: ValidateSection = ValidateSection()
    """What they have to be."""
    split: SplitSection = SplitSection()
    """What is held out."""
    train: TrainSection = TrainSection()
    """What learns."""
    evaluate: EvaluateSection = EvaluateSection()
    """What is measured."""
    tune: TuneSection | None = None
    """What is searched before."""
    gate: GateSection = GateSection()
    """What a version has to reach."""
    deploy: DeploySection = DeploySection()
    """Where it goes."""
    task: Literal["auto", "classification", "regression"] = "auto"
    """What the target is; auto looks at its values."""
    steps: tuple[StepSection, ...] = ()
    """Steps of one's own, instead of the usual ones."""
    parallel: int = 1
    """Steps that may run at the same time."""


class Pipeline(Record, frozen=True):
    """A kept definition; `digest` is the SHA-256 of its canonical form."""

    name: str
    definition: Definition
    digest: str
    code: str | None
    """Artefact of the user's own training file, exactly as it was when the run was asked for."""
    updated: float
    sources: dict[str, str] = {}
    """The user's own files, path beside the definition -> artefact, exactly as they were when the run was asked for."""


class Step(Record, frozen=True):
    """One step of a pipeline run, with what it found in words and figures."""

    name: str
    state: StepState = "WAITING"
    started: float | None = None
    ended: float | None = None
    words: str = ""
    figures: dict[str, Any] = msgspec.field(default_factory=dict)
    after: tuple[str, ...] = ()
    uses: str = ""
    """Its kind; `run` or `command` of the user's own."""
    key: str = ""
    """SHA-256 of code, inputs and params: a step with the same key has the same outputs; of a gate, of its evidence."""
    how: Literal["", "cached", "reused"] = ""
    """Where its outputs are from: this run (empty), an earlier one with the same key, or before it was resumed."""
    attempts: int = 0
    outputs: dict[str, str] = msgspec.field(default_factory=dict)
    """Files it left, path -> SHA-256; they are kept as artefacts."""
    job: str | None = None
    """The job that ran it, whose folder has its log."""
    asked: Moment | None = None
    """When it began to ask a person, by two clocks."""


class PipelineRun(Record, frozen=True):
    """One run of a pipeline: its steps, its job, and the version that came of it."""

    id: str
    pipeline: str
    digest: str
    state: RunState
    steps: tuple[Step, ...]
    job: str
    run: str
    created: float
    actor: str
    cause: str | None = None
    version: str | None = None
    error: str | None = None
    definition: Definition | None = None
    """As it was when the run was asked for; of runs before that was kept, none."""
    sources: dict[str, str] = {}
    code: str | None = None
    """SHA-256 over the user's own files, paths and bytes; none where there are none."""
    origin: str = ""
    """Where the asker has the definition, for a resume that reads it again."""
    preempt: float | None = None


class RunPipeline(Act[PipelineRun], tag="pipelines.run", frozen=True):
    """Run a definition: it is kept under its name, a run is opened and a job queued; follow it on the feed. `sources`
    are uploads of the user's own files; `code` is the one of `train.python` alone."""

    definition: Definition
    code: str | None = None
    cause: str | None = None
    sources: dict[str, str] = {}
    origin: str = ""
    preempt: float | None = None
    """Seconds after which the first step that has a checkpoint is ended by SIGTERM, and begun again from it: a
    rehearsal."""


class RerunPipeline(Act[PipelineRun], tag="pipelines.rerun", frozen=True):
    """Run a kept pipeline again by its name, optionally on other rows (`dataset`, a hash)."""

    pipeline: str
    cause: str | None = None
    dataset: str | None = None


class ResumePipeline(Act[PipelineRun], tag="pipelines.resume", frozen=True):
    """Go on with a run that failed, was cancelled or lost, at the step that did not end well: what was done before it
    is reused. With `definition` and `sources` the mended ones hold from here on."""

    pipeline_run: str
    definition: Definition | None = None
    sources: dict[str, str] = {}


class CancelPipeline(Act[PipelineRun], tag="pipelines.cancel", frozen=True):
    """End a run: its step's whole process group is stopped, or nobody is asked any more."""

    pipeline_run: str
    reason: str = ""


class ApproveStep(Act[PipelineRun], tag="pipelines.approve", frozen=True):
    """Say yes to the step that asks a person: the run goes on behind it."""

    role: ClassVar[Role] = "approver"
    pipeline_run: str
    step: str | None = None
    note: str = ""


class RejectStep(Act[PipelineRun], tag="pipelines.reject", frozen=True):
    """Say no to the step that asks a person: the run fails there, and nothing behind it is done."""

    role: ClassVar[Role] = "approver"
    pipeline_run: str
    step: str | None = None
    note: str = ""


class ExpireStep(Act[PipelineRun], tag="pipelines.expire", frozen=True):
    """Say that nobody answered a step in time, which is a no; spoken by the daemon's clock."""

    role: ClassVar[Role] = "daemon"
    pipeline_run: str
    step: str


class NoteStep(Act[PipelineRun], tag="pipelines.note_step", frozen=True):
    """Say where a pipeline run is; spoken by the supervisor."""

    role: ClassVar[Role] = "daemon"
    pipeline_run: str
    step: Step


class EndPipeline(Act[PipelineRun], tag="pipelines.end", frozen=True):
    """Say how a pipeline run ended; after a success the version is registered, judged and sent where the definition
    says, all in the same entry."""

    role: ClassVar[Role] = "daemon"
    pipeline_run: str
    state: Literal["SUCCEEDED", "FAILED", "CANCELLED", "LOST"]
    result: dict[str, Any] | None = None
    """A `PipelineResult` whose files are digests by now, with `size` of the model file."""
    error: str | None = None
    metrics: dict[str, float] = {}


class ClosePipeline(Act[PipelineRun], tag="pipelines.close", frozen=True):
    """Say which version came of a pipeline run; the last act of the entry that `EndPipeline` began."""

    role: ClassVar[Role] = "daemon"
    pipeline_run: str
    version: str


class CheckPipeline(Query[list[Step]], tag="pipelines.check", frozen=True):
    """What the steps `validate` and `split` say of the rows of a definition, or the fault they would end with, before
    anything of it is kept: `data.dataset` may be the SHA-256 of an upload; a child reads the file."""

    definition: Definition


class ListPipelines(Query[list[Pipeline]], tag="pipelines.list", frozen=True):
    """Every kept definition."""


class ListPipelineRuns(Query[list[PipelineRun]], tag="pipelines.runs", frozen=True):
    """Pipeline runs, newest first."""

    pipeline: str | None = None
    limit: int = 50


class ShowPipelineRun(Query[PipelineRun], tag="pipelines.show", frozen=True):
    """One pipeline run with its steps."""

    pipeline_run: str


class PipelineLog(Query[list[str]], tag="pipelines.log", frozen=True):
    """The last lines a run's steps wrote, or one of them."""

    pipeline_run: str
    step: str | None = None
    lines: int = 200


class PipelineKept(Event, tag="pipelines.kept", frozen=True):
    """A definition is kept under its name."""

    pipeline: Pipeline


class PipelineStarted(Event, tag="pipelines.started", frozen=True):
    """A pipeline run is queued."""

    pipeline_run: PipelineRun


class StepNoted(Event, tag="pipelines.step_noted", frozen=True):
    """A step changed its state."""

    pipeline_run: str
    step: Step


class PipelineResumed(Event, tag="pipelines.resumed", frozen=True):
    """A run goes on with another job; `steps` are as they stand then."""

    pipeline_run: str
    job: str
    run: str
    steps: tuple[Step, ...]
    definition: Definition | None = None
    sources: dict[str, str] = {}
    code: str | None = None
    digest: str = ""


class PipelineAsked(Event, tag="pipelines.asked", frozen=True):
    """A run waits for a person."""

    pipeline_run: str
    step: Step


class PipelineEnded(Event, tag="pipelines.ended", frozen=True):
    """A pipeline run is over."""

    pipeline_run: str
    state: Literal["SUCCEEDED", "FAILED", "CANCELLED", "LOST"]
    at: float
    version: str | None = None
    error: str | None = None


class Done(Record, frozen=True):
    """What a step with some key left, wherever it ran."""

    outputs: dict[str, str]
    words: str
    figures: dict[str, Any]
    pipeline_run: str


class PipelineSpec(Record, frozen=True):
    """What a pipeline job is given: the definition, the steps as they stand, and where files are (read only)."""

    pipeline_run: str
    run: str
    definition: Definition
    data: str | None = None
    sources: dict[str, str] = {}
    steps: tuple[Step, ...] = ()
    preempt: float | None = None
    cache: dict[str, Done] = {}
    """Key of a step -> what it left in an earlier run; filled in as the job starts, as is `store`."""
    store: str = ""
    checkpoints: str = ""
    against: Against | None = None
    join: JoinSpec | None = None
    """What the step `features` joins: the rows of the views that were there when the run was asked for."""


class CheckSpec(Record, frozen=True):
    """What a child is given that looks at the rows of a definition before it is run."""

    definition: Definition
    join: JoinSpec | None = None


class JoinedFigures(Record, frozen=True):
    """What the step `features` says of the training set that it left: `newest` is the last time of a row, in
    microseconds since 1970."""

    set: str
    rows: int
    newest: int
    statuses: dict[str, dict[str, int]]
