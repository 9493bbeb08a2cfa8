"""Logged models at the MLflow door (3.x: `log_model` begins one, puts its files, finishes it)."""

from __future__ import annotations

from typing import Any

from quarterdeckd.doors.mlflow import shapes
from quarterdeckd.doors.mlflow.caller import Caller, listed, objects, pairs, text
from quarterdeckd.doors.mlflow.errors import MlflowError, absent, invalid
from quarterdeckd.doors.mlflow.experiments import limit_of
from quarterdeckd.doors.mlflow.files import below
from quarterstore.records import logged_models
from quarterstore.records.logged_models import LoggedModel
from quarterstore.records.runs import Run
from quarterstore.search.matching import Row, test_of
from quarterstore.search.paging import fingerprint, key_from, page, written
from quarterstore.search.parsing import ordered, parsed

STATUS = {"PENDING": "LOGGED_MODEL_PENDING", "READY": "LOGGED_MODEL_READY", "FAILED": "LOGGED_MODEL_UPLOAD_FAILED"}
OURS = {theirs: ours for ours, theirs in STATUS.items()} | {"1": "PENDING", "2": "READY", "3": "FAILED"}
WORDS = (
    ("creation_timestamp", "started"),
    ("creation_time", "started"),
    ("last_updated_timestamp", "ended"),
    ("source_run_id", "parent"),
    ("model_id", "id"),
    ("model_type", "notes"),
)
"""Their columns as ours: one language serves both."""


def model_of(caller: Caller, name: str) -> LoggedModel:
    """A logged model by its id."""
    found = caller.view.logged_models.get(name)
    if found is None or found.removed is not None:
        raise absent(f"Logged model with ID '{name}' not found.")
    return found


def root(found: LoggedModel) -> str:
    """Where its files are."""
    return f"mlflow-artifacts:/{found.experiment}/models/{found.id}/artifacts"


def shape(caller: Caller, found: LoggedModel) -> dict[str, Any]:
    """A logged model; its metrics are those of the run that made it."""
    run = caller.view.runs.get(found.run or "")
    points = {**caller.newest(run.id)} if run else {}
    told = {
        "model_id": found.id,
        "experiment_id": found.experiment,
        "name": found.name,
        "creation_timestamp_ms": shapes.milliseconds(found.created),
        "last_updated_timestamp_ms": shapes.milliseconds(found.updated),
        "artifact_uri": root(found),
        "status": STATUS[found.status],
        "model_type": found.flavour,
        "source_run_id": found.run or "",
        "tags": shapes.listed(found.tags),
    }
    metrics = [
        {**shapes.metric(key, value, moment, step), "model_id": found.id, "run_id": found.run}
        for key, (step, moment, value) in points.items()
    ]
    return {"model": {"info": told, "data": {"params": shapes.listed(found.params), "metrics": metrics}}}


async def _create(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    experiment = caller.experiment(given, active=True)
    made = await caller.ask(
        logged_models.CreateLoggedModel(
            experiment=experiment.name,
            name=text(given, "name", ""),
            run=text(given, "source_run_id", "") or None,
            flavour=text(given, "model_type", ""),
            params=dict(pairs(given, "params")),
            tags=pairs(given, "tags"),
        )
    )
    return shape(caller, made)


async def _search(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    wanted = {str(each) for each in listed(given, "experiment_ids")}
    filter_ = text(given, "filter", "")
    orders = [
        ("" if each.get("ascending", True) else "-") + text(each, "field_name") for each in objects(given, "order_by")
    ]
    rows = [
        Row(_as_run(each), {key: point[2] for key, point in caller.newest(each.run or "").items()})
        for each in caller.view.logged_models
        if each.removed is None and each.experiment in wanted
    ]
    tree = parsed(_ours(filter_), "deck", "filter")
    if tree is not None:
        test = test_of(tree)
        rows = [row for row in rows if test(row)]
    name, token = fingerprint("models", filter_, orders, sorted(wanted)), text(given, "page_token", "")
    sorting = [ordered(_ours(each), "deck", "order_by") for each in orders]
    after = key_from(token, name, sorting) if token else None
    found, following = page(rows, sorting, limit_of(given, 100), after)
    told: dict[str, Any] = {"models": [shape(caller, caller.view.logged_models[row.run.id])["model"] for row in found]}
    return {**told, "next_page_token": written(following, name)} if following is not None else told


def _ours(expression: str) -> str:
    for theirs, ours in WORDS:
        expression = expression.replace(theirs, ours)
    return expression


def _as_run(found: LoggedModel) -> Run:
    return Run(
        id=found.id,
        experiment=found.experiment,
        name=found.name,
        state="FINISHED",
        started=found.created * 1000,
        ended=found.updated * 1000,
        actor=found.actor,
        params=found.params,
        tags=found.tags,
        parent=found.run,
        notes=found.flavour,
    )


async def answer(caller: Caller, method: str, parts: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """`logged-models/…` by method and the parts of the path behind it."""
    if method == "POST" and parts in ([], ["search"]):
        return await (_search(caller, given) if parts else _create(caller, given))
    if not parts:
        raise MlflowError("ENDPOINT_NOT_FOUND", f"no route {method} logged-models")
    found = model_of(caller, parts[0])
    match method, parts[1:]:
        case "GET", []:
            return shape(caller, found)
        case "GET", ["artifacts", "directories"]:
            inside = text(given, "artifact_directory_path", "")
            return {"root_uri": root(found), "files": below(found.artefacts, inside)}
        case "PATCH", []:
            status = OURS.get(str(given.get("status")))
            if status is None:
                raise invalid(f"Invalid value {given.get('status')} for parameter 'status' supplied.")
            message: Any = logged_models.FinishLoggedModel(model=found.id, status=status)  # type: ignore[arg-type]
            return shape(caller, await caller.ask(message))
        case "DELETE", []:
            await caller.ask(logged_models.RemoveLoggedModel(model=found.id))
            return {}
        case "PATCH", ["tags"]:
            message = logged_models.TagLoggedModel(model=found.id, tags={**pairs(given, "tags")})
            return shape(caller, await caller.ask(message))
        case "DELETE", ["tags", key]:
            if key not in found.tags:
                raise absent(f"No tag with key '{key}' in logged model with ID '{found.id}'.")
            return shape(caller, await caller.ask(logged_models.TagLoggedModel(model=found.id, tags={key: None})))
        case "POST", ["params"]:
            await caller.ask(logged_models.LogModelParams(model=found.id, params=dict(pairs(given, "params"))))
            return {}
    raise MlflowError("ENDPOINT_NOT_FOUND", f"no route {method} logged-models/{'/'.join(parts)[:100]}")
