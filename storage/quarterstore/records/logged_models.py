"""Logged models: model folders that runs made, before any of them is a registered version."""

from __future__ import annotations

from typing import Literal

import msgspec

from quarterstore.records.base import Act, Event, Query, Record
from quarterstore.records.runs import Artefact, Value

ModelStatus = Literal["PENDING", "READY", "FAILED"]


class ModelPoint(Record, frozen=True):
    """One measurement of a logged model: by which run, and on which dataset where one was named."""

    key: str
    value: float
    time: float
    step: int = 0
    run: str | None = None
    dataset: str = ""
    digest: str = ""


class LoggedModel(Record, frozen=True):
    """A model folder as it was logged: `experiment` is the number of the experiment it belongs to, `points` are the
    last thousand of its measurements, `run` the one that made it, here or elsewhere."""

    id: str
    name: str
    experiment: str
    status: ModelStatus
    created: float
    updated: float
    actor: str
    run: str | None = None
    flavour: str = ""
    params: dict[str, Value] = msgspec.field(default_factory=dict)
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    artefacts: tuple[Artefact, ...] = ()
    removed: float | None = None
    points: tuple[ModelPoint, ...] = ()


class CreateLoggedModel(Act[LoggedModel], tag="logged_models.create", frozen=True):
    """Begin a logged model; its files follow, then `finish` says how it went. The asker may choose the id, so that one
    that comes from elsewhere keeps its own."""

    experiment: str
    name: str = ""
    run: str | None = None
    flavour: str = ""
    params: dict[str, Value] = {}
    tags: dict[str, str] = {}
    model: str | None = None
    created: float | None = None


class FinishLoggedModel(Act[LoggedModel], tag="logged_models.finish", frozen=True):
    """Say that all files are there (READY) or that they will not come (FAILED)."""

    model: str
    status: ModelStatus = "READY"


class TagLoggedModel(Act[LoggedModel], tag="logged_models.tag", frozen=True):
    """Set tags of a logged model; a tag that is given no value (null) is removed."""

    model: str
    tags: dict[str, str | None]


class LogModelParams(Act[LoggedModel], tag="logged_models.log_params", frozen=True):
    """Add parameters to a logged model."""

    model: str
    params: dict[str, Value]


class MeasureModel(Act[LoggedModel], tag="logged_models.measure", frozen=True):
    """Keep measurements with a logged model; one that is there already is not kept twice."""

    model: str
    points: tuple[ModelPoint, ...]


class LogModelArtefact(Act[LoggedModel], tag="logged_models.log_artefact", frozen=True):
    """Bind an uploaded file (see `store.put_blob`) to a logged model under a path."""

    model: str
    path: str
    digest: str
    size: int


class RemoveLoggedModel(Act[LoggedModel], tag="logged_models.remove", frozen=True):
    """Take a logged model out of sight; `undo` brings it back."""

    model: str


class ListLoggedModels(Query[list[LoggedModel]], tag="logged_models.list", frozen=True):
    """The logged models of some experiments, by number or name, of all where none is named; the newest first."""

    experiments: tuple[str, ...] = ()


class ShowLoggedModel(Query[LoggedModel], tag="logged_models.show", frozen=True):
    """One logged model, also a removed one."""

    model: str


class LoggedModelChanged(Event, tag="logged_models.changed", frozen=True):
    """A logged model is new or is otherwise than before."""

    model: LoggedModel
    undo: bool = False
    """Whether this can be taken back."""


class LoggedModelMeasured(Event, tag="logged_models.measured", frozen=True):
    """A logged model has further measurements."""

    model: str
    points: tuple[ModelPoint, ...]
    at: float
