"""Finding a thing by what people call it: a start of an id, `model@3`, `model@1.2.0`, `model@Production`."""

from __future__ import annotations

from typing import Any

from quarterstore.ledger.book import Book
from quarterstore.ledger.state import State
from quarterstore.records.deployments import Deployment
from quarterstore.records.experiments import Experiment
from quarterstore.records.faults import Conflict, NotFound, got, missing
from quarterstore.records.names import composed
from quarterstore.records.registry import STAGES, Model, Version
from quarterstore.records.runs import Run
from quarterstore.records.studies import Study
from quarterstore.records.trials import Trial


def one_of(book: Book[Any], field: str, text: str) -> Any:
    """The record whose key is `text` or the only one whose key starts, else ends with it (lists show the end of an id,
    because the start is the same for all of an hour); `NotFound` names the nearest."""
    found = book.get(text)
    if found is not None:
        return found
    starts = [key for key in book.rows if len(text) >= 4 and key.startswith(text)]
    starts = starts or [key for key in book.rows if len(text) >= 8 and key.endswith(text)]
    if len(starts) == 1:
        return book[starts[0]]
    if len(starts) > 1:
        raise Conflict(f"got {text}, expected more of it: {len(starts)} ids are so", field=field, nearest=starts[:3])
    raise missing(field, text, list(book.rows)[:-2001:-1])


def run_of(state: State, text: str, *, removed: bool = False) -> Run:
    """A run by its id or a start of it; a removed one only when asked for."""
    run: Run = one_of(state.runs, "run", text)
    if run.removed is not None and not removed:
        raise missing("run", text, [], next=f"it was removed; bring it back with: qd runs restore --run {run.id}")
    return run


def study_of(state: State, text: str) -> Study:
    """A study by its id, else the newest of that name, else by a start or the end of its id; `NotFound` names the
    nearest of both."""
    named = [each for each in state.studies if each.name == text]
    if text not in state.studies.rows and named:
        return max(named, key=lambda each: (each.created, each.id))
    try:
        found: Study = one_of(state.studies, "study", text)
    except NotFound:
        raise missing("study", text, [*{each.name: None for each in state.studies}, *state.studies.rows]) from None
    return found


def experiment_of(state: State, text: str, *, removed: bool = False) -> Experiment:
    """An experiment by its name, else by its id; a removed one only when asked for."""
    found = state.experiments.get(text)
    if found is None and text.isdecimal():
        found = next((each for each in state.experiments if each.id == text), None)
    if found is None:
        raise missing("experiment", text, state.experiments.rows)
    if found.removed is not None and not removed:
        words = f"it was removed; bring it back with: qd experiments restore --experiment '{found.name}'"
        raise missing("experiment", text, [], next=words)
    return found


def model_of(state: State, name: str, *, removed: bool = False) -> Model:
    """A model by its name; a removed one only when asked for."""
    model = state.models.get(composed(name))
    if model is None or (model.removed is not None and not removed):
        known = [each.name for each in state.models if each.removed is None]
        back = f"it was removed; bring it back with: qd models restore --model '{name}'" if model else None
        raise missing("model", name, known, next=back)
    return model


def version_of(state: State, text: str, *, environment: str = "default", removed: bool = False) -> Version:
    """A version by `name@3`, `name@1.2.0`, `name@Production`, `name@Staging`, `name@latest` or `name@alias`."""
    name, at, which = text.partition("@")
    if not at or not which:
        raise got("version", text, "NAME@NUMBER, NAME@SEMVER, NAME@STAGE, NAME@latest or NAME@ALIAS")
    model = model_of(state, name, removed=removed)
    versions = [version for version in state.versions if version.model == model.name]
    seen = [version for version in versions if removed or version.removed is None]
    aliased = model.aliases.get(which)
    for version in reversed(seen):
        if version.number == aliased or which in (str(version.number), version.semver) or (which == "latest"):
            return version
        if which == "Production" and model.production.get(environment) == version.number:
            return version
        if which in STAGES and which != "Production" and version.stage == which:
            return version
    raise missing("version", text, [f"{name}@{version.semver}" for version in seen])


def deployment_of(state: State, endpoint: str) -> Deployment:
    """A deployment by its endpoint."""
    deployment = state.deployments.get(endpoint)
    if deployment is None:
        raise missing("endpoint", endpoint, state.deployments.rows)
    return deployment


def production_of(state: State, model: str, environment: str) -> Version | None:
    """The version in Production, if any."""
    record = state.models.get(model)
    number = record.production.get(environment) if record is not None else None
    return state.versions.get(f"{model}@{number}") if number is not None else None


def places_of(state: State, version: Version) -> list[str]:
    """The environments that a version is in Production of."""
    production = state.models[version.model].production
    return [environment for environment, number in production.items() if number == version.number]


def version_before(state: State, deployment: Deployment) -> Version | None:
    """The version that a rollback gives the traffic back to, if any."""
    for version in reversed(deployment.previous):
        found = state.versions[version]
        if found.removed is None and found.id != deployment.live:
            return found
    return None


def rollback_target(state: State, deployment: Deployment) -> Version | None:
    """The version that answers everything after a rollback: the live one where another is on trial beside it, else the
    one before it, if any."""
    trial = trial_at(state, deployment.endpoint)
    dealt = trial is not None and trial.state == "RUNNING" and trial.kind != "shadow"
    if deployment.live is not None and (deployment.canary is not None or dealt):
        return state.versions[deployment.live]
    return version_before(state, deployment)


def trial_at(state: State, endpoint: str) -> Trial | None:
    """The trial that runs at an endpoint, or waits to, if any."""
    return next((each for each in state.trials if each.endpoint == endpoint and each.state != "ENDED"), None)


def last_trial_at(state: State, endpoint: str, *kinds: str) -> Trial:
    """The trial at an endpoint that runs, else the last one, of these kinds where any are given."""
    found = [each for each in state.trials if each.endpoint == endpoint and (not kinds or each.kind in kinds)]
    if not found:
        deployment_of(state, endpoint)
        raise NotFound(f"no {' or '.join(kinds) or 'trial'} ran at {endpoint} yet", field="endpoint")
    return max(found, key=lambda each: (each.state != "ENDED", each.since))


def in_use(state: State, version: str) -> str | None:
    """The endpoint that a version has traffic at, is tried at or waits for, if any."""
    for deployment in state.deployments:
        candidate = deployment.canary.candidate if deployment.canary else None
        trial = trial_at(state, deployment.endpoint)
        if version in (deployment.live, deployment.pending, candidate, *(trial.versions if trial else ())):
            return deployment.endpoint
    return None
