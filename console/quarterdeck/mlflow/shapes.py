"""What is read of MLflow, whichever way it was kept: experiments, runs, points, logged models, models, versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from quarterstore.records.logged_models import ModelStatus
from quarterstore.records.runs import DatasetInput, ModelOutput

Point = tuple[str, int, float, float]
"""Metric, step, time in seconds, value."""
Fetch = Callable[[Path], Path]
"""Where a file can be read; one that has to be fetched is put into the folder that is given."""
STATES = {"RUNNING": None, "SCHEDULED": None, "FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED"}
"""MLflow's status -> how a run ended here; None for one that did not."""
PROMPT = "mlflow.prompt.is_prompt"
"""The tag of a registered model that is a prompt."""
LARGEST = 1.7976931348623157e308
"""How MLflow's SQL store keeps infinity (mlflow.store.tracking.sqlalchemy_store, 3.17), and its server says it."""


class Experiment(NamedTuple):
    """An experiment: `id` is MLflow's."""

    id: str
    name: str
    tags: dict[str, str]
    removed: bool
    created: float | None


class Run(NamedTuple):
    """A run without its points and files; times in seconds."""

    id: str
    name: str
    status: str
    started: float | None
    ended: float | None
    params: dict[str, str]
    tags: dict[str, str]
    removed: bool
    uri: str
    inputs: tuple[DatasetInput, ...] = ()
    models: tuple[str, ...] = ()
    outputs: tuple[ModelOutput, ...] = ()


class LoggedModel(NamedTuple):
    """A logged model without its files."""

    id: str
    name: str
    status: ModelStatus
    created: float | None
    run: str | None
    kind: str
    params: dict[str, str]
    tags: dict[str, str]
    removed: bool
    uri: str


class Version(NamedTuple):
    """A registered version; `stage` is None, Staging, Production or Archived."""

    number: int
    source: str
    run: str | None
    stage: str
    description: str
    tags: dict[str, str]
    created: float | None
    user: str


class Model(NamedTuple):
    """A registered model with its aliases (word -> number)."""

    name: str
    description: str
    tags: dict[str, str]
    aliases: dict[str, int]
    created: float | None


class Source(Protocol):
    """One MLflow, wherever it is. What cannot be read of it is left, and said; the rest is told."""

    def experiments(self) -> Iterator[Experiment]: ...
    def runs(self, experiment: Experiment) -> Iterator[Run]: ...
    def points(self, run: Run) -> Iterator[Point]: ...
    def files(self, holder: Run | LoggedModel) -> Iterator[tuple[str, Fetch]]:
        """The artefacts by their path inside the run or the logged model."""
        ...

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]: ...
    def models(self) -> Iterator[Model]: ...
    def versions(self, model: Model) -> Iterator[Version]: ...
