"""Runs and what is logged to them at the MLflow door."""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from array import array
from typing import Annotated, Any

import msgspec

from quarterdeckd.doors.mlflow import checks, shapes
from quarterdeckd.doors.mlflow.caller import Caller, enumerated, listed, missing, number, objects, pairs, text, unfit
from quarterdeckd.doors.mlflow.errors import absent, invalid
from quarterdeckd.doors.mlflow.experiments import view_of, with_default
from quarterdeckd.doors.mlflow.logged_models import measured
from quarterdeckd.doors.mlflow.searching import Noun, limit_of
from quarterstore.records import runs
from quarterstore.records.faults import Conflict
from quarterstore.records.search import SearchRuns
from quarterstore.search.parsing import RUNS as THEIRS
from quarterstore.search.parsing import parsed

MOST_METRICS, MOST_PARAMS, MOST_TAGS, MOST_TOGETHER = 1000, 100, 100, 1000
"""mlflow.utils.validation, 3.17."""
RUNS = Noun("runs", THEIRS, 50_000, 1000)
STATES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
VIEWS = {"ACTIVE_ONLY": "active", "DELETED_ONLY": "removed", "ALL": "all"}
NAME, HISTORY = "mlflow.runName", "mlflow.log-model.history"
MODEL_FIELDS = ("artifact_path", "flavors", "utc_time_created", "run_id")


def shape(caller: Caller, run: runs.Run) -> dict[str, Any]:
    """A run as it is read."""
    known = caller.view.experiments.get(run.experiment)
    return shapes.run(run, known.id if known else "", caller.newest(run.id))


async def create(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/create`."""
    given = {**given, "experiment_id": given.get("experiment_id") or "0"}
    if given["experiment_id"] == "0":
        await with_default(caller)  # a client may name none at all
    experiment, tags = caller.experiment(given, active=True), checks.tags(pairs(given, "tags"))
    name, user = _name(text(given, "run_name", ""), tags.get(NAME, "")), text(given, "user_id", "")
    if user not in ("", shapes.NOBODY):
        tags.setdefault(shapes.USER, user)
    started = number(given, "start_time", 0)
    made = await caller.ask(
        runs.StartRun(
            experiment=experiment.name,
            run=uuid.uuid4().hex,
            name=name,
            tags={key: value for key, value in tags.items() if key != NAME},
            started=started / 1000 if started else None,
            beats=False,
        )
    )
    return {"run": shape(caller, made)}


def _name(given: str, tagged: str) -> str:
    if given and tagged and given != tagged:
        raise invalid(
            f"Both 'run_name' argument and '{NAME}' tag are specified, but with different values "
            f"(run_name='{given}', {NAME}='{tagged}')."
        )
    return given or tagged


async def get(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/get`."""
    return {"run": shape(caller, await caller.ask(runs.ShowRun(run=caller.run(given).id)))}


async def update(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/update`: state, end and name."""
    run = caller.run(given, active=True)
    state, ended, name = enumerated(given, "status", STATES), number(given, "end_time", 0), text(given, "run_name", "")
    if state in ("RUNNING", "SCHEDULED"):
        if run.state != "RUNNING":
            await caller.ask(runs.ResumeRun(run=run.id))
    elif state:
        if run.state not in ("RUNNING", "LOST"):
            await caller.ask(runs.ResumeRun(run=run.id))
        await caller.ask(runs.EndRun(run=run.id, state=state, ended=ended / 1000 if ended else None))  # type: ignore[arg-type]
    if name:
        await caller.ask(runs.RenameRun(run=run.id, name=name))
    return {"run_info": shape(caller, caller.view.runs[run.id])["info"]}


async def delete(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/delete`."""
    run = caller.run(given)
    if run.removed is None:
        await caller.ask(runs.RemoveRun(run=run.id))
    return {}


async def restore(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/restore`."""
    run = caller.run(given)
    if run.removed is not None:
        await caller.ask(runs.RestoreRun(run=run.id))
    return {}


Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Moment = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Point(msgspec.Struct):
    """A point as it mostly comes."""

    key: str
    value: float
    timestamp: Moment
    step: Whole = 0


def _points(run: str, given: list[dict[str, Any]], place: str = "") -> runs.LogMetrics:
    """Points in columns, as the deck takes them; synced before they are answered. `place` says where the request has
    the n-th of them."""
    try:
        points = msgspec.convert(given, list[Point])
    except msgspec.ValidationError:
        points = [_point(each, place.format(n)) for n, each in enumerate(given)]
    names = {name: place for place, name in enumerate(dict.fromkeys(point.key for point in points))}
    for name in names:
        first = place and place.format(next(n for n, point in enumerate(points) if point.key == name))
        checks.metric(name, f"{first}name")
    return runs.LogMetrics(
        run=run,
        batch=secrets.token_hex(12),
        keys=tuple(names),
        key=array("H", [names[point.key] for point in points]).tobytes(),
        step=array("q", [point.step for point in points]).tobytes(),
        time=array("d", [point.timestamp / 1000 for point in points]).tobytes(),
        value=array("d", [point.value for point in points]).tobytes(),
        durable=True,
    )


def _point(each: dict[str, Any], place: str) -> Point:
    """A point whose numbers come as texts, or the reason why it is none."""
    named = {f"{place}{name}": each.get(name) for name in ("key", "value", "timestamp", "step")}
    key, value = text(named, f"{place}key"), named[f"{place}value"]
    if value is None or value == "":
        raise missing(f"{place}value")
    try:
        if isinstance(value, bool):
            raise ValueError
        found = float(value)
    except (TypeError, ValueError) as error:
        raise unfit(f"{place}value", value, "a valid double (64-bit floating point)") from error
    at = number(named, f"{place}timestamp")
    if at < 0:
        raise invalid(
            f"Invalid value {at} for parameter '{place}timestamp' supplied: metric '{key}' (value={found}). Timestamp "
            "must be a nonnegative long (64-bit integer)"
        )
    return Point(key, found, at, number(named, f"{place}step", 0))


async def log_metric(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/log-metric`."""
    run = caller.run(given, active=True)
    point = _points(run.id, [given])
    of_models = measured(caller, run.id, [given])
    await caller.ask(point)
    for each in of_models:
        await caller.ask(each)
    return {}


def _new_params(run: runs.Run, params: dict[str, runs.Value]) -> dict[str, runs.Value]:
    """Those that the run has not yet; refuses what changes one."""
    for key, value in params.items():
        before = run.params.get(key)
        if before is not None and str(before) != value:
            raise invalid(
                f"Changing param values is not allowed. Param with key='{key}' was already logged with "
                f"value='{before}' for run ID='{run.id}'. Attempted logging new value '{value}'."
            )
    return {key: value for key, value in params.items() if key not in run.params}


async def _params(caller: Caller, run: runs.Run, new: dict[str, runs.Value]) -> None:
    if not new:
        return
    try:
        await caller.ask(runs.LogParams(run=run.id, params=new))
    except Conflict as conflict:
        raise invalid(f"Changing param values is not allowed. {conflict.line()}") from conflict


async def log_parameter(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/log-parameter`."""
    run = caller.run(given, active=True)
    key, value = checks.param(text(given, "key"), text(given, "value", ""))
    await _params(caller, run, _new_params(run, {key: value}))
    return {}


async def _tags(caller: Caller, run: runs.Run, tags: dict[str, str]) -> None:
    if name := tags.pop(NAME, ""):
        await caller.ask(runs.RenameRun(run=run.id, name=name))
    if tags:
        await caller.ask(runs.SetTags(run=run.id, tags={**tags}))


async def set_tag(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/set-tag`."""
    run = caller.run(given, active=True)
    key, value = checks.tag(text(given, "key"), text(given, "value", ""))
    await _tags(caller, run, {key: value})
    return {}


async def delete_tag(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/delete-tag`."""
    run, key = caller.run(given, active=True), text(given, "key")
    if key not in run.tags:
        raise absent(f"No tag with name: {key} in run with id {run.id}")
    await caller.ask(runs.SetTags(run=run.id, tags={key: None}))
    return {}


def _entry(each: dict[str, Any], place: str) -> tuple[str, str]:
    """A name and a value of a batch."""
    named = {f"{place}{name}": each.get(name) for name in ("key", "value")}
    return text(named, f"{place}key"), text(named, f"{place}value", "")


async def log_batch(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/log-batch`: its parts wait for one sync together."""
    run = caller.run(given, active=True)
    points, params, tags = objects(given, "metrics"), objects(given, "params"), objects(given, "tags")
    limits = (("metrics", points, MOST_METRICS), ("params", params, MOST_PARAMS), ("tags", tags, MOST_TAGS))
    for name, found, most in limits:
        if len(found) > most:
            raise invalid(
                f"A batch logging request can contain at most {most} {name}. Got {len(found)} {name}. "
                f"Please split up {name} across multiple requests and try again."
            )
    if len(points) + len(params) + len(tags) > MOST_TOGETHER:
        raise invalid(
            f"A batch logging request can contain at most {MOST_TOGETHER} metrics, params, and tags. "
            f"Got {len(points) + len(params) + len(tags)}."
        )
    batch = _points(run.id, points, "metrics[{}].") if points else None
    of_models = measured(caller, run.id, points)
    given_params: dict[str, runs.Value] = {}
    for place, each in enumerate(params):
        key, value = checks.param(*_entry(each, f"params[{place}]."), f"params[{place}].")
        if key in given_params:
            raise invalid(
                f"Duplicate parameter keys have been submitted: ['{key}']. Please ensure the request contains only "
                "one param value per param key."
            )
        given_params[key] = value
    new = _new_params(run, given_params)  # everything that is wrong is refused before anything is kept
    labels = dict(checks.tag(*_entry(each, f"tags[{n}]."), f"tags[{n}].") for n, each in enumerate(tags))
    await asyncio.gather(
        _params(caller, run, new),
        *([caller.ask(batch)] if batch else []),
        *(caller.ask(each) for each in of_models),
        *([_tags(caller, run, labels)] if labels else []),
    )
    return {}


async def log_model(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/log-model`: 2.x says so which models a run logged; they stand in a tag."""
    run, told = caller.run(given, active=True), text(given, "model_json")
    try:
        model = msgspec.json.decode(told, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise invalid(f"Malformed model info. \n {told[:500]} \n is not a valid JSON.") from error
    if lacking := [name for name in MODEL_FIELDS if name not in model]:
        raise invalid(f"Model json is missing mandatory fields: {', '.join(lacking)}")
    kept = {name: model[name] for name in (*MODEL_FIELDS, "model_uuid") if name in model}
    while not await _added(caller, caller.view.runs[run.id], kept):
        pass  # another request added one in between: each turn is somebody's
    return {}


async def _added(caller: Caller, run: runs.Run, model: dict[str, Any]) -> bool:
    """Whether a model could be added to the history as it stands in the run."""
    before = run.tags.get(HISTORY)
    try:
        history = msgspec.json.decode(before or "[]", type=list[Any])
    except msgspec.DecodeError as error:
        raise invalid(f"the tag {HISTORY} of run {run.id} is no list of models") from error
    name, value = checks.tag(HISTORY, json.dumps([*history, model]))
    try:
        await caller.ask(runs.SetTags(run=run.id, tags={name: value}, before={name: before}))
    except Conflict:
        return False
    return True


async def log_inputs(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/log-inputs`."""
    run = caller.run(given, active=True)
    if not (given.get("datasets") or given.get("models")):
        raise missing("datasets")
    inputs = []
    for each in objects(given, "datasets"):
        (told,) = objects({"dataset": [each.get("dataset") or {}]}, "dataset")
        inputs.append(
            runs.DatasetInput(
                name=text(told, "name"),
                digest=text(told, "digest"),
                source_type=text(told, "source_type", ""),
                source=text(told, "source", ""),
                schema=text(told, "schema", ""),
                profile=text(told, "profile", ""),
                tags=pairs(each, "tags"),
            )
        )
    models = tuple(text(each, "model_id") for each in objects(given, "models"))
    await caller.ask(runs.LogInputs(run=run.id, inputs=tuple(inputs), models=models))
    return {}


async def log_outputs(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/outputs`."""
    run = caller.run(given, active=True)
    made = tuple(
        runs.ModelOutput(model=text(each, "model_id"), step=number(each, "step", 0))
        for each in objects(given, "models")
    )
    await caller.ask(runs.LogOutputs(run=run.id, models=made))
    return {}


async def search(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`runs/search`; experiments that are not there hold no runs."""
    wanted = {str(each) for each in listed(given, "experiment_ids")}
    where = text(given, "filter", "")
    parsed(where, "mlflow", "filter")  # also where there is nothing to search
    names = tuple(each.name for each in caller.view.experiments if each.id in wanted)
    limit = limit_of(given, RUNS)
    if not names:
        return {"runs": []}
    found = await caller.ask(
        SearchRuns(
            experiments=names,
            where=where,
            order=tuple(str(each) for each in listed(given, "order_by")),
            vocabulary="mlflow",
            view=VIEWS[view_of(given, "run_view_type")],  # type: ignore[arg-type]
            limit=limit,
            after=text(given, "page_token", "") or None,
        )
    )
    told: dict[str, Any] = {"runs": [shape(caller, run) for run in found.runs]}
    return {**told, "next_page_token": found.next} if found.next else told
