"""Experiments at the MLflow door."""

from __future__ import annotations

from typing import Any

from quarterdeckd.doors.mlflow import checks, shapes
from quarterdeckd.doors.mlflow.caller import Caller, listed, missing, number, pairs, text
from quarterdeckd.doors.mlflow.errors import MlflowError, absent, invalid
from quarterstore.records import experiments
from quarterstore.records.experiments import Experiment
from quarterstore.records.faults import Conflict
from quarterstore.records.runs import Run
from quarterstore.search.matching import Row, test_of
from quarterstore.search.paging import fingerprint, key_from, page, written
from quarterstore.search.parsing import ordered, parsed

VIEWS = ("ACTIVE_ONLY", "DELETED_ONLY", "ALL")
DEFAULT = "Default"
MOST = 50_000
MOST_SEARCHED = 20


async def with_default(caller: Caller) -> None:
    """MLflow's clients expect an experiment 0 to be there."""
    if DEFAULT not in caller.view.experiments:
        try:
            await caller.ask(experiments.CreateExperiment(name=DEFAULT))
        except Conflict:
            return  # another request was quicker


def _check_location(given: str) -> None:
    """Files are kept by the daemon wherever they were asked to be; what names no place is refused as MLflow does."""
    if given.startswith("runs:"):
        raise invalid(f"Artifact location cannot be a runs:/ URI. Given: '{given[:200]}'")
    if "#" in given:
        raise invalid("'artifact_location' URL can't include fragments or params.")


async def create(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`experiments/create`."""
    name = checks.experiment(text(given, "name"))
    _check_location(text(given, "artifact_location", ""))
    await with_default(caller)
    found = caller.view.experiments.get(name)
    if found is not None:
        state = "" if found.removed is None else " in deleted state. You can restore or permanently delete it"
        raise MlflowError("RESOURCE_ALREADY_EXISTS", f"Experiment(name={name}) already exists{state}.")
    made = await caller.ask(experiments.CreateExperiment(name=name, tags=pairs(given, "tags")))
    return {"experiment_id": made.id}


async def get(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`experiments/get`."""
    return {"experiment": shapes.experiment(caller.experiment(given))}


async def get_by_name(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`experiments/get-by-name`."""
    name = text(given, "experiment_name")
    if name == DEFAULT:
        await with_default(caller)
    found = caller.view.experiments.get(name)
    if found is None:
        raise absent(f"Could not find experiment with name '{name}'")
    return {"experiment": shapes.experiment(found)}


async def update(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`experiments/update`: another name."""
    found = caller.experiment(given, active=True)
    name = checks.experiment(text(given, "new_name"))
    if name != found.name:
        try:
            await caller.ask(experiments.RenameExperiment(experiment=found.name, name=name))
        except Conflict as conflict:
            raise MlflowError("RESOURCE_ALREADY_EXISTS", f"Experiment(name={name}) already exists.") from conflict
    return {}


async def delete(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`experiments/delete`."""
    await caller.ask(experiments.RemoveExperiment(experiment=caller.experiment(given, active=True).name))
    return {}


async def restore(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`experiments/restore`."""
    await caller.ask(experiments.RestoreExperiment(experiment=caller.experiment(given).name))
    return {}


async def set_tag(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`experiments/set-experiment-tag`."""
    found = caller.experiment(given, active=True)
    key = checks.within(checks.key(text(given, "key")), checks.LONGEST_KEY, "key")
    await caller.ask(experiments.TagExperiment(experiment=found.name, tags={key: text(given, "value", "")}))
    return {}


async def delete_tag(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`experiments/delete-experiment-tag`."""
    found, key = caller.experiment(given, active=True), text(given, "key")
    if key not in found.tags:
        raise absent(f"No tag with name: {key} in experiment with id {found.id}")
    await caller.ask(experiments.TagExperiment(experiment=found.name, tags={key: None}))
    return {}


async def datasets(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`experiments/search-datasets`: what the runs of some experiments used, each once."""
    wanted = {str(each) for each in listed(given, "experiment_ids")}
    if not wanted:
        raise invalid("SearchDatasets request must specify at least one experiment_id.")
    if len(wanted) > MOST_SEARCHED:
        raise invalid(
            f"SearchDatasets request cannot specify more than {MOST_SEARCHED} experiment_ids. "
            f"Received {len(wanted)} experiment_ids."
        )
    numbers = {each.name: each.id for each in caller.view.experiments if each.id in wanted}
    found = {
        (numbers[run.experiment], each.name, each.digest, each.tags.get("mlflow.data.context", "")): None
        for run in caller.view.runs
        if run.experiment in numbers and run.removed is None
        for each in run.inputs
    }
    names = ("experiment_id", "name", "digest", "context")
    return {"dataset_summaries": [dict(zip(names, each, strict=True)) for each in found]}


def view_of(given: dict[str, Any], name: str) -> str:
    """Which lifecycle stages are asked for."""
    view = text(given, name, "ACTIVE_ONLY")
    view = VIEWS[int(view) - 1] if view in ("1", "2", "3") else view
    if view not in VIEWS:
        raise invalid(f"Invalid value {view} for parameter '{name}' supplied: expected one of {', '.join(VIEWS)}.")
    return view


def limit_of(given: dict[str, Any], default: int) -> int:
    """How many are asked for."""
    limit = number(given, "max_results", default)
    if not 1 <= limit <= MOST:
        raise invalid(
            f"Invalid value {limit} for parameter 'max_results' supplied. It must be at least 1 and at most {MOST}."
        )
    return limit


async def search(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`experiments/search`: its filters are over the name, the times and the tags."""
    if "max_results" in given and not given["max_results"]:
        raise missing("max_results")
    await with_default(caller)
    view, limit = view_of(given, "view_type"), limit_of(given, 1000)
    filter_, orders = text(given, "filter", ""), [str(each) for each in given.get("order_by") or ["started DESC"]]
    tree = parsed(_ours(filter_), "deck", "filter")
    rows = [Row(_as_run(each), {}) for each in caller.view.experiments if _in_view(each, view)]
    if tree is not None:
        test = test_of(tree)
        rows = [row for row in rows if test(row)]
    name = fingerprint("experiments", filter_, orders, view)
    token = text(given, "page_token", "")
    sorting = [ordered(_ours(each), "deck") for each in orders]
    found, following = page(rows, sorting, limit, key_from(token, name, sorting) if token else None)
    told: dict[str, Any] = {
        "experiments": [shapes.experiment(caller.view.experiments[row.run.experiment]) for row in found]
    }
    if following is not None:
        told["next_page_token"] = written(following, name)
    return told


def _in_view(found: Experiment, view: str) -> bool:
    return view == "ALL" or (found.removed is not None) == (view == "DELETED_ONLY")


def _as_run(found: Experiment) -> Run:
    """An experiment in the columns of a run: one language serves both."""
    return Run(
        id=found.id.zfill(12),
        experiment=found.name,
        name=found.name,
        state="FINISHED",
        started=found.created * 1000,
        ended=(found.updated or found.created) * 1000,
        actor="",
        tags=found.tags,
    )


def _ours(expression: str) -> str:
    words = (("last_update_time", "ended"), ("creation_time", "started"), ("experiment_id", "id"))
    for theirs, ours in words:
        expression = expression.replace(theirs, ours)
    return expression
