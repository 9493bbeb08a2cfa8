"""The answers of MLflow's REST interface as they are read (mlflow/protos/service.proto, 3.17): what is told besides is
passed over, what is of another type is refused."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Pair(msgspec.Struct):
    """A key and its value, of which an empty one is not told."""

    key: str
    value: str = ""


class Page(msgspec.Struct):
    """One page of a search."""

    next_page_token: str = ""

    def items(self) -> list[Any]:
        """What is on it."""
        raise NotImplementedError


class Experiment(msgspec.Struct):
    """An experiment."""

    experiment_id: str
    name: str
    lifecycle_stage: str = "active"
    creation_time: Whole | None = None
    tags: list[Pair] = []


class Experiments(Page):
    """A page of experiments."""

    experiments: list[Experiment] = []

    def items(self) -> list[Any]:
        return self.experiments


class Metric(msgspec.Struct):
    """A point; NaN comes as a text."""

    key: str
    value: float = 0.0
    timestamp: Whole = 0
    step: Whole = 0


class RunInfo(msgspec.Struct):
    """What a run is by itself."""

    run_id: str
    run_name: str = ""
    status: str = "RUNNING"
    start_time: Whole | None = None
    end_time: Whole | None = None
    lifecycle_stage: str = "active"
    artifact_uri: str = ""


class RunData(msgspec.Struct):
    """What was logged to a run: the newest point of each metric."""

    metrics: list[Metric] = []
    params: list[Pair] = []
    tags: list[Pair] = []


class Dataset(msgspec.Struct):
    """A dataset."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""


class DatasetInput(msgspec.Struct):
    """A dataset that a run used."""

    dataset: Dataset
    tags: list[Pair] = []


class ModelLink(msgspec.Struct):
    """A logged model that a run used or made."""

    model_id: str
    step: Whole = 0


class Inputs(msgspec.Struct):
    """What a run used."""

    dataset_inputs: list[DatasetInput] = []
    model_inputs: list[ModelLink] = []


class Outputs(msgspec.Struct):
    """What a run made."""

    model_outputs: list[ModelLink] = []


class Run(msgspec.Struct):
    """A run."""

    info: RunInfo
    data: RunData = msgspec.field(default_factory=RunData)
    inputs: Inputs = msgspec.field(default_factory=Inputs)
    outputs: Outputs = msgspec.field(default_factory=Outputs)


class OneRun(msgspec.Struct):
    """The answer of `runs/get`."""

    run: Run


class Runs(Page):
    """A page of runs."""

    runs: list[Run] = []

    def items(self) -> list[Any]:
        return self.runs


class History(Page):
    """A page of a metric's points."""

    metrics: list[Metric] = []

    def items(self) -> list[Any]:
        return self.metrics


class File(msgspec.Struct):
    """A file or a folder of a run."""

    path: str
    is_dir: bool = False


class Files(msgspec.Struct):
    """What is in a folder of a run."""

    files: list[File] = []


class LoggedModelInfo(msgspec.Struct):
    """What a logged model is by itself."""

    model_id: str
    name: str = ""
    status: str = ""
    creation_timestamp_ms: Whole | None = None
    source_run_id: str = ""
    model_type: str = ""
    artifact_uri: str = ""
    tags: list[Pair] = []


class LoggedModelData(msgspec.Struct):
    """What was logged to a logged model."""

    params: list[Pair] = []


class LoggedModel(msgspec.Struct):
    """A logged model."""

    info: LoggedModelInfo
    data: LoggedModelData = msgspec.field(default_factory=LoggedModelData)


class LoggedModels(Page):
    """A page of logged models."""

    models: list[LoggedModel] = []

    def items(self) -> list[Any]:
        return self.models


class Alias(msgspec.Struct):
    """A word for a version."""

    alias: str
    version: Whole


class Model(msgspec.Struct):
    """A registered model."""

    name: str
    description: str = ""
    creation_timestamp: Whole | None = None
    tags: list[Pair] = []
    aliases: list[Alias] = []


class Models(Page):
    """A page of registered models."""

    registered_models: list[Model] = []

    def items(self) -> list[Any]:
        return self.registered_models


class Version(msgspec.Struct):
    """A version of a registered model."""

    name: str
    version: Whole
    source: str = ""
    run_id: str = ""
    current_stage: str = "None"
    description: str = ""
    creation_timestamp: Whole | None = None
    user_id: str = ""
    tags: list[Pair] = []


class Versions(Page):
    """A page of versions."""

    model_versions: list[Version] = []

    def items(self) -> list[Any]:
        return self.model_versions
