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
from quarterstore.records.registry import Metric, Signature
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
    dataset: str | None = None
    builtin: str | None = None
    file: str | None = None
    time: str | None = None
    group: str | None = None
    ignore: tuple[str, ...] = ()
    missing: tuple[str, ...] = ("", "?", "NA", "NaN")
    columns: dict[str, str] = {}
    """Column -> number, integer, text, boolean or time, where the guess of `records.tables` shall not hold."""
    features: tuple[str, ...] = ()
    """Views, or `view:feature`, that the step `features` joins the rows of the file (entities) to, as known at their
    `entity_time`."""
    entity_time: str = "event_time"


class SplitSection(Record, frozen=True):
    """`[split]`: `by` random, time, group, or hash of `key` (else of the group, else of the whole row), under which a
    row stays on its side whatever rows come; `test` is the share held out. What is on both sides is refused, unless
    `allow_leak` says why it may be."""

    by: Literal["random", "time", "group", "hash"] = "random"
    test: float = 0.25
    seed: int = 7
    key: tuple[str, ...] = ()
    allow_leak: str = ""


class TrainSection(Record, frozen=True):
    """`[train]`: a built-in learner (mlp, logistic, forest, ridge, boosting), `python = "train.py:train"` inside our
    worker, or code in an environment of its own: `run = "train.py:train"` by `interpreter`, or a `command`."""

    learner: str = "logistic"
    python: str | None = None
    run: str | None = None
    command: tuple[str, ...] = ()
    """Words, never a shell's text; `{rows}` and its like in them are places (`training.PLACES`)."""
    interpreter: str | None = None
    """The Python of an environment that has none of our packages, by its absolute path."""
    code: str | None = None
    """The folder that is taken along, as it lies beside the definition; the run's own is there."""
    params: dict[str, Any] = {}
    seed: int = 7


class GateSection(Record, frozen=True):
    """`[gate]`: limits such as `accuracy = 0.9`; `set = true` also makes them the model's gate."""

    limits: dict[str, float] = {}
    set: bool = False


class DeploySection(Record, frozen=True):
    """`[deploy]`: what happens to a version that passed: `none`, `staging` or `canary` on an endpoint."""

    then: Literal["none", "staging", "canary"] = "none"
    endpoint: str | None = None


class StepSection(Record, frozen=True):
    """`[[steps]]`: one step of a DAG. What it does is a kind of ours (`uses`), a function of the user's file (`run`, as
    `steps.py:clean`) or a program (`command`), exactly one of them; `after` names the steps it needs."""

    name: str
    uses: str | None = None
    run: str | None = None
    command: tuple[str, ...] = ()
    interpreter: str | None = None
    """The Python that `run` is called by, where that is not ours; whose programs a `command` finds first."""
    after: tuple[str, ...] = ()
    retries: int = 0
    backoff: float = 1.0
    """Seconds before the first retry; twice as many before each one more, half to one and a half times by chance."""
    limits: Limits = Limits()
    params: dict[str, Any] = {}


class Definition(Record, frozen=True):
    """A pipeline as it is written in TOML: sections that stand for the usual steps, or `[[steps]]` of one's own."""

    name: str
    model: str = ""
    data: DataSection = DataSection()
    validate: ValidateSection = ValidateSection()
    split: SplitSection = SplitSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    tune: TuneSection | None = None
    gate: GateSection = GateSection()
    deploy: DeploySection = DeploySection()
    task: Literal["auto", "classification", "regression"] = "auto"
    steps: tuple[StepSection, ...] = ()
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


class PipelineResult(Record, frozen=True):
    """What a pipeline job answers for the step `register`: hashes of files that its steps left."""

    model: str
    reference: str
    golden: str | None
    """None of a model that nobody here can ask: safetensors, skops that ONNX cannot hold."""
    format: str
    signature: Signature
    metrics: tuple[Metric, ...]
    params: dict[str, Any]
    dataset: str
    """SHA-256 of the rows that were used."""
    rows: int
    parity: float
    """Largest absolute difference between the trained model and the exported file."""
    device: str
    framework: str
    size: int = 0
    rejected: str = ""
    """Why the version must not go anywhere: it is worse than the champion; it is registered with that."""
    leak: str = ""
    """What is on both sides of the split, and why it may be; kept as the tag `leak` of the run and of the version."""
    warnings: tuple[str, ...] = ()
    """Signs that a feature knows the target; kept as the tag `warning` of the run and of the version."""
    python: str | None = None
    """Version of the Python that a person's code ran in, where that is an environment of its own."""
    interpreter: str | None = None
    packages: tuple[str, ...] = ()
    """What was installed there, `name==version`."""


class PipelineOutcome(Record, frozen=True):
    """How a pipeline job ended well: with what is to be registered, with a step that asks a person, or with neither."""

    result: PipelineResult | None = None
    asks: Step | None = None
