"""Experiments at the MLflow door."""

from __future__ import annotations

from typing import Any

from quarterdeckd.doors.mlflow import checks, searching, shapes
from quarterdeckd.doors.mlflow.caller import Caller, enumerated, listed, missing, pairs, text
from quarterdeckd.doors.mlflow.errors import MlflowError, absent, invalid
from quarterdeckd.doors.mlflow.searching import Noun, as_run
from quarterstore.records import experiments
from quarterstore.records.experiments import Experiment
from quarterstore.records.faults import Conflict
from quarterstore.search.matching import Row
from quarterstore.search.parsing import Theirs, attributes

VIEWS = ("ACTIVE_ONLY", "DELETED_ONLY", "ALL")
DEFAULT = "Default"
EXPERIMENTS = Noun(
    "experiments",
    Theirs(
        attributes(name="name", experiment_id="job", creation_time="started", last_update_time="ended"),
        ("experiment_id",),
        kinds=("tag",),
    ),
    50_000,
    1000,
)
SORTED = EXPERIMENTS._replace(
    words=EXPERIMENTS.words._replace(columns={**EXPERIMENTS.words.columns, "experiment_id": ("attribute", "id")})
)
"""Sorted by number, found by what the number is as a text."""
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
    tags = checks.tags(pairs(given, "tags"))
    await with_default(caller)
    found = caller.view.experiments.get(name)
    if found is not None:
        state = "" if found.removed is None else " in deleted state. You can restore or permanently delete it"
        raise MlflowError("RESOURCE_ALREADY_EXISTS", f"Experiment(name={name}) already exists{state}.")
    made = await caller.ask(experiments.CreateExperiment(name=name, tags=tags))
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
    """`experiments/delete`: one that is deleted already is not there."""
    await caller.ask(experiments.RemoveExperiment(experiment=_in_stage(caller, given, deleted=False).name))
    return {}


async def restore(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`experiments/restore`: only one that is deleted is there."""
    await caller.ask(experiments.RestoreExperiment(experiment=_in_stage(caller, given, deleted=True).name))
    return {}


def _in_stage(caller: Caller, given: dict[str, Any], *, deleted: bool) -> Experiment:
    found = caller.experiment(given)
    if (found.removed is not None) is not deleted:
        raise absent(f"No Experiment with id={found.id} exists")
    return found


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
    return enumerated(given, name, VIEWS) or "ACTIVE_ONLY"


async def search(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`experiments/search`: its filters are over the name, the times and the tags."""
    if "max_results" in given and not given["max_results"]:
        raise missing("max_results")
    await with_default(caller)
    view = view_of(given, "view_type")
    rows = [
        Row(
            as_run(
                each.id.zfill(12), each.name, each.created, each.updated, each.tags, experiment=each.name, job=each.id
            ),
            {},
        )
        for each in caller.view.experiments
        if _in_view(each, view)
    ]
    orders = searching.orders_of(given, SORTED, ["creation_time DESC"])
    found, following = searching.found(given, EXPERIMENTS, rows, orders, view)
    told = [shapes.experiment(caller.view.experiments[row.run.experiment]) for row in found]
    return {"experiments": told, **following}


def _in_view(found: Experiment, view: str) -> bool:
    return view == "ALL" or (found.removed is not None) == (view == "DELETED_ONLY")
