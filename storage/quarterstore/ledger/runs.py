"""The book of runs."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of, tagged, undoable
from quarterstore.records import runs


def _started(state: State, event: runs.RunStarted) -> None:
    state.runs.put(event.run)


def _ended(state: State, event: runs.RunEnded) -> None:
    run = state.runs[event.run]
    state.runs.put(
        copy_of(run, state=event.state, ended=event.at, error=event.error, metrics={**run.metrics, **event.metrics})
    )


def _heard(state: State, event: runs.RunHeard) -> None:
    state.runs.put(copy_of(state.runs[event.run], state="RUNNING", ended=None, heard=event.at))


def _params(state: State, event: runs.ParamsLogged) -> None:
    run = state.runs[event.run]
    state.runs.put(copy_of(run, params={**run.params, **event.params}))


def _tags(state: State, event: runs.TagsSet) -> None:
    run = state.runs[event.run]
    undoable(state, runs.TagsSet(run=run.id, tags={name: run.tags.get(name) for name in event.tags}))
    state.runs.put(copy_of(run, tags=tagged(run.tags, event.tags)))


def _artefact(state: State, event: runs.ArtefactLogged) -> None:
    run = state.runs[event.run]
    others = tuple(artefact for artefact in run.artefacts if artefact.path != event.artefact.path)
    state.runs.put(copy_of(run, artefacts=(*others, event.artefact)))


def _artefact_removed(state: State, event: runs.ArtefactRemoved) -> None:
    run = state.runs[event.run]
    below = event.path + "/"
    kept = tuple(each for each in run.artefacts if each.path != event.path and not each.path.startswith(below))
    state.runs.put(copy_of(run, artefacts=kept))


def _renamed(state: State, event: runs.RunRenamed) -> None:
    run = state.runs[event.run]
    undoable(state, runs.RunRenamed(run=run.id, name=run.name))
    state.runs.put(copy_of(run, name=event.name))


def _noted(state: State, event: runs.RunNoted) -> None:
    run = state.runs[event.run]
    undoable(state, runs.RunNoted(run=run.id, notes=run.notes))
    state.runs.put(copy_of(run, notes=event.notes))


def _inputs(state: State, event: runs.InputsLogged) -> None:
    run = state.runs[event.run]
    inputs = {(each.name, each.digest): each for each in (*run.inputs, *event.inputs)}
    models = tuple(dict.fromkeys((*run.models, *event.models)))
    state.runs.put(copy_of(run, inputs=tuple(inputs.values()), models=models))


def _outputs(state: State, event: runs.OutputsLogged) -> None:
    run = state.runs[event.run]
    outputs = {each.model: each for each in (*run.outputs, *event.models)}
    state.runs.put(copy_of(run, outputs=tuple(outputs.values())))


def _environment(state: State, event: runs.EnvironmentNoted) -> None:
    run = state.runs[event.run]
    found = {"interpreter": event.interpreter, "python": event.python, "packages": event.packages}
    known = {name: value for name, value in found.items() if value is not None}
    state.runs.put(copy_of(run, source=copy_of(run.source, **known)))


def _removed(state: State, event: runs.RunRemoved) -> None:
    undoable(state, runs.RunRestored(run=event.run))
    state.runs.put(copy_of(state.runs[event.run], removed=event.at))


def _restored(state: State, event: runs.RunRestored) -> None:
    state.runs.put(copy_of(state.runs[event.run], removed=None))


FOLDS: dict[type, Fold] = {
    runs.RunStarted: _started,
    runs.RunEnded: _ended,
    runs.RunHeard: _heard,
    runs.ParamsLogged: _params,
    runs.TagsSet: _tags,
    runs.ArtefactLogged: _artefact,
    runs.ArtefactRemoved: _artefact_removed,
    runs.RunRenamed: _renamed,
    runs.RunNoted: _noted,
    runs.InputsLogged: _inputs,
    runs.OutputsLogged: _outputs,
    runs.EnvironmentNoted: _environment,
    runs.RunRemoved: _removed,
    runs.RunRestored: _restored,
}
