"""The rules of the registry: versions, stages, who was Production when."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import get_args

from msgspec.structs import replace

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterdeckd.services.evidence import cleared_by_hooks, cleared_for_production, cleared_for_staging
from quarterdeckd.services.labels import LAST, checked_prose, checked_tags
from quarterdeckd.services.needing import needed
from quarterdeckd.services.queueing import queued
from quarterdeckd.services.signatures import ORDER, diff, next_semver
from quarterstore.ledger.finding import (
    in_use,
    model_of,
    one_of,
    places_of,
    production_of,
    run_of,
    trial_at,
    version_before,
    version_of,
)
from quarterstore.ledger.state import State
from quarterstore.records import jobs, registry, traffic
from quarterstore.records.base import Event
from quarterstore.records.conversions import ConvertSpec
from quarterstore.records.faults import Conflict, Invalid, NotFound, Refused, got
from quarterstore.records.names import checked_name, checked_text, checked_word, drawn

_digest = re.compile(r"[0-9a-f]{64}\Z")
FORMATS = ("onnx", "safetensors", "skops", "pickle", "joblib")
CODE = ("pickle", "joblib")
"""Formats that run code when they are loaded, whatever is in them."""
MISSING = ("FP16", "FP32", "FP64", "BYTES")
"""Datatypes that have a value for what is missing (NaN, an empty text): only those can be left out."""
ALLOW = (
    "export it to ONNX (skl2onnx, torch.onnx), safetensors or skops; "
    "--allow-code keeps it, which is recorded, and it is never served"
)
ALLOW_SKOPS = (
    "convert it where it was fitted and register that: skl2onnx.to_onnx(model, X[:1], options={'zipmap': False}); "
    "or --allow-code keeps it, which is recorded, and qd registry convert makes its ONNX child"
)
ELSEWHERE = "elsewhere"
"""The format of a version whose files are not here: nothing is known of it but where it is."""
CONVERTING = jobs.Limits(seconds=600, memory=4 * 1024**3, disk=2 * 1024**3)
AHEAD = 60.0
"""Seconds by which another machine's clock may be before ours: what will be in Production nobody knows."""
LONGEST_SOURCE, LONGEST_NOTES, LONGEST_REJECTED = 1000, 5000, 2000


def _register(state: State, act: registry.RegisterVersion, asking: Asking) -> Decision:
    name = checked_name("model", act.model)
    _check_new(state, act)
    model = state.models.get(name)
    events: list[Event] = []
    if model is None:
        model = registry.Model(name=name, created=asking.now, latest=0)
        events.append(registry.ModelAdded(model=model))
    elif model.removed is not None:
        todo = f"bring it back with: qd models restore --model '{name}', or take its name: qd models create"
        raise Conflict(f"the model {name} was removed", field="model", next=todo)
    version = _next_version(state, model, act, asking)
    events.append(registry.VersionRegistered(version=version))
    words = f"registered {version.id} as {version.semver}"
    if version.rejected:
        words += f", REJECTED: {version.rejected}"
    if version.allow_code:
        words += f", code allowed: {act.format} that imports {_listed(act.code)}"
    return Decision(events, words, lambda after: after.versions[version.id])


def _next_version(
    state: State, model: registry.Model, act: registry.RegisterVersion, asking: Asking
) -> registry.Version:
    number = model.latest + 1
    semver, reason = _semver(state, model, act)
    return registry.Version(
        id=f"{model.name}@{number}",
        model=model.name,
        number=number,
        semver=semver,
        stage="None",
        digest=act.digest,
        size=act.size,
        format=act.format,
        signature=act.signature,
        created=asking.now,
        created_by=asking.actor,
        reason=reason,
        metrics=act.metrics,
        run=run_of(state, act.run).id if act.run else None,
        dataset=act.dataset,
        parent=version_of(state, act.parent).id if act.parent else None,
        reference=act.reference,
        golden=act.golden,
        notes=act.notes,
        tags=checked_tags(act.tags),
        allow_code=act.format in CODE or bool(act.code),
        code=act.code,
        rejected=drawn(act.rejected, longest=LONGEST_REJECTED),
        views=needed(state, act),
        on_expired=act.on_expired,
        source=act.source and checked_text("source", act.source, longest=LONGEST_SOURCE),
        logged_model=act.logged_model and one_of(state.logged_models, "logged_model", act.logged_model).id,
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing by name"


def _register_source(state: State, act: registry.RegisterSource, asking: Asking) -> Decision:
    model = model_of(state, act.model)
    number = model.latest + 1
    version = registry.Version(
        id=f"{model.name}@{number}",
        model=model.name,
        number=number,
        semver=f"0.0.{number}",
        stage="None",
        digest="",
        size=0,
        format=ELSEWHERE,
        signature=registry.Signature(inputs=(), outputs=()),
        created=asking.now,
        created_by=asking.actor,
        reason="kept by reference: its signature is not known here",
        run=act.run and checked_text("run", act.run),
        source=checked_text("source", act.source, longest=LONGEST_SOURCE),
        notes=checked_prose("notes", act.notes, longest=LONGEST_NOTES),
        tags=checked_tags(act.tags),
        logged_model=act.logged_model and one_of(state.logged_models, "logged_model", act.logged_model).id,
    )
    event = registry.VersionRegistered(version=version)
    return Decision([event], f"registered {version.id} by reference", lambda after: after.versions[version.id])


def _convert(state: State, act: registry.ConvertVersion, asking: Asking) -> Decision:
    version = version_of(state, act.version)
    if version.format != "skops":
        raise Refused(f"{version.id} is {version.format}, expected skops", field="version")
    if version.golden is None:
        todo = "register it with --sample ROWS.json"
        raise Refused(f"{version.id} has no golden rows to compare on", field="version", next=todo)
    for other in state.jobs:
        if other.kind == "convert" and other.subject == version.id and other.state in ("QUEUED", "RUNNING"):
            raise Conflict(f"{other.id} does this already", field="version")
    spec = ConvertSpec(
        version=version.id,
        model=version.digest,
        digest=version.digest,
        golden=version.golden,
        signature=version.signature,
        code=version.code,
    )
    words = f"converting {version.id}"
    return queued(asking, "convert", version.id, spec, words, CONVERTING)


def _describe(state: State, act: registry.DescribeVersion, asking: Asking) -> Decision:
    version = version_of(state, act.version)
    event = registry.VersionDescribed(
        version=version.id, notes=checked_prose("notes", act.notes, longest=LONGEST_NOTES), at=asking.now
    )
    return Decision([event], f"described {version.id}", lambda after: after.versions[version.id])


def _check_new(state: State, act: registry.RegisterVersion) -> None:
    if act.format not in FORMATS:
        raise got("format", act.format, " or ".join(FORMATS))
    for field in ("digest", "reference", "golden"):
        value = getattr(act, field)
        if value is not None and not _digest.match(value):
            raise got(field, value, "a SHA-256 in hex")
    if (act.format in CODE or act.code) and not act.allow_code:
        raise Refused(f"got {act.format} that runs code when it is loaded", field="file", next=ALLOW)
    for side in ("input", "output"):
        if not getattr(act.signature, f"{side}s"):
            raise Invalid(f"no {side} schema (give --schema or a sample)", field="signature")
    for tensor in act.signature.inputs:
        if tensor.optional and tensor.datatype not in MISSING:
            raise got(f"signature.inputs.{tensor.name}", f"optional {tensor.datatype}", f"one of {', '.join(MISSING)}")
    for metric in act.metrics:
        if not math.isfinite(metric.value):
            raise got(f"metrics.{metric.name}", metric.value, "a finite number")
    if act.notes:
        checked_text("notes", act.notes, longest=2000)


def _semver(state: State, model: registry.Model, act: registry.RegisterVersion) -> tuple[str, str]:
    if act.bump not in ("auto", *ORDER):
        raise got("bump", act.bump, "auto, patch, minor or major")
    former = [each for each in state.versions if each.model == model.name and each.format != ELSEWHERE]
    if not former:
        return "1.0.0", "the first version"
    base = former[-1]
    changed = diff(base.signature, act.signature)
    bump = changed.bump if act.bump == "auto" else act.bump
    words = "; ".join(changed.words) or "the same signature, retrained"
    if ORDER.index(bump) < ORDER.index(changed.bump):
        raise Refused(f"got {bump}, expected {changed.bump}: {words}", field="bump")
    highest = max((version.semver for version in former), key=lambda text: tuple(map(int, text.split("."))))
    return next_semver(highest, bump), f"{bump}: {words} (against {base.id})"  # type: ignore[arg-type]


def _move(state: State, act: registry.MoveStage, asking: Asking) -> Decision:
    version = version_of(state, act.version, environment=act.environment)
    checked_word("environment", act.environment)
    act = replace(act, reason=act.reason and checked_text("reason", act.reason, longest=1000))
    if act.stage not in get_args(registry.Stage):
        raise got("stage", act.stage, ", ".join(registry.STAGES))
    champion = production_of(state, version.model, act.environment)
    if act.former is not None and act.former != (champion.id if champion else "none"):
        raise Conflict(
            f"got {champion.id if champion else 'none'} in Production by now, expected {act.former}", field="former"
        )
    places = places_of(state, version)
    if version.stage == act.stage and (act.stage != "Production" or act.environment in places):
        raise Conflict(f"{version.id} is in {act.stage} already", field="stage")
    used_at = in_use(state, version.id)
    if version.stage == "Production" and act.stage != "Production" and used_at is not None:
        raise Refused(
            f"{version.id} is live at {used_at}",
            field="stage",
            next=f"deploy another version, or qd {_down(state, used_at)}",
        )
    events: list[Event] = []
    skipped = act.stage == "Production" and version.stage in ("None", "Archived")
    if skipped and not (act.skip_stage and act.reason) and not asking.chained:
        raise Refused(
            f"{version.id} is in {version.stage}", field="stage", next="Staging first, or --skip-stage --reason R"
        )
    if act.stage == "Staging":
        events += cleared_for_staging(state, version, act.reason)
    if act.stage == "Production":
        events += cleared_for_production(state, version, act.environment, asking, act.reason)
        events += to_production(version, champion, act, asking, skipped=skipped)
    else:
        leaving = [replace(act, environment=place) for place in places] or [act]
        events += [_moved(version, act.stage, each, asking, skipped=False) for each in leaving]
    cleared_by_hooks(state, version, act.stage, act.environment, asking)
    words = [f"moved {version.id} from {version.stage} to {act.stage}"]
    if act.stage == "Production":
        words += traffic.beside(version, act.environment, state.deployments)
    return Decision(events, "; ".join(words), lambda after: after.versions[version.id])


def _down(state: State, endpoint: str) -> str:
    """What takes a version's traffic away there."""
    deployment = state.deployments[endpoint]
    way_back = deployment.canary or deployment.pending or trial_at(state, endpoint) or version_before(state, deployment)
    return f"rollback {endpoint}" if way_back else f"deployments stop --endpoint {endpoint}"


def to_production(
    version: registry.Version,
    champion: registry.Version | None,
    act: registry.MoveStage,
    asking: Asking,
    *,
    skipped: bool,
) -> list[Event]:
    """The champion steps down and the version takes its place: two moves, one entry."""
    events: list[Event] = []
    if champion is not None and champion.id != version.id:
        step_down = replace(act, reason=f"{version.id} takes its place")
        events.append(_moved(champion, "Archived", step_down, asking, skipped=False))
    events.append(_moved(version, "Production", act, asking, skipped=skipped))
    return events


def _moved(
    version: registry.Version, after: registry.Stage, act: registry.MoveStage, asking: Asking, *, skipped: bool
) -> registry.StageMoved:
    return registry.StageMoved(
        version=version.id,
        before=version.stage,
        after=after,
        environment=act.environment,
        at=asking.now,
        asked_by=asking.actor,
        reason=act.reason,
        skipped=skipped,
        approval=asking.approval,
        approved_by=asking.approved_by,
    )


def _remove(state: State, act: registry.RemoveVersion, asking: Asking) -> Decision:
    version = version_of(state, act.version)
    used_at = in_use(state, version.id)
    if version.stage == "Production" or used_at is not None:
        where = f"live at {used_at}" if used_at else "in Production"
        raise Refused(f"{version.id} is {where}", field="version")
    event = registry.VersionRemoved(version=version.id, at=asking.now)
    return Decision([event], f"removed {version.id}", lambda after: after.versions[version.id])


def _restore(state: State, act: registry.RestoreVersion, asking: Asking) -> Decision:
    version = version_of(state, act.version, removed=True)
    if version.removed is None:
        raise Conflict(f"{version.id} is not removed", field="version")
    if version.freed is not None and not _kept_by_another(state, version):
        raise Refused(f"the file of {version.id} was freed by qd gc", field="version", next="register the file again")
    event = registry.VersionRestored(version=version.id)
    return Decision([event], f"restored {version.id}", lambda after: after.versions[version.id])


def _kept_by_another(state: State, version: registry.Version) -> bool:
    """Whether every file of a version is one that another version still has."""
    others = [each for each in state.versions if each.freed is None]
    kept = {digest for each in others for digest in (each.digest, each.reference, each.golden)}
    return kept >= {version.digest, version.reference, version.golden} - {None}


def _tag(state: State, act: registry.TagVersion, asking: Asking) -> Decision:
    version = version_of(state, act.version)
    event = registry.VersionTagged(version=version.id, tags=checked_tags(act.tags))
    return Decision([event], f"tagged {version.id}", lambda after: after.versions[version.id])


def _versions(state: State, query: registry.ListVersions, asking: Asking) -> list[registry.Version]:
    if query.model is not None:
        model_of(state, query.model, removed=query.removed)
    found = [
        version
        for version in state.versions
        if (query.model is None or version.model == query.model)
        and (query.stage is None or version.stage == query.stage)
        and (query.removed or version.removed is None)
    ]
    return sorted(found, key=lambda version: (version.created, version.number), reverse=True)


def _at(state: State, query: registry.ProductionAt, asking: Asking) -> registry.Tenure:
    model_of(state, query.model)
    if query.at > asking.now + AHEAD:
        raise got("at", datetime.fromtimestamp(min(query.at, LAST - 1), UTC).isoformat(), "a time that has been")
    for tenure in state.tenures:
        if (tenure.model, tenure.environment) != (query.model, query.environment):
            continue
        if tenure.since <= query.at and (tenure.until is None or query.at < tenure.until):
            return tenure
    raise NotFound("nothing in Production then", field="at")


def _history(state: State, query: registry.ListTenures, asking: Asking) -> list[registry.Tenure]:
    model_of(state, query.model)
    return sorted((tenure for tenure in state.tenures if tenure.model == query.model), key=lambda tenure: tenure.since)


def _moves(state: State, query: registry.ListStageMoves, asking: Asking) -> list[registry.StageMove]:
    model = model_of(state, query.model)
    wanted = version_of(state, query.version, removed=True).id if query.version else None
    found = (move for move in state.stage_moves if move.model == model.name and wanted in (None, move.version))
    return sorted(found, key=lambda move: move.entry)


def _show(state: State, query: registry.ShowVersion, asking: Asking) -> registry.Version:
    return version_of(state, query.version, removed=True)


RULES: Rules = {
    registry.RegisterVersion: _register,
    registry.RegisterSource: _register_source,
    registry.ConvertVersion: _convert,
    registry.DescribeVersion: _describe,
    registry.MoveStage: _move,
    registry.RemoveVersion: _remove,
    registry.RestoreVersion: _restore,
    registry.TagVersion: _tag,
}
ANSWERS: Answerers = {
    registry.ListModels: lambda state, query, asking: sorted(
        (model for model in state.models if query.removed or model.removed is None), key=lambda model: model.name
    ),
    registry.ListVersions: _versions,
    registry.ShowVersion: _show,
    registry.ProductionAt: _at,
    registry.ListTenures: _history,
    registry.ListStageMoves: _moves,
}
