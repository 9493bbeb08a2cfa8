"""The registry: models, their versions, and the stage each version is in."""

from __future__ import annotations

from typing import Literal

import msgspec

from quarterstore.records.base import Act, Event, Query, Record
from quarterstore.records.jobs import Job
from quarterstore.records.online import Needed, OnExpired
from quarterstore.records.version_diffs import VersionDiff

Stage = Literal["None", "Staging", "Production", "Archived"]
STAGES: tuple[Stage, ...] = ("None", "Staging", "Production", "Archived")


class Tensor(Record, frozen=True):
    """One input or output of the file: Open Inference datatype (`FP32`, `INT64`, `BYTES`, …) and shape, -1 for the
    batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    """A caller may leave it out."""


class Feature(Record, frozen=True):
    """One column a model sees: `kind` number or category; `input` names the tensor and `index` its column there."""

    name: str
    kind: Literal["number", "category"]
    input: str
    index: int = 0
    categories: tuple[str, ...] = ()
    optional: bool = False


class Signature(Record, frozen=True):
    """What goes in and what comes out; `label` names the output tensor that holds the prediction, `score` the one
    with probabilities, `classes` their order; `task` is classification or regression."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    features: tuple[Feature, ...] = ()
    task: Literal["classification", "regression"] = "classification"
    label: str | None = None
    score: str | None = None
    classes: tuple[str, ...] = ()


class Described(Record, frozen=True):
    """What a file is by its content: `format`, that in words, the names it would import or construct when it is loaded,
    and its signature where the file itself has one."""

    format: str
    words: str
    code: tuple[str, ...] = ()
    signature: Signature | None = None


class Metric(Record, frozen=True):
    """A measured value with its 95 % interval and the number of rows behind it."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Version(Record, frozen=True):
    """One version of a model; `id` is `name@number`, `number` is never reused, `semver` comes from the signature
    diff."""

    id: str
    model: str
    number: int
    semver: str
    stage: Stage
    digest: str
    """SHA-256 of the model file in the artefact store."""
    size: int
    format: str
    signature: Signature
    created: float
    created_by: str
    reason: str
    """Why the semantic version is what it is, in words."""
    metrics: tuple[Metric, ...] = ()
    run: str | None = None
    dataset: str | None = None
    parent: str | None = None
    """The version this one was made from (int8, pruned, fine-tuned)."""
    reference: str | None = None
    """Artefact: Parquet of the training rows' features and predictions, what drift is measured against."""
    golden: str | None = None
    """Artefact: rows and the answers the file gave when it was made; a host must give them again before traffic."""
    notes: str = ""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    environment: str = "default"
    removed: float | None = None
    source: str = ""
    """Where its files are: a URI that is never opened. A version that has nothing else is kept by reference (`format`
    elsewhere)."""
    updated: float | None = None
    freed: float | None = None
    """When its file was freed after its removal: from then on it is history, and does not come back."""
    logged_model: str | None = None
    """The logged model that it is."""
    allow_code: bool = False
    """It was kept although loading it runs code, because somebody said so."""
    code: tuple[str, ...] = ()
    """What its file imports or constructs when it is loaded, as far as that was read off."""
    rejected: str = ""
    """Why it must not go anywhere: it was found worse than the champion, or unfair, on held-out rows."""
    views: tuple[Needed, ...] = ()
    """What is read online for a caller who gives keys instead of values."""
    on_expired: OnExpired = "null"


class Model(Record, frozen=True):
    """A name under which versions are registered; `production` maps an environment to the number that is live,
    `aliases` a word that people choose to a number."""

    name: str
    created: float
    latest: int
    production: dict[str, int] = msgspec.field(default_factory=dict)
    description: str = ""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    aliases: dict[str, int] = msgspec.field(default_factory=dict)
    updated: float | None = None
    removed: float | None = None


class Tenure(Record, frozen=True):
    """What was Production over a span of time, who asked, who approved, and the deployment that carried it."""

    model: str
    version: str
    environment: str
    since: float
    until: float | None
    asked_by: str
    approved_by: str | None
    deployment: str | None = None
    entry: int = 0


class StageMove(Record, frozen=True):
    """One move of a version to another stage: who asked, who approved, why, and the entry it was done in."""

    model: str
    version: str
    before: Stage
    after: Stage
    environment: str
    at: float
    asked_by: str
    approved_by: str | None = None
    approval: str | None = None
    reason: str = ""
    skipped: bool = False
    deployment: str | None = None
    entry: int = 0


class LineageNode(Record, frozen=True):
    """A relative of a version: `depth` 1 stands beside it, 2 beside the node of depth 1 before it, and so on; `of` is
    the version that it is told of."""

    kind: str
    id: str
    words: str
    depth: int
    of: str


class Lineage(Record, frozen=True):
    """What one version came from (up) and what came of it (down): two trees, each written from the top to the
    bottom."""

    version: str
    up: tuple[LineageNode, ...]
    down: tuple[LineageNode, ...]


class RegisterVersion(Act[Version], tag="registry.register", frozen=True):
    """Register an uploaded model file under a name (made when new); the semantic version is worked out unless `bump`
    asks for more than the signature diff demands (auto, patch, minor, major). The daemon looks what the file is
    (`format` auto, or what it has to be); one that runs code when it is loaded is kept only with `allow_code`."""

    model: str
    digest: str
    size: int
    format: str
    signature: Signature
    metrics: tuple[Metric, ...] = ()
    run: str | None = None
    dataset: str | None = None
    parent: str | None = None
    reference: str | None = None
    golden: str | None = None
    bump: str = "auto"
    notes: str = ""
    tags: dict[str, str] = {}
    allow_code: bool = False
    code: tuple[str, ...] = ()
    """What the file imports or constructs when it is loaded: read off by the daemon, whatever is given."""
    source: str = ""
    """The URI of the folder that the file is of, as it is known elsewhere."""
    beside: dict[str, str] = {}
    """Hashes of uploaded files by the names under which an ONNX file says that its weights lie there: what is kept is
    one file with them in it."""
    logged_model: str | None = None
    """The logged model that it is."""
    rejected: str = ""
    """Why it must not go anywhere: from then on each stage needs a reason, which is kept."""
    views: tuple[str, ...] = ()
    """The views it needs, as `usage` (all features of it that the model takes) or `usage:minutes`."""
    on_expired: OnExpired = "null"


class RegisterSource(Act[Version], tag="registry.register_source", frozen=True):
    """Register what lies elsewhere by its URI under a model that is there; it is listed, staged and named like any
    version, and cannot be served."""

    model: str
    source: str
    run: str | None = None
    """The run it came from, here or elsewhere."""
    notes: str = ""
    tags: dict[str, str] = {}
    logged_model: str | None = None
    """The logged model that it is."""


class ConvertVersion(Act[Job], tag="registry.convert", frozen=True):
    """Make an ONNX child of a skops version in a job: it is loaded there, converted, and has to answer the golden rows
    as the estimator does."""

    version: str


class DescribeVersion(Act[Version], tag="registry.describe", frozen=True):
    """Say what a version is."""

    version: str
    notes: str


class MoveStage(Act[Version], tag="registry.move_stage", frozen=True):
    """Move a version to a stage; Production takes the place of the former one in the same act, which is archived.
    Refused without the gate and, in `team`, without another person's approval (`governance.propose`)."""

    version: str
    stage: Stage
    environment: str = "default"
    skip_stage: bool = False
    reason: str = ""
    former: str | None = None
    """The version the asker saw in Production (`none` for none): another one there by now is a conflict, naming it."""


class RemoveVersion(Act[Version], tag="registry.remove", frozen=True):
    """Take a version out of sight; refused while it is in Production or in a deployment; `undo` brings it back."""

    version: str


class RestoreVersion(Act[Version], tag="registry.restore", frozen=True):
    """Bring a removed version back, byte-equal."""

    version: str


class TagVersion(Act[Version], tag="registry.tag", frozen=True):
    """Set tags of a version; a tag that is given no value (null) is removed."""

    version: str
    tags: dict[str, str | None]


class ListModels(Query[list[Model]], tag="registry.models", frozen=True):
    """Every model with its latest and its Production number; with `removed` also those that were removed."""

    removed: bool = False


class ListVersions(Query[list[Version]], tag="registry.versions", frozen=True):
    """Versions, newest first; of one model when named; with `removed` also those that were removed."""

    model: str | None = None
    stage: Stage | None = None
    removed: bool = False


class ShowVersion(Query[Version], tag="registry.show", frozen=True):
    """One version: `name@3`, `name@1.2.0`, `name@Production`, `name@latest` or an alias."""

    version: str


class ShowLineage(Query[Lineage], tag="registry.lineage", frozen=True):
    """What a version came from and what came of it; of `data:HASH` every run and model that it reached, of a
    training set (`set-…`) its views too."""

    version: str


class ProductionAt(Query[Tenure], tag="registry.at", frozen=True):
    """What was Production at an instant, who asked and who approved; `NotFound` before the first one."""

    model: str
    at: float
    environment: str = "default"


class ListTenures(Query[list[Tenure]], tag="registry.history", frozen=True):
    """Every span of Production of one model, oldest first."""

    model: str


class ListStageMoves(Query[list[StageMove]], tag="registry.moves", frozen=True):
    """Every move of a model's versions from stage to stage, oldest first; of one version when named."""

    model: str
    version: str | None = None


class DiffVersions(Query[VersionDiff], tag="registry.diff", frozen=True):
    """What differs between two versions; without `before` the one that was registered before it."""

    after: str
    before: str | None = None


class ModelAdded(Event, tag="registry.model_added", frozen=True):
    """A model name is new."""

    model: Model


class VersionRegistered(Event, tag="registry.version_registered", frozen=True):
    """A version is registered."""

    version: Version


class StageMoved(Event, tag="registry.stage_moved", frozen=True):
    """A version is in another stage; for Production with who asked, who approved and the deployment that carries it."""

    version: str
    before: Stage
    after: Stage
    environment: str
    at: float
    asked_by: str
    reason: str = ""
    skipped: bool = False
    approval: str | None = None
    approved_by: str | None = None
    deployment: str | None = None


class VersionRemoved(Event, tag="registry.version_removed", frozen=True):
    """A version is out of sight."""

    version: str
    at: float


class VersionRestored(Event, tag="registry.version_restored", frozen=True):
    """A version is in sight again."""

    version: str


class VersionDescribed(Event, tag="registry.version_described", frozen=True):
    """A version has other notes."""

    version: str
    notes: str
    at: float


class VersionTagged(Event, tag="registry.version_tagged", frozen=True):
    """Tags of a version were set or removed."""

    version: str
    tags: dict[str, str | None]
