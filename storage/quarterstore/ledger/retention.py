"""The book of retention: limits, holds, and which runs' points are gone."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import retention


def retention_of(state: State, kind: retention.Samples) -> retention.Retention:
    """The limits of one kind of samples, as set or as they are unless set."""
    return state.retentions.get(kind) or retention.DEFAULTS[kind]


def held_endpoints(state: State) -> set[str]:
    """Endpoints whose predictions a hold keeps."""
    names = {hold.name for hold in list(state.holds) if hold.on == "endpoint"}
    models = held_models(state)
    return names | {found.endpoint for found in list(state.deployments) if found.model in models}


def held_models(state: State) -> set[str]:
    """Models that a hold is on."""
    return {hold.name for hold in list(state.holds) if hold.on == "model"}


def held_runs(state: State) -> set[str]:
    """Runs whose points a hold keeps."""
    names = {hold.name for hold in list(state.holds) if hold.on == "run"}
    models = held_models(state)
    return names | {version.run for version in list(state.versions) if version.run and version.model in models}


def _set(state: State, event: retention.RetentionSet) -> None:
    state.retentions.put(event.retention)


def _held(state: State, event: retention.SamplesHeld) -> None:
    state.holds.put(event.hold)


def _released(state: State, event: retention.HoldReleased) -> None:
    state.holds.drop(event.hold)


def _purged(state: State, event: retention.SamplesPurged) -> None:
    for name in event.runs:
        run = state.runs.get(name)
        if run is not None:
            state.runs.put(copy_of(run, points_purged_at=event.at))


FOLDS: dict[type, Fold] = {
    retention.RetentionSet: _set,
    retention.SamplesHeld: _held,
    retention.HoldReleased: _released,
    retention.SamplesPurged: _purged,
}
