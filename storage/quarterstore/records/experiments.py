"""Experiments: named collections of runs."""

from __future__ import annotations

import msgspec

from quarterstore.records.base import Act, Event, Query, Record


class Experiment(Record, frozen=True):
    """A named collection of runs; `id` is a decimal number that no other experiment ever has."""

    name: str
    created: float
    id: str = ""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    updated: float | None = None
    removed: float | None = None


class CreateExperiment(Act[Experiment], tag="experiments.create", frozen=True):
    """Make an experiment; a name that is taken, also by a removed one, is a conflict."""

    name: str
    tags: dict[str, str] = {}


class RenameExperiment(Act[Experiment], tag="experiments.rename", frozen=True):
    """Give an experiment another name; its runs go with it."""

    experiment: str
    name: str


class TagExperiment(Act[Experiment], tag="experiments.tag", frozen=True):
    """Set tags of an experiment; a tag that is given no value (null) is removed."""

    experiment: str
    tags: dict[str, str | None]


class RemoveExperiment(Act[Experiment], tag="experiments.remove", frozen=True):
    """Take an experiment and its runs out of sight; refused while one of them runs or a registered version came from
    it; `undo` brings all of it back."""

    experiment: str


class RestoreExperiment(Act[Experiment], tag="experiments.restore", frozen=True):
    """Bring a removed experiment back, with the runs that went with it."""

    experiment: str


class ListExperiments(Query[list[Experiment]], tag="experiments.list", frozen=True):
    """Every experiment, by name."""

    removed: bool = False


class ShowExperiment(Query[Experiment], tag="experiments.show", frozen=True):
    """One experiment, removed or not, by name or id."""

    experiment: str


class ExperimentAdded(Event, tag="runs.experiment_added", frozen=True):
    """An experiment is new."""

    experiment: Experiment


class ExperimentChanged(Event, tag="experiments.changed", frozen=True):
    """The experiment that was called `before` has another name, other tags, is out of sight or back."""

    before: str
    experiment: Experiment
