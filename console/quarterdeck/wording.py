"""The command that says the same as a message: the short form where there is one, else the generated one."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from quarterstore.records import (
    compression,
    ct,
    deployments,
    feature_checks,
    features,
    governance,
    hooks,
    models,
    monitoring,
    online,
    pipelines,
    registry,
    runs,
    schedules,
    search,
    store,
    studies,
    trials,
)
from quarterstore.records.base import tag_of
from quarterstore.records.messages import BY_TAG
from quarterstore.records.places import default_home


def command_text(message: Any) -> str:
    """`qd promote churn@3 Production` of `MoveStage(version="churn@3", stage="Production")`; quoted for a shell."""
    short = SHORT.get(type(message))
    words, said = short(message) if short else (_generated(message), ())
    return shlex.join([*words, *_options(message, set(said))])


def placed(command: str, home: Path, caller: str) -> str:
    """A command that reaches the same daemon from any shell: with `--home` and `--as` where the usual ones are
    others."""
    said = ["--home", str(home)] if home != default_home() else []
    said += ["--as", caller] if caller != "owner" else []
    start, _, rest = command.partition(" ")
    return " ".join([start, shlex.join(said), rest]) if said and start == "qd" else command


def act_words(act: dict[str, Any]) -> list[tuple[str, str]]:
    """The fields of an act that are not their defaults, each in words; `act` has its tag as `type`."""
    try:
        message: Any = msgspec.convert(
            {name: value for name, value in act.items() if name != "type"}, BY_TAG[act["type"]]
        )
    except (KeyError, msgspec.ValidationError):  # as an older daemon, or a newer one, kept it
        return [(name, _said(value)) for name, value in act.items() if name != "type" and value not in EMPTY]
    return [(name.replace("_", " "), _said(value)) for name, value in _given(message).items()]


def _given(record: Any) -> dict[str, Any]:
    """The fields that are not their defaults."""
    fields = [(field, getattr(record, field.name)) for field in msgspec.structs.fields(record)]
    return {field.name: value for field, value in fields if field.required or not _is_default(field, value)}


def _said(value: Any) -> str:
    """A value without the marks of any language: parts by name, a part that has parts in brackets."""
    if isinstance(value, msgspec.Struct):
        value = _given(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_inner(one)}" for name, one in value.items() if one not in EMPTY)
    if isinstance(value, list | tuple):
        return ", ".join(_inner(one) for one in value)
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _inner(value: Any) -> str:
    several = isinstance(value, dict | list | tuple | msgspec.Struct)
    return f"({_said(value)})" if several else _said(value)


def _generated(message: Any) -> list[str]:
    noun, _, verb = tag_of(type(message)).partition(".")
    return ["qd", noun, verb.replace("_", "-")]


def _options(message: Any, said: set[str]) -> list[str]:
    """The fields that are not their defaults, as options; what is nested as JSON."""
    found: list[str] = []
    for field in msgspec.structs.fields(message):
        value = getattr(message, field.name)
        if field.name in said or (not field.required and _is_default(field, value)):
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{flag}" if value or field.name in FLAGS else f"--no-{flag}")
        elif value is not None:
            found += [f"--{flag}", value if isinstance(value, str) else _text(value)]
    return found


EMPTY: tuple[Any, ...] = (None, "", (), [], {})
FLAGS = {"skip_stage"}
"""Fields that their short form takes as a flag."""


def _is_default(field: Any, value: Any) -> bool:
    if field.default_factory is not msgspec.NODEFAULT:
        return bool(value == field.default_factory())
    return bool(value == field.default)


def _text(value: Any) -> str:
    return str(value) if isinstance(value, int | float) else msgspec.json.encode(value).decode()


Words = tuple[list[str], tuple[str, ...]]
"""The words of a command, and the fields they say."""


def _with(command: str, *names: str) -> Callable[[Any], Words]:
    return lambda message: (["qd", *command.split(), *(str(getattr(message, name)) for name in names)], names)


def _optimise(message: Any) -> Words:
    return ["qd", "optimise", message.version, f"--{message.recipe}"], ("version", "recipe")


def _canary(message: Any) -> Words:
    words, said = ["qd", "canary", message.version], ["version"]
    if message.ladder != deployments.LADDER:
        words += ["--ladder", ",".join(map(str, message.ladder))]
    said.append("ladder")
    for name in ("effect", "baseline", "latency", "soak"):
        value = getattr(message.rule, name)
        if value != getattr(deployments.CanaryRule(), name):
            words += [f"--{name}", str(value)]
    return words, (*said, "rule")


def _drift(message: Any) -> Words:
    return ["qd", "drift", message.endpoint, *(("--rule", "literal") if message.rule.literal else ())], (
        "endpoint",
        "rule",
    )


def _ct_switch(message: Any) -> Words:
    return ["qd", "ct", "on" if message.enabled else "off", message.model], ("model", "enabled")


def _traffic(message: Any) -> Words:
    window = message.window
    span = (
        f"{window / 3600:.0f}h" if not window % 3600 else f"{window / 60:.0f}m" if not window % 60 else f"{window:.0f}s"
    )
    return ["qd", "deployment", "history", message.endpoint, "--window", span], ("endpoint", "window")


def _compare(message: Any) -> Words:
    return ["qd", "compare", *message.runs], ("runs",)


def _version_diff(message: Any) -> Words:
    if message.before is None:
        return ["qd", "registry", "diff"], ()
    return ["qd", "version", "diff", message.before, message.after], ("before", "after")


def _search(message: Any) -> Words:
    words = ["qd", "runs"]
    if len(message.experiments) == 1:
        words += ["--experiment", message.experiments[0]]
    if message.order:
        words += ["--sort", ",".join(message.order)]
    return words, ("experiments", "order", "vocabulary", "view")


def _deliveries(message: Any) -> Words:
    return ["qd", "hook", "deliveries", *([message.hook] if message.hook else [])], ("hook",)


def _approve(message: Any) -> Words:
    """The command shows the evidence and sends the hash of what it showed."""
    return ["qd", "approve", message.approval], ("approval", "evidence")


def _pause(message: schedules.PauseSchedule) -> Words:
    return ["qd", "pause" if message.paused else "resume", message.name], ("name", "paused")


def _history(message: schedules.ListFirings) -> Words:
    return ["qd", "schedule", "history", *([message.name] if message.name else [])], ("name",)


def _step_log(message: pipelines.PipelineLog) -> Words:
    return ["qd", "pipeline", "logs", message.pipeline_run, *([message.step] if message.step else [])], (
        "pipeline_run",
        "step",
        "lines",
    )


def _resume(message: pipelines.ResumePipeline) -> Words:
    """As the key does it: nothing is read from the asker's disk."""
    return ["qd", "pipeline", "resume", message.pipeline_run, "--as-it-was"], ("pipeline_run",)


def _online_status(message: online.ShowOnline) -> Words:
    return ["qd", "features", "status", *([message.view] if message.view else [])], ("view",)


def _look_up(message: online.LookUp) -> Words:
    words = ["qd", "features", "online", message.view]
    for key in message.keys:
        words += ["--key", _pairs(key)]
    for feature in message.features:
        words += ["--feature", feature]
    return words, ("view", "keys", "features")


def _pairs(key: dict[str, Any]) -> str:
    plain = all("," not in str(value) for value in key.values())
    return ",".join(f"{name}={value}" for name, value in key.items()) if plain else msgspec.json.encode(key).decode()


SHORT: dict[type, Callable[[Any], Words]] = {
    store.ShowStatus: _with("status"),
    store.Diagnose: _with("doctor"),
    store.Undo: _with("undo"),
    runs.ShowRun: _with("run show", "run"),
    runs.RemoveRun: _with("run rm", "run"),
    runs.CompareRuns: _compare,
    search.SearchRuns: _search,
    studies.ShowStudy: _with("tune show", "study"),
    studies.StopStudy: _with("tune stop", "study"),
    studies.ResumeStudy: _with("tune resume", "study"),
    studies.RemoveStudy: _with("tune remove", "study"),
    pipelines.ShowPipelineRun: _with("pipeline show", "pipeline_run"),
    pipelines.PipelineLog: _step_log,
    pipelines.ResumePipeline: _resume,
    pipelines.CancelPipeline: _with("pipeline cancel", "pipeline_run"),
    pipelines.ApproveStep: _with("pipeline approve", "pipeline_run"),
    pipelines.RejectStep: _with("pipeline reject", "pipeline_run"),
    features.ShowView: _with("features show", "view"),
    online.Materialise: _with("features materialise", "view"),
    online.ShowOnline: _online_status,
    online.LookUp: _look_up,
    feature_checks.CheckParity: _with("features parity", "view"),
    feature_checks.MeasureView: _with("features stats", "view"),
    registry.ShowLineage: _with("lineage", "version"),
    models.ShowModel: _with("model show", "model"),
    registry.ListTenures: _with("registry history", "model"),
    registry.ListStageMoves: _with("registry moves", "model"),
    registry.DiffVersions: _version_diff,
    registry.ShowVersion: _with("version show", "version"),
    registry.RemoveVersion: _with("version rm", "version"),
    registry.MoveStage: _with("promote", "version", "stage"),
    governance.Approve: _approve,
    governance.Reject: _with("reject", "approval"),
    governance.ShowHead: _with("audit head"),
    governance.VerifyAudit: _with("audit verify"),
    deployments.Deploy: _with("deploy", "version"),
    deployments.StartCanary: _canary,
    deployments.RollBack: _with("rollback", "endpoint"),
    deployments.ShowTraffic: _traffic,
    trials.StartShadow: _with("shadow", "version"),
    trials.ReportShadow: _with("shadow report", "endpoint"),
    compression.Optimise: _optimise,
    monitoring.CheckDrift: _drift,
    ct.ShowPolicy: _with("ct status", "model"),
    ct.SwitchPolicy: _ct_switch,
    ct.ResumeTrigger: _with("ct resume", "model"),
    ct.StartRetrain: _with("ct retrain", "model"),
    ct.RemovePolicy: _with("ct remove", "model"),
    ct.ListPolicies: _with("ct list"),
    hooks.RemoveHook: _with("hook rm", "hook"),
    hooks.PauseHook: _with("hook pause", "hook"),
    hooks.ResumeHook: _with("hook resume", "hook"),
    hooks.TestHook: _with("hook test", "hook"),
    hooks.Redeliver: _with("hook redeliver", "delivery"),
    hooks.ListHooks: _with("hook ls"),
    hooks.ListDeliveries: _deliveries,
    schedules.ListSchedules: _with("schedule list"),
    schedules.ListFirings: _history,
    schedules.NextFirings: _with("schedule next", "name"),
    schedules.PauseSchedule: _pause,
    schedules.RemoveSchedule: _with("schedule rm", "name"),
    schedules.ResumeAll: _with("resume --all"),
}
