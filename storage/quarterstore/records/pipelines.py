"""Pipelines: a definition as data, and what each run of it did step by step."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from quarterstore.records.base import Act, Event, Query, Record, Role
from quarterstore.records.checks import ValidateSection
from quarterstore.records.registry import Metric, Signature

StepState = Literal["WAITING", "RUNNING", "DONE", "FAILED", "SKIPPED"]
STEPS: tuple[str, ...] = ("validate", "split", "train", "evaluate", "export", "register", "gate", "deploy")


class DataSection(Record, frozen=True):
    """`[data]`: where the rows are and what they mean; `dataset` is a hash once it is uploaded, `builtin` a
    scikit-learn set (breast_cancer, digits, wine, iris, diabetes) that needs no file."""

    target: str
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
    """Views, or `view:feature`, that the rows of the file (entities) are joined to, as known at their `entity_time`."""
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
    """The folder that is taken along, as it lies beside the definition."""
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


class Definition(Record, frozen=True):
    """A pipeline as it is written in TOML."""

    name: str
    model: str
    data: DataSection
    validate: ValidateSection = ValidateSection()
    split: SplitSection = SplitSection()
    train: TrainSection = TrainSection()
    gate: GateSection = GateSection()
    deploy: DeploySection = DeploySection()
    task: Literal["auto", "classification", "regression"] = "auto"


class Pipeline(Record, frozen=True):
    """A kept definition; `digest` is the SHA-256 of its canonical form."""

    name: str
    definition: Definition
    digest: str
    code: str | None
    """Artefact of the user's own training file, exactly as it was when the run was asked for."""
    updated: float


class Step(Record, frozen=True):
    """One step of a pipeline run, with what it found in words and figures."""

    name: str
    state: StepState = "WAITING"
    started: float | None = None
    ended: float | None = None
    words: str = ""
    figures: dict[str, Any] = msgspec.field(default_factory=dict)


class PipelineRun(Record, frozen=True):
    """One run of a pipeline: its steps, its job, and the version that came of it."""

    id: str
    pipeline: str
    digest: str
    state: Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "LOST"]
    steps: tuple[Step, ...]
    job: str
    run: str
    created: float
    actor: str
    cause: str | None = None
    version: str | None = None
    error: str | None = None


class RunPipeline(Act[PipelineRun], tag="pipelines.run", frozen=True):
    """Run a definition: it is kept under its name, a run is opened and a job queued; follow it on the feed."""

    definition: Definition
    code: str | None = None
    cause: str | None = None


class RerunPipeline(Act[PipelineRun], tag="pipelines.rerun", frozen=True):
    """Run a kept pipeline again by its name, optionally on other rows (`dataset`, a hash)."""

    pipeline: str
    cause: str | None = None
    dataset: str | None = None


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


class PipelineEnded(Event, tag="pipelines.ended", frozen=True):
    """A pipeline run is over."""

    pipeline_run: str
    state: Literal["SUCCEEDED", "FAILED", "CANCELLED", "LOST"]
    at: float
    version: str | None = None
    error: str | None = None


class PipelineSpec(Record, frozen=True):
    """What a pipeline job is given: the definition, and the files as local paths (read only)."""

    pipeline_run: str
    run: str
    definition: Definition
    data: str | None = None
    code: str | None = None
    reference: str | None = None
    """Rows that `distribution` is checked against."""
    schema: str | None = None
    """The copy of the file that `validate.pandera` names."""


class PipelineResult(Record, frozen=True):
    """What a pipeline job answers: files are paths inside the job's folder; the daemon takes them over by hash."""

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
    steps: tuple[Step, ...] = ()
    leak: str = ""
    """What is on both sides of the split, and why it may be; kept as the tag `leak` of the run and of the version."""
    warnings: tuple[str, ...] = ()
    """Signs that a feature knows the target; kept as the tag `warning` of the run and of the version."""
    python: str | None = None
    """Version of the Python that a person's code ran in, where that is an environment of its own."""
    packages: tuple[str, ...] = ()
    """What was installed there, `name==version`."""
