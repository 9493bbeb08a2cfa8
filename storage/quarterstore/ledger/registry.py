"""The book of models, versions and who was Production when."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of, tagged, undoable
from quarterstore.records import registry


def _model(state: State, event: registry.ModelAdded) -> None:
    state.models.put(event.model)


def _version(state: State, event: registry.VersionRegistered) -> None:
    version = event.version
    state.versions.put(version)
    state.models.put(copy_of(state.models[version.model], latest=version.number, updated=version.created))


def _moved(state: State, event: registry.StageMoved) -> None:
    version = state.versions[event.version]
    _noted(state, version, event)
    undoable(
        state,
        registry.StageMoved(
            version=event.version,
            before=event.after,
            # one that was in Production elsewhere already only leaves the place it came to
            after="None" if event.before == event.after else event.before,
            environment=event.environment,
            at=0.0,
            asked_by="",
            reason=f"undo of entry {state.context.seq}",
        ),
    )
    at = state.context.at
    state.versions.put(copy_of(version, stage=event.after, environment=event.environment, updated=at))
    model = copy_of(state.models[version.model], updated=at)
    state.models.put(model)
    if event.after == "Production":
        state.models.put(copy_of(model, production={**model.production, event.environment: version.number}))
        state.tenures.put(
            registry.Tenure(
                model=version.model,
                version=version.id,
                environment=event.environment,
                since=event.at,
                until=None,
                asked_by=event.asked_by,
                approved_by=event.approved_by,
                deployment=event.deployment,
                entry=state.context.seq,
            )
        )
    elif event.before == "Production":
        _left(state, model, version, event)


def _left(state: State, model: registry.Model, version: registry.Version, event: registry.StageMoved) -> None:
    """It leaves Production of the environment named (an older entry may name another one: then of all); a version that
    is still in Production elsewhere keeps its stage."""
    places = [place for place, number in model.production.items() if number == version.number]
    leaving = [event.environment] if event.environment in places else places
    state.models.put(
        copy_of(model, production={place: at for place, at in model.production.items() if place not in leaving})
    )
    for tenure in list(state.tenures):
        if tenure.version == version.id and tenure.until is None and tenure.environment in leaving:
            state.tenures.put(copy_of(tenure, until=event.at))
    staying = [place for place in places if place not in leaving]
    if staying:
        state.versions.put(copy_of(version, stage="Production", environment=staying[0], updated=event.at))


def _noted(state: State, version: registry.Version, event: registry.StageMoved) -> None:
    state.stage_moves.put(
        registry.StageMove(
            model=version.model,
            version=version.id,
            before=event.before,
            after=event.after,
            environment=event.environment,
            at=event.at,
            asked_by=event.asked_by,
            approved_by=event.approved_by,
            approval=event.approval,
            reason=event.reason,
            skipped=event.skipped,
            deployment=event.deployment,
            entry=state.context.seq,
        )
    )


def _removed(state: State, event: registry.VersionRemoved) -> None:
    undoable(state, registry.VersionRestored(version=event.version))
    version = state.versions[event.version]
    state.versions.put(copy_of(version, removed=event.at))
    state.models.put(copy_of(state.models[version.model], updated=event.at))


def _restored(state: State, event: registry.VersionRestored) -> None:
    state.versions.put(copy_of(state.versions[event.version], removed=None, freed=None))


def _described(state: State, event: registry.VersionDescribed) -> None:
    version = state.versions[event.version]
    undoable(state, registry.VersionDescribed(version=version.id, notes=version.notes, at=event.at))
    state.versions.put(copy_of(version, notes=event.notes, updated=event.at))


def _tagged(state: State, event: registry.VersionTagged) -> None:
    version = state.versions[event.version]
    undoable(
        state,
        registry.VersionTagged(version=version.id, tags={name: version.tags.get(name) for name in event.tags}),
    )
    state.versions.put(copy_of(version, tags=tagged(version.tags, event.tags)))


FOLDS: dict[type, Fold] = {
    registry.ModelAdded: _model,
    registry.VersionRegistered: _version,
    registry.StageMoved: _moved,
    registry.VersionRemoved: _removed,
    registry.VersionRestored: _restored,
    registry.VersionDescribed: _described,
    registry.VersionTagged: _tagged,
}
