"""Registered models at the MLflow door: names, descriptions, tags, aliases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from quarterdeckd.doors.mlflow import checks, searching, shapes, versions
from quarterdeckd.doors.mlflow.caller import Caller, listed, pairs, text
from quarterdeckd.doors.mlflow.errors import MlflowError, invalid
from quarterdeckd.doors.mlflow.searching import Noun, as_run
from quarterdeckd.doors.mlflow.versions import PROMPT, key_of, model_of, stage_of, version_of, versions_of
from quarterstore.records import models
from quarterstore.records.faults import Conflict
from quarterstore.records.registry import Model, Version
from quarterstore.search.matching import Row
from quarterstore.search.parsing import Theirs, attributes

MODELS = Noun(
    "models",
    Theirs(
        attributes(name="name", creation_timestamp="started", last_updated_timestamp="ended", timestamp="ended"),
        ("name",),
        kinds=("tag",),
    ),
    1000,
    100,
)


def _latest(caller: Caller, model: str, stages: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The highest version of each stage."""
    found: dict[str, Version] = {}
    for each in versions_of(caller, model):
        if not stages or each.stage in stages:
            found[each.stage] = max(each, found.get(each.stage, each), key=lambda version: version.number)
    return [versions.shape(caller, each) for each in found.values()]


def _model_shape(caller: Caller, found: Model) -> dict[str, Any]:
    there = {each.number for each in versions_of(caller, found.name)}
    return {
        "name": found.name,
        "creation_timestamp": shapes.milliseconds(found.created),
        "last_updated_timestamp": shapes.milliseconds(found.updated or found.created),
        "description": found.description,
        "latest_versions": _latest(caller, found.name),
        "tags": shapes.listed(found.tags),
        "aliases": [
            {"alias": alias, "version": str(number)} for alias, number in found.aliases.items() if number in there
        ],
    }


async def create(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/create`."""
    name = checks.model(text(given, "name"))
    known = caller.view.models.get(name)
    if known is not None and known.removed is None:
        raise MlflowError("RESOURCE_ALREADY_EXISTS", f"Registered Model (name={name}) already exists.")
    made = await caller.ask(
        models.CreateModel(
            model=name, description=text(given, "description", ""), tags=checks.keys(pairs(given, "tags"))
        )
    )
    return {"registered_model": _model_shape(caller, made)}


async def get(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/get`."""
    return {"registered_model": _model_shape(caller, model_of(caller, given))}


async def rename(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/rename`."""
    found, name = model_of(caller, given), checks.model(text(given, "new_name"), "new_name")
    if name == found.name:
        return {"registered_model": _model_shape(caller, found)}
    try:
        made = await caller.ask(models.RenameModel(model=found.name, name=name))
    except Conflict as conflict:
        raise MlflowError("RESOURCE_ALREADY_EXISTS", f"Registered Model (name={name}) already exists.") from conflict
    return {"registered_model": _model_shape(caller, made)}


async def update(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/update`."""
    made = await caller.ask(
        models.DescribeModel(model=model_of(caller, given).name, description=text(given, "description", ""))
    )
    return {"registered_model": _model_shape(caller, made)}


async def delete(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/delete`."""
    await caller.ask(models.RemoveModel(model=model_of(caller, given).name))
    return {}


async def set_tag(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/set-tag`."""
    found = model_of(caller, given)
    await caller.ask(models.TagModel(model=found.name, tags={key_of(given): text(given, "value", "")}))
    return {}


async def delete_tag(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/delete-tag`."""
    found = model_of(caller, given)
    await caller.ask(models.TagModel(model=found.name, tags={text(given, "key"): None}))
    return {}


async def latest_versions(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/get-latest-versions`."""
    stages = [stage_of(str(each)) for each in listed(given, "stages")]
    return {"model_versions": _latest(caller, model_of(caller, given).name, stages)}


async def set_alias(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/alias`, POST."""
    alias = checks.alias(text(given, "alias"))
    await caller.ask(models.SetAlias(version=version_of(caller, given).id, alias=alias))
    return {}


async def by_alias(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/alias`, GET."""
    found, alias = model_of(caller, given), text(given, "alias")
    which = found.aliases.get(alias)
    if alias.lower() == "latest":
        which = max((each.number for each in versions_of(caller, found.name)), default=None)
    version = caller.view.versions.get(f"{found.name}@{which}")
    if version is None or version.removed is not None:
        raise invalid(f"Registered model alias {alias} not found.")
    return {"model_version": versions.shape(caller, version)}


async def delete_alias(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/alias`, DELETE; a word that names nothing is none afterwards either."""
    found, alias = model_of(caller, given), text(given, "alias")
    if alias in found.aliases:
        await caller.ask(models.RemoveAlias(model=found.name, alias=alias))
    return {}


async def search(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/search`: by name, tags and time."""
    rows = [
        Row(as_run(each.name, each.name, each.created, each.updated, {PROMPT: "false", **each.tags}), {})
        for each in caller.view.models
        if each.removed is None
    ]
    orders = searching.orders_of(given, MODELS, [], ["name ASC"])
    found, following = searching.found(given, MODELS, rows, orders)
    return {"registered_models": [_model_shape(caller, caller.view.models[row.run.id]) for row in found], **following}


Handle = Callable[[Caller, dict[str, Any]], Any]
ROUTES: dict[tuple[str, str], Handle] = {
    ("POST", "registered-models/create"): create,
    ("GET", "registered-models/get"): get,
    ("POST", "registered-models/rename"): rename,
    ("PATCH", "registered-models/update"): update,
    ("DELETE", "registered-models/delete"): delete,
    ("POST", "registered-models/set-tag"): set_tag,
    ("DELETE", "registered-models/delete-tag"): delete_tag,
    ("GET", "registered-models/search"): search,
    ("POST", "registered-models/get-latest-versions"): latest_versions,
    ("GET", "registered-models/get-latest-versions"): latest_versions,
    ("POST", "registered-models/alias"): set_alias,
    ("GET", "registered-models/alias"): by_alias,
    ("DELETE", "registered-models/alias"): delete_alias,
}
