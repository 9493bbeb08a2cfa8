"""Logged models at the MLflow door (3.x: `log_model` begins one, puts its files, finishes it)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from quarterdeckd.doors.mlflow import checks, searching, shapes
from quarterdeckd.doors.mlflow.caller import Caller, listed, missing, number, objects, pairs, text
from quarterdeckd.doors.mlflow.errors import MlflowError, absent, invalid
from quarterdeckd.doors.mlflow.files import below
from quarterdeckd.doors.mlflow.searching import Noun, as_run, order_of
from quarterstore.records import logged_models
from quarterstore.records.logged_models import LoggedModel, ModelPoint
from quarterstore.records.runs import Run
from quarterstore.search.matching import Row
from quarterstore.search.parsing import Theirs, attributes
from quarterstore.search.tree import Column, Order

STATUS = {"PENDING": "LOGGED_MODEL_PENDING", "READY": "LOGGED_MODEL_READY", "FAILED": "LOGGED_MODEL_UPLOAD_FAILED"}
OURS = {theirs: ours for ours, theirs in STATUS.items()} | {"1": "PENDING", "2": "READY", "3": "FAILED"}
MODELS = Noun(
    "logged models",
    Theirs(
        {
            **attributes(name="name", model_id="id", status="state", model_type="notes", source_run_id="parent"),
            **attributes(creation_timestamp_ms="started", creation_timestamp="started", creation_time="started"),
            **attributes(last_updated_timestamp_ms="ended", last_updated_timestamp="ended"),
        },
        ("name", "model_id", "status", "model_type", "source_run_id"),
        kinds=("tag", "param", "metric"),
    ),
    50_000,
    100,
)
VERSIONS = "mlflow.modelVersions"
"""A tag that says which versions of registered models it is: worked out, never kept."""


def model_of(caller: Caller, name: str, *, removed: bool = False) -> LoggedModel:
    """A logged model by its id."""
    found = caller.view.logged_models.get(name)
    if found is None or (found.removed is not None and not removed):
        raise absent(f"Logged model with ID '{name}' not found.")
    return found


def root(found: LoggedModel) -> str:
    """Where its files are."""
    return f"mlflow-artifacts:/{found.experiment}/models/{found.id}/artifacts"


def shape(caller: Caller, found: LoggedModel) -> dict[str, Any]:
    """A logged model with its measurements, and the versions that it is."""
    versions = [
        {"name": each.model, "version": each.number}
        for each in caller.view.versions
        if each.logged_model == found.id and each.removed is None
    ]
    tags = {**found.tags, **({VERSIONS: json.dumps(versions)} if versions else {})}
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
        "tags": shapes.listed(tags),
    }
    metrics = [_point(found, each) for each in found.points]
    return {"model": {"info": told, "data": {"params": shapes.listed(found.params), "metrics": metrics}}}


def _point(found: LoggedModel, point: ModelPoint) -> dict[str, Any]:
    told = {
        **shapes.metric(point.key, point.value, point.time, point.step),
        "model_id": found.id,
        "run_id": point.run,
        "dataset_name": point.dataset,
        "dataset_digest": point.digest,
    }
    return {name: value for name, value in told.items() if value not in (None, "")}


def measured(caller: Caller, run: str, given: list[dict[str, Any]]) -> list[logged_models.MeasureModel]:
    """What keeps those of a run's points that name a logged model with that one as well."""
    by_model: dict[str, list[ModelPoint]] = {}
    for each in given:
        if each.get("model_id"):
            point = ModelPoint(
                key=text(each, "key"),
                value=float(each["value"]),
                time=number(each, "timestamp") / 1000,
                step=number(each, "step", 0),
                run=run,
                dataset=text(each, "dataset_name", ""),
                digest=text(each, "dataset_digest", ""),
            )
            by_model.setdefault(model_of(caller, text(each, "model_id")).id, []).append(point)
    return [logged_models.MeasureModel(model=model, points=tuple(points)) for model, points in by_model.items()]


async def _create(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    experiment = caller.experiment(given, active=True)
    made = await caller.ask(
        logged_models.CreateLoggedModel(
            experiment=experiment.name,
            name=checks.logged_model(text(given, "name", "")),
            run=text(given, "source_run_id", "") or None,
            flavour=text(given, "model_type", ""),
            params=dict(pairs(given, "params")),
            tags=checks.tags(pairs(given, "tags")),
        )
    )
    return shape(caller, made)


async def _search(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """By filter, in MLflow's grammar; a metric is its newest measurement, on the datasets that are named."""
    wanted = {str(each) for each in listed(given, "experiment_ids")}
    if not wanted:
        raise missing("experiment_ids")
    asked = objects(given, "datasets")
    names = [(text(each, "dataset_name", ""), text(each, "dataset_digest", "")) for each in asked]
    if not all(name for name, _ in names):
        raise invalid("`dataset_name` in the `datasets` clause must be specified.")
    orders = objects(given, "order_by")
    rows = []
    for each in caller.view.logged_models:
        if each.removed is None and each.experiment in wanted:
            points = [point for point in each.points if not names or any(_is_of(point, *name) for name in names)]
            if points or not names:
                rows.append(Row(_as_run(each), {**_newest(points), **_ranked(each, orders)}))
    sorting = [_order(n, each) for n, each in enumerate(orders)] or [order_of(MODELS, "creation_timestamp DESC")]
    found, following = searching.found(given, MODELS, rows, sorting, (sorted(wanted), names, given.get("order_by")))
    return {
        "models": [shape(caller, caller.view.logged_models[row.run.id])["model"] for row in found],
        **following,
    }


def _is_of(point: ModelPoint, dataset: str, digest: str) -> bool:
    return point.dataset == dataset and digest in ("", point.digest)


def _newest(points: Sequence[ModelPoint]) -> dict[str, float]:
    return {point.key: point.value for point in sorted(points, key=lambda point: (point.time, point.step))}


def _ranked(found: LoggedModel, orders: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The metrics that the n-th order sorts by where it names a dataset, as metrics of their own."""
    ranked: dict[str, float] = {}
    for place, each in enumerate(orders):
        name, dataset = text(each, "field_name").removeprefix("metrics."), text(each, "dataset_name", "")
        if dataset:
            of_it = [point for point in found.points if _is_of(point, dataset, text(each, "dataset_digest", ""))]
            if name in (values := _newest(of_it)):
                ranked[f"{place}\0{name}"] = values[name]
    return ranked


def _order(place: int, given: dict[str, Any]) -> Order:
    field, down = text(given, "field_name"), given.get("ascending", True) in (False, "false")
    noun, dot, name = field.partition(".")
    if dot and noun != "metrics":
        raise invalid(f"Invalid order by field name: {field}. Only metrics are supported.")
    if not dot and field not in MODELS.words.columns:
        raise invalid(f"Invalid order by field name: {field}")
    if not dot:
        return Order(order_of(MODELS, field).column, down)
    return Order(Column("metric", f"{place}\0{name}" if given.get("dataset_name") else name), down)


def _as_run(found: LoggedModel) -> Run:
    return as_run(
        found.id,
        found.name,
        found.created,
        found.updated,
        found.tags,
        state=found.status,
        params=found.params,
        parent=found.run,
        notes=found.flavour,
    )


async def answer(caller: Caller, method: str, parts: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """`logged-models/…` by method and the parts of the path behind it."""
    if method == "POST" and parts in ([], ["search"]):
        return await (_search(caller, given) if parts else _create(caller, given))
    if not parts:
        raise MlflowError("ENDPOINT_NOT_FOUND", f"no route {method} logged-models")
    asked_for_removed = method == "GET" and str(given.get("allow_deleted")).lower() == "true"
    found = model_of(caller, parts[0], removed=asked_for_removed or (method == "DELETE" and not parts[1:]))
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
            if found.removed is None:
                await caller.ask(logged_models.RemoveLoggedModel(model=found.id))
            return {}
        case "PATCH", ["tags"]:
            message = logged_models.TagLoggedModel(model=found.id, tags={**checks.tags(pairs(given, "tags"))})
            return shape(caller, await caller.ask(message))
        case "DELETE", ["tags", key]:
            if key not in found.tags:
                raise absent(f"No tag with key '{key}' in logged model with ID '{found.id}'.")
            return shape(caller, await caller.ask(logged_models.TagLoggedModel(model=found.id, tags={key: None})))
        case "POST", ["params"]:
            params = pairs(given, "params")
            for key, value in params.items():
                if str(before := found.params.get(key, value)) != value:
                    raise invalid(
                        f"Changing param values is not allowed. Param with key='{key}' was already logged with "
                        f"value='{before}' for logged model '{found.id}'. Attempted logging new value '{value}'."
                    )
            await caller.ask(logged_models.LogModelParams(model=found.id, params={**params}))
            return {}
    raise MlflowError("ENDPOINT_NOT_FOUND", f"no route {method} logged-models/{'/'.join(parts)[:100]}")
