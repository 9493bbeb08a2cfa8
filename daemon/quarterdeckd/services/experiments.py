"""The rules of experiments: made, renamed, tagged, taken out of sight with their runs and brought back."""

from __future__ import annotations

from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.labels import checked_tags
from quarterstore.ledger.experiments import new_experiment
from quarterstore.ledger.finding import experiment_of
from quarterstore.ledger.state import State, tagged
from quarterstore.records import experiments
from quarterstore.records.faults import Conflict, Refused
from quarterstore.records.names import LONGEST_EXPERIMENT, checked_text


def _free(state: State, name: str) -> str:
    name = checked_text("name", name, longest=LONGEST_EXPERIMENT)
    if (found := state.experiments.get(name)) is not None:
        raise Conflict(f"{name} is there already{', removed' if found.removed else ''}", field="name")
    return name


def _create(state: State, act: experiments.CreateExperiment, asking: Asking) -> Decision:
    name = _free(state, act.name)
    made = new_experiment(state, name, asking.now, checked_tags(act.tags))
    return Decision(
        [experiments.ExperimentAdded(experiment=made)], f"made experiment {name}", lambda after: after.experiments[name]
    )


def _changed(former: experiments.Experiment, now: experiments.Experiment, words: str) -> Decision:
    event = experiments.ExperimentChanged(before=former.name, experiment=now)
    return Decision([event], words, lambda after: after.experiments[now.name])


def _rename(state: State, act: experiments.RenameExperiment, asking: Asking) -> Decision:
    found = experiment_of(state, act.experiment)
    if act.name == found.name:
        raise Conflict(f"it is called {act.name} already", field="name")
    name = _free(state, act.name)
    return _changed(found, replace(found, name=name, updated=asking.now), f"renamed {found.name} to {name}")


def _tag(state: State, act: experiments.TagExperiment, asking: Asking) -> Decision:
    found = experiment_of(state, act.experiment)
    tags = tagged(found.tags, checked_tags(act.tags))
    return _changed(found, replace(found, tags=tags, updated=asking.now), f"tagged {found.name}")


def _remove(state: State, act: experiments.RemoveExperiment, asking: Asking) -> Decision:
    found = experiment_of(state, act.experiment)
    own = {run.id: run for run in state.runs if run.experiment == found.name and run.removed is None}
    running = next((run.id for run in own.values() if run.state == "RUNNING" and run.beats), None)
    if running is not None:
        raise Refused(f"{running} is running", field="experiment")
    behind = next((each.id for each in state.versions if each.run in own and each.removed is None), None)
    if behind is not None:
        raise Refused(f"{behind} came from a run of {found.name}", field="experiment")
    words = f"removed {found.name} with {len(own)} runs"
    return _changed(found, replace(found, removed=asking.now, updated=asking.now), words)


def _restore(state: State, act: experiments.RestoreExperiment, asking: Asking) -> Decision:
    found = experiment_of(state, act.experiment, removed=True)
    if found.removed is None:
        raise Conflict(f"{found.name} is not removed", field="experiment")
    return _changed(found, replace(found, removed=None, updated=asking.now), f"restored {found.name}")


def _listed(state: State, query: experiments.ListExperiments, asking: Asking) -> list[experiments.Experiment]:
    return sorted(
        (each for each in state.experiments if query.removed or each.removed is None), key=lambda each: each.name
    )


RULES: Rules = {
    experiments.CreateExperiment: _create,
    experiments.RenameExperiment: _rename,
    experiments.TagExperiment: _tag,
    experiments.RemoveExperiment: _remove,
    experiments.RestoreExperiment: _restore,
}
ANSWERS: Answerers = {
    experiments.ListExperiments: _listed,
    experiments.ShowExperiment: lambda state, query, asking: experiment_of(state, query.experiment, removed=True),
}
