"""The book of experiments, and what their changes do to their runs."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of, undoable
from quarterstore.records import experiments

FIRST = "Default"
"""The experiment with the number 0, which other trackers begin with."""


def _experiment(state: State, event: experiments.ExperimentAdded) -> None:
    experiment = event.experiment
    state.experiments.put(experiment if experiment.id else copy_of(experiment, id=_next(state)))


def new_experiment(state: State, name: str, at: float, tags: dict[str, str]) -> experiments.Experiment:
    """The record of an experiment that is to be made."""
    number = "0" if name == FIRST and all(each.id != "0" for each in state.experiments) else _next(state)
    return experiments.Experiment(name=name, created=at, id=number, tags=tags, updated=at)


def _next(state: State) -> str:
    return str(1 + max((int(found.id) for found in state.experiments), default=0))


def _experiment_changed(state: State, event: experiments.ExperimentChanged) -> None:
    former, now = state.experiments[event.before], event.experiment
    undoable(state, experiments.ExperimentChanged(before=now.name, experiment=former))
    if now.name != former.name:
        state.experiments.drop(former.name)
    state.experiments.put(now)
    if (now.name, now.removed) == (former.name, former.removed):
        return
    for run in [run for run in state.runs if run.experiment == former.name]:
        removed = run.removed
        if now.removed is not None and removed is None:
            removed = now.removed
        elif now.removed is None and removed == former.removed:
            removed = None  # it went with the experiment, not before it
        state.runs.put(copy_of(run, experiment=now.name, removed=removed))


FOLDS: dict[type, Fold] = {
    experiments.ExperimentAdded: _experiment,
    experiments.ExperimentChanged: _experiment_changed,
}
