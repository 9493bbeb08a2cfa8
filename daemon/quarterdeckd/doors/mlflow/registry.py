"""Registered models and their versions at the MLflow door; a stage is changed by the deck's own rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from msgspec.structs import replace

from quarterdeckd.doors.mlflow import checks, shapes
from quarterdeckd.doors.mlflow.caller import Caller, listed, pairs, text
from quarterdeckd.doors.mlflow.errors import MlflowError, absent, invalid
from quarterdeckd.doors.mlflow.experiments import limit_of
from quarterstore.records import governance, models, registry
from quarterstore.records.faults import Conflict, NeedsApproval
from quarterstore.records.registry import STAGES, Model, Version
from quarterstore.records.runs import Run
from quarterstore.records.wire import plain
from quarterstore.search.matching import Row, test_of
from quarterstore.search.paging import fingerprint, key_from, page, written
from quarterstore.search.parsing import ordered, parsed

REASON = "asked for over the MLflow door"
LOCAL = re.compile(r"(?:file:|/|\.|[A-Za-z]:\\|[^:]*\Z)")
"""Sources on this machine's disk: none is opened, and none is taken."""
PROMPT = "mlflow.prompt.is_prompt"
"""A tag that 3.x clients ask of every model, also of those that never had it."""
WORDS = (
    ("last_updated_timestamp", "ended"),
    ("creation_timestamp", "started"),
    ("timestamp", "ended"),
    ("source_path", "notes"),
    ("run_id", "parent"),
)
"""Their columns as those of a run: one language serves both."""


def _model(caller: Caller, given: dict[str, Any]) -> Model:
    name = text(given, "name")
    found = caller.view.models.get(name)
    if found is None or found.removed is not None:
        raise absent(f"Registered Model with name={name} not found")
    return found


def _version(caller: Caller, given: dict[str, Any]) -> Version:
    name, which = text(given, "name"), str(given.get("version", ""))
    if not which.isdecimal():
        raise invalid(f"Parameter 'version' must be an integer, got '{which}'.")
    found = caller.view.versions.get(f"{name}@{int(which)}")
    if found is None or found.removed is not None:
        raise absent(f"Model Version (name={name}, version={which}) not found")
    return found


def _key(given: dict[str, Any]) -> str:
    return checks.within(checks.key(text(given, "key")), checks.LONGEST_KEY, "key")


def _versions_of(caller: Caller, model: str) -> list[Version]:
    return [each for each in caller.view.versions if each.model == model and each.removed is None]


def _shape(caller: Caller, found: Version) -> dict[str, Any]:
    aliases = caller.view.models[found.model].aliases
    source = found.source or f"quarterdeck:/{found.digest}"
    return {
        "name": found.model,
        "version": str(found.number),
        "creation_timestamp": shapes.milliseconds(found.created),
        "last_updated_timestamp": shapes.milliseconds(found.updated or found.created),
        "user_id": found.created_by,
        "current_stage": found.stage,
        "description": found.notes,
        "source": source,
        "run_id": found.run or "",
        "status": "READY",
        "tags": shapes.listed(found.tags),
        "aliases": [alias for alias, number in aliases.items() if number == found.number],
    }


def _latest(caller: Caller, model: str, stages: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The highest version of each stage."""
    found: dict[str, Version] = {}
    for each in _versions_of(caller, model):
        if not stages or each.stage in stages:
            found[each.stage] = max(each, found.get(each.stage, each), key=lambda version: version.number)
    return [_shape(caller, each) for each in found.values()]


def _model_shape(caller: Caller, found: Model) -> dict[str, Any]:
    there = {each.number for each in _versions_of(caller, found.name)}
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
        models.CreateModel(model=name, description=text(given, "description", ""), tags=pairs(given, "tags"))
    )
    return {"registered_model": _model_shape(caller, made)}


async def get(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/get`."""
    return {"registered_model": _model_shape(caller, _model(caller, given))}


async def rename(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/rename`."""
    found, name = _model(caller, given), checks.model(text(given, "new_name"), "new_name")
    try:
        made = await caller.ask(models.RenameModel(model=found.name, name=name))
    except Conflict as conflict:
        raise MlflowError("RESOURCE_ALREADY_EXISTS", f"Registered Model (name={name}) already exists.") from conflict
    return {"registered_model": _model_shape(caller, made)}


async def update(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/update`."""
    made = await caller.ask(
        models.DescribeModel(model=_model(caller, given).name, description=text(given, "description", ""))
    )
    return {"registered_model": _model_shape(caller, made)}


async def delete(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/delete`."""
    await caller.ask(models.RemoveModel(model=_model(caller, given).name))
    return {}


async def set_tag(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/set-tag`."""
    found = _model(caller, given)
    await caller.ask(models.TagModel(model=found.name, tags={_key(given): text(given, "value", "")}))
    return {}


async def delete_tag(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/delete-tag`."""
    found = _model(caller, given)
    await caller.ask(models.TagModel(model=found.name, tags={text(given, "key"): None}))
    return {}


async def latest_versions(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/get-latest-versions`."""
    stages = [_stage(str(each)) for each in listed(given, "stages")]
    return {"model_versions": _latest(caller, _model(caller, given).name, stages)}


async def set_alias(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/alias`, POST."""
    alias = checks.alias(text(given, "alias"))
    await caller.ask(models.SetAlias(version=_version(caller, given).id, alias=alias))
    return {}


async def by_alias(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/alias`, GET."""
    found, alias = _model(caller, given), text(given, "alias")
    version = caller.view.versions.get(f"{found.name}@{found.aliases.get(alias)}")
    if version is None or version.removed is not None:
        raise invalid(f"Registered model alias {alias} not found.")
    return {"model_version": _shape(caller, version)}


async def delete_alias(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/alias`, DELETE; a word that names nothing is none afterwards either."""
    found, alias = _model(caller, given), text(given, "alias")
    if alias in found.aliases:
        await caller.ask(models.RemoveAlias(model=found.name, alias=alias))
    return {}


async def search(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`registered-models/search`: by name, tags and time."""
    rows = [
        Row(_as_run(each.name, each.name, each.created, each.updated, each.tags), {})
        for each in caller.view.models
        if each.removed is None
    ]
    found, token = _found(given, rows, [], ["name"], 100)
    told: dict[str, Any] = {
        "registered_models": [_model_shape(caller, caller.view.models[row.run.id]) for row in found]
    }
    return {**told, "next_page_token": token} if token else told


def _as_run(id_: str, name: str, created: float, updated: float | None, tags: dict[str, str]) -> Run:
    """A model or a version in the columns of a run."""
    return Run(
        id=id_,
        experiment="",
        name=name,
        state="FINISHED",
        started=created * 1000,
        ended=(updated or created) * 1000,
        actor="",
        tags={PROMPT: "false", **tags},
    )


def _found(
    given: dict[str, Any], rows: list[Row], default: list[str], then: list[str], limit: int
) -> tuple[list[Row], str | None]:
    """A page of what a filter string holds of, and the token of the next; `then` sorts what is equal."""
    filter_ = text(given, "filter", "")
    orders = [*([str(each) for each in listed(given, "order_by")] or default), *then]
    tree = parsed(_ours(filter_), "deck", "filter")
    if tree is not None:
        test = test_of(tree)
        rows = [row for row in rows if test(row)]
    sorting = [ordered(_ours(each), "deck", "order_by") for each in orders]
    name, token = fingerprint("registry", filter_, orders), text(given, "page_token", "")
    after = key_from(token, name, sorting) if token else None
    found, following = page(rows, sorting, limit_of(given, limit), after)
    return found, None if following is None else written(following, name)


def _ours(expression: str) -> str:
    """Their words outside of quotes as ours."""
    parts = re.split(r"('[^']*'|\"[^\"]*\")", expression)
    for place in range(0, len(parts), 2):
        for theirs, ours in WORDS:
            parts[place] = re.sub(rf"\b{theirs}\b", ours, parts[place])
    return "".join(parts)


async def create_version(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/create`: kept by its source, which is never opened."""
    found, source = _model(caller, given), text(given, "source", "")
    _check_source(source)
    made = await caller.ask(
        registry.RegisterSource(
            model=found.name,
            source=source,
            run=text(given, "run_id", "") or None,
            notes=text(given, "description", ""),
            tags=pairs(given, "tags"),
        )
    )
    return {"model_version": _shape(caller, made)}


def _check_source(source: str) -> None:
    if LOCAL.match(source):
        raise invalid(
            f"Invalid model version source: '{source}'. To use a local path as a model version source, the run_id "
            "request parameter has to be specified and the local path has to be contained within the artifact "
            "directory of the run specified by the run_id."
        )
    path = source
    while (plainer := unquote_plus(path)) != path:
        path = plainer
    parts = urlsplit(path).path.split("/")
    if "\0" in path or ".." in path.split("/") or "." in parts:
        raise invalid(
            f"Invalid model version source: '{source}'. If supplying a source as an http, https, local file path, "
            "ftp, objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path "
            "references present. Please provide an absolute path."
        )


async def get_version(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/get`."""
    return {"model_version": _shape(caller, _version(caller, given))}


async def update_version(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/update`."""
    found = _version(caller, given)
    made = await caller.ask(registry.DescribeVersion(version=found.id, notes=text(given, "description", "")))
    return {"model_version": _shape(caller, made)}


async def delete_version(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/delete`."""
    await caller.ask(registry.RemoveVersion(version=_version(caller, given).id))
    return {}


async def set_version_tag(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/set-tag`."""
    found = _version(caller, given)
    await caller.ask(registry.TagVersion(version=found.id, tags={_key(given): text(given, "value", "")}))
    return {}


async def delete_version_tag(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/delete-tag`."""
    found = _version(caller, given)
    await caller.ask(registry.TagVersion(version=found.id, tags={text(given, "key"): None}))
    return {}


async def download_uri(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/get-download-uri`: a version that was made of another has that one's files."""
    found = _version(caller, given)
    for _ in range(100):
        name, _, which = found.source.removeprefix("models:/").rpartition("/")
        above = caller.view.versions.get(f"{name}@{which}") if found.source.startswith("models:/") else None
        if above is None:
            break
        found = above
    return {"artifact_uri": found.source or f"quarterdeck:/{found.digest}"}


async def search_versions(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/search`: by name, number, run, source, tags and time."""
    rows = [
        Row(
            replace(
                _as_run(each.id, each.model, each.created, each.updated, each.tags),
                notes=each.source,
                parent=each.run,
            ),
            {"version_number": float(each.number)},
        )
        for each in caller.view.versions
        if each.removed is None
    ]
    found, token = _found(given, rows, ["ended DESC"], ["name ASC", "version_number DESC"], 10_000)
    told: dict[str, Any] = {"model_versions": [_shape(caller, caller.view.versions[row.run.id]) for row in found]}
    return {**told, "next_page_token": token} if token else told


def _stage(given: str) -> registry.Stage:
    found = next((stage for stage in STAGES if stage.lower() == given.lower()), None)
    if found is None:
        raise invalid(f"Invalid Model Version stage: {given}. Value must be one of {', '.join(STAGES)}.")
    return found


async def transition(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/transition-stage`: the deck's own act. Where another person has to approve, it is asked for, and
    the refusal names the approval."""
    found, stage = _version(caller, given), _stage(text(given, "stage"))
    if found.stage != stage:
        act = registry.MoveStage(version=found.id, stage=stage, skip_stage=True, reason=REASON)
        try:
            await caller.ask(act)
        except NeedsApproval as needed:
            raise MlflowError("PERMISSION_DENIED", await _asked_for(caller, act)) from needed
    if stage == "Staging" and given.get("archive_existing_versions") in (True, "true"):
        others = [each for each in _versions_of(caller, found.model) if each.stage == stage and each.id != found.id]
        for each in others:
            await caller.ask(registry.MoveStage(version=each.id, stage="Archived", reason=REASON))
    return {"model_version": _shape(caller, caller.view.versions[found.id])}


async def _asked_for(caller: Caller, act: registry.MoveStage) -> str:
    proposal = governance.Propose(act=plain(act), reason=REASON)
    try:
        approval = await caller.ask(proposal)
    except Conflict as waiting:
        return f"{waiting.line()}; {act.version} goes to {act.stage} when another person approves it"
    return f"{approval.id} waits for another person: {act.version} goes to {act.stage} with qd approve {approval.id}"


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
    ("POST", "model-versions/create"): create_version,
    ("GET", "model-versions/get"): get_version,
    ("PATCH", "model-versions/update"): update_version,
    ("DELETE", "model-versions/delete"): delete_version,
    ("POST", "model-versions/set-tag"): set_version_tag,
    ("DELETE", "model-versions/delete-tag"): delete_version_tag,
    ("GET", "model-versions/search"): search_versions,
    ("GET", "model-versions/get-download-uri"): download_uri,
    ("POST", "model-versions/transition-stage"): transition,
}
