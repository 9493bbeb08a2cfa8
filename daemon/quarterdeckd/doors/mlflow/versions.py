"""Versions of registered models at the MLflow door; a stage is changed by the deck's own rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

from msgspec.structs import replace

from quarterdeckd.doors.mlflow import checks, searching, shapes, sources
from quarterdeckd.doors.mlflow.caller import Caller, pairs, text
from quarterdeckd.doors.mlflow.errors import MlflowError, absent, invalid
from quarterdeckd.doors.mlflow.searching import Noun, as_run
from quarterstore.records import governance, registry
from quarterstore.records.faults import Conflict, Corrupt, Failed, Invalid, NeedsApproval, Refused, TimedOut
from quarterstore.records.registry import STAGES, Model, Version
from quarterstore.records.runs import Artefact, ShowRun
from quarterstore.records.wire import plain
from quarterstore.search.matching import Row
from quarterstore.search.parsing import Theirs, attributes

REASON = "asked for over the MLflow door"
WHY = "quarterdeck.by_reference"
"""A tag that says why the ONNX file of a version is not served."""
PROMPT = "mlflow.prompt.is_prompt"
"""A tag that 3.x clients ask of every model, also of those that never had it."""
VERSIONS = Noun(
    "versions",
    Theirs(
        {
            **attributes(name="name", source_path="notes", run_id="job"),
            **attributes(creation_timestamp="started", last_updated_timestamp="ended"),
            "version_number": ("metric", "version_number"),
        },
        ("name", "run_id"),
        kinds=("tag",),
    ),
    200_000,
    10_000,
)


def model_of(caller: Caller, given: dict[str, Any]) -> Model:
    name = text(given, "name")
    found = caller.view.models.get(name)
    if found is None or found.removed is not None:
        raise absent(f"Registered Model with name={name} not found")
    return found


def version_of(caller: Caller, given: dict[str, Any]) -> Version:
    name, which = text(given, "name"), str(given.get("version", ""))
    if not which.isdecimal():
        raise invalid(f"Parameter 'version' must be an integer, got '{which}'.")
    found = caller.view.versions.get(f"{name}@{int(which)}")
    if found is None or found.removed is not None:
        raise absent(f"Model Version (name={name}, version={which}) not found")
    return found


def key_of(given: dict[str, Any]) -> str:
    return checks.within(checks.key(text(given, "key")), checks.LONGEST_KEY, "key")


def versions_of(caller: Caller, model: str) -> list[Version]:
    return [each for each in caller.view.versions if each.model == model and each.removed is None]


def shape(caller: Caller, found: Version) -> dict[str, Any]:
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
        **({"model_id": found.logged_model} if found.logged_model else {}),
        "tags": shapes.listed(found.tags),
        "aliases": [alias for alias, number in aliases.items() if number == found.number],
    }


def of_run(caller: Caller, run: str) -> list[dict[str, Any]]:
    """The versions that a run made."""
    return [shape(caller, each) for each in caller.view.versions if each.run == run and each.removed is None]


async def create_version(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/create`: of the one ONNX file of its source where that lies here, else by the source alone."""
    found = model_of(caller, given)
    source = sources.resolved(caller, text(given, "source"), text(given, "run_id", ""), text(given, "model_id", ""))
    by_source = registry.RegisterSource(
        model=found.name,
        source=source.uri,
        run=source.run,
        notes=text(given, "description", ""),
        tags=checks.keys(pairs(given, "tags")),
        logged_model=source.logged,
    )
    if source.file is not None and (source.run is None or source.run in caller.view.runs):
        try:
            return {"model_version": shape(caller, await _of_file(caller, by_source, source.file, source.beside))}
        except (Invalid, Refused, Failed, Corrupt, TimedOut) as fault:
            by_source = replace(by_source, tags={**by_source.tags, WHY: fault.line()})
    return {"model_version": shape(caller, await caller.ask(by_source))}


async def _of_file(
    caller: Caller, by_source: registry.RegisterSource, file: Artefact, beside: Sequence[Artefact]
) -> Version:
    """A version that can be served: what the file takes and gives is read off it, the metrics are its run's."""
    metrics = (await caller.ask(ShowRun(run=by_source.run))).metrics if by_source.run else {}
    made: Version = await caller.ask(
        registry.RegisterVersion(
            model=by_source.model,
            digest=file.digest,
            size=file.size,
            beside={each.path.rpartition("/")[2]: each.digest for each in beside},
            format="onnx",
            signature=registry.Signature(inputs=(), outputs=()),
            metrics=tuple(registry.Metric(name=key, value=value) for key, value in metrics.items() if isfinite(value)),
            run=by_source.run,
            notes=by_source.notes,
            tags=by_source.tags,
            source=by_source.source,
            logged_model=by_source.logged_model,
        )
    )
    return made


async def get_version(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/get`."""
    return {"model_version": shape(caller, version_of(caller, given))}


async def update_version(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/update`."""
    found = version_of(caller, given)
    made = await caller.ask(registry.DescribeVersion(version=found.id, notes=text(given, "description", "")))
    return {"model_version": shape(caller, made)}


async def delete_version(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/delete`."""
    await caller.ask(registry.RemoveVersion(version=version_of(caller, given).id))
    return {}


async def set_version_tag(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/set-tag`."""
    found = version_of(caller, given)
    await caller.ask(registry.TagVersion(version=found.id, tags={key_of(given): text(given, "value", "")}))
    return {}


async def delete_version_tag(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/delete-tag`."""
    found = version_of(caller, given)
    await caller.ask(registry.TagVersion(version=found.id, tags={text(given, "key"): None}))
    return {}


async def download_uri(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/get-download-uri`: a version that was made of another has that one's files."""
    found = version_of(caller, given)
    for _ in range(100):
        above = sources.version_at(caller, found.source) if found.source.startswith("models:/") else None
        if above is None:
            break
        found = above
    return {"artifact_uri": found.source or f"quarterdeck:/{found.digest}"}


async def search_versions(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/search`: by name, number, run, source, tags and time."""
    rows = [
        Row(
            as_run(
                each.id,
                each.model,
                each.created,
                each.updated,
                {PROMPT: "false", **each.tags},
                notes=each.source,
                job=each.run or "",
            ),
            {"version_number": float(each.number)},
        )
        for each in caller.view.versions
        if each.removed is None
    ]
    orders = searching.orders_of(given, VERSIONS, ["last_updated_timestamp DESC"], ["name ASC", "version_number DESC"])
    found, following = searching.found(given, VERSIONS, rows, orders)
    return {"model_versions": [shape(caller, caller.view.versions[row.run.id]) for row in found], **following}


def stage_of(given: str) -> registry.Stage:
    found = next((stage for stage in STAGES if stage.lower() == given.lower()), None)
    if found is None:
        raise invalid(f"Invalid Model Version stage: {given}. Value must be one of {', '.join(STAGES)}.")
    return found


async def transition(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`model-versions/transition-stage`: the deck's own act. Where another person has to approve, it is asked for, and
    the refusal names the approval."""
    found, stage = version_of(caller, given), stage_of(text(given, "stage"))
    if found.stage != stage:
        act = registry.MoveStage(version=found.id, stage=stage, skip_stage=True, reason=REASON)
        try:
            await caller.ask(act)
        except NeedsApproval as needed:
            raise MlflowError("PERMISSION_DENIED", await _asked_for(caller, act)) from needed
    if stage == "Staging" and given.get("archive_existing_versions") in (True, "true"):
        others = [each for each in versions_of(caller, found.model) if each.stage == stage and each.id != found.id]
        for each in others:
            await caller.ask(registry.MoveStage(version=each.id, stage="Archived", reason=REASON))
    return {"model_version": shape(caller, caller.view.versions[found.id])}


async def _asked_for(caller: Caller, act: registry.MoveStage) -> str:
    proposal = governance.Propose(act=plain(act), reason=REASON)
    try:
        approval = await caller.ask(proposal)
    except Conflict as waiting:
        return f"{waiting.line()}; {act.version} goes to {act.stage} when another person approves it"
    return f"{approval.id} waits for another person: {act.version} goes to {act.stage} with qd approve {approval.id}"


Handle = Callable[[Caller, dict[str, Any]], Any]
ROUTES: dict[tuple[str, str], Handle] = {
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
