"""What GraphQL is answered at the MLflow door: fields of MLflow's schema (3.17), each by the REST route's own work."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from quarterdeckd.doors.mlflow import experiments, histories, runs, shapes, versions
from quarterdeckd.doors.mlflow.caller import Caller
from quarterdeckd.doors.mlflow.errors import MlflowError, invalid
from quarterdeckd.doors.mlflow.graphql import Field, Wrong, asked
from quarterstore.records.faults import Fault

KEYED = {"key": "String", "value": "String"}
METRIC = {"key": "String", "value": "Float", "timestamp": "Long", "step": "Long"}
TYPES: dict[str, dict[str, str]] = {
    "Test": {"output": "String"},
    "GetExperiment": {"experiment": "Experiment", "apiError": "Error"},
    "GetRun": {"run": "Run", "apiError": "Error"},
    "SearchRuns": {"runs": "[Run]", "nextPageToken": "String", "apiError": "Error"},
    "SearchDatasets": {"datasetSummaries": "[DatasetSummary]", "apiError": "Error"},
    "SearchModelVersions": {"modelVersions": "[ModelVersion]", "nextPageToken": "String", "apiError": "Error"},
    "GetMetricHistoryBulkInterval": {"metrics": "[MetricWithRunId]", "apiError": "Error"},
    "ListArtifacts": {"rootUri": "String", "files": "[FileInfo]", "nextPageToken": "String", "apiError": "Error"},
    "Error": {"code": "String", "message": "String"},
    "Experiment": {
        **dict.fromkeys(("experimentId", "name", "artifactLocation", "lifecycleStage", "workspace"), "String"),
        **dict.fromkeys(("lastUpdateTime", "creationTime"), "Long"),
        "effectiveTraceArchivalRetention": "String",
        "tags": "[ExperimentTag]",
    },
    "ExperimentTag": KEYED,
    "Run": {
        "info": "RunInfo",
        "data": "RunData",
        "inputs": "RunInputs",
        "outputs": "RunOutputs",
        "experiment": "Experiment",
        "modelVersions": "[ModelVersion]",
    },
    "RunInfo": {
        **dict.fromkeys(("runId", "runUuid", "runName", "experimentId", "userId", "status"), "String"),
        **dict.fromkeys(("artifactUri", "lifecycleStage"), "String"),
        **dict.fromkeys(("startTime", "endTime"), "Long"),
    },
    "RunData": {"metrics": "[Metric]", "params": "[Param]", "tags": "[RunTag]"},
    "Metric": {**METRIC, **dict.fromkeys(("datasetName", "datasetDigest", "modelId", "runId"), "String")},
    "MetricWithRunId": {**METRIC, "runId": "String"},
    "Param": KEYED,
    "RunTag": KEYED,
    "InputTag": KEYED,
    "RunInputs": {"datasetInputs": "[DatasetInput]", "modelInputs": "[ModelInput]"},
    "DatasetInput": {"tags": "[InputTag]", "dataset": "Dataset"},
    "Dataset": dict.fromkeys(("name", "digest", "sourceType", "source", "schema", "profile"), "String"),
    "ModelInput": {"modelId": "String"},
    "RunOutputs": {"modelOutputs": "[ModelOutput]"},
    "ModelOutput": {"modelId": "String", "step": "Long"},
    "DatasetSummary": dict.fromkeys(("experimentId", "name", "digest", "context"), "String"),
    "FileInfo": {"path": "String", "isDir": "Boolean", "fileSize": "Long"},
    "ModelVersion": {
        **dict.fromkeys(("name", "version", "userId", "currentStage", "description", "source", "runId"), "String"),
        **dict.fromkeys(("status", "statusMessage", "runLink", "modelId"), "String"),
        **dict.fromkeys(("creationTimestamp", "lastUpdatedTimestamp"), "Long"),
        "tags": "[ModelVersionTag]",
        "aliases": "[String]",
    },
    "ModelVersionTag": KEYED,
}
UNSET: dict[str, Any] = {"String": "", "Long": "0", "Float": 0.0, "Boolean": False}
"""What a field without a value is: proto's defaults."""
Resolve = Callable[[Caller, dict[str, Any]], Awaitable[Any]]


def _run(caller: Caller, told: dict[str, Any]) -> dict[str, Any]:
    """A run with what lies beside it, worked out where it is asked for."""
    number, id_ = told["info"]["experiment_id"], told["info"]["run_id"]
    return {
        **told,
        "experiment": lambda: shapes.experiment(caller.experiment({"experiment_id": number})),
        "model_versions": lambda: versions.of_run(caller, id_),
    }


async def _get_run(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    return {"run": _run(caller, (await runs.get(caller, given))["run"])}


async def _search_runs(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    told = await runs.search(caller, given)
    return {**told, "runs": [_run(caller, each) for each in told["runs"]]}


async def _test(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    return {"output": given.get("input_string", "")}


class Graph:
    """The fields that may be asked for at the root."""

    def __init__(self, artifacts: Resolve) -> None:
        searches: dict[str, tuple[str, Resolve]] = {"mlflowSearchRuns": ("SearchRuns", _search_runs)}
        self._roots: dict[str, dict[str, tuple[str, Resolve]]] = {
            "query": {
                **searches,
                "test": ("Test", _test),
                "mlflowGetExperiment": ("GetExperiment", experiments.get),
                "mlflowGetRun": ("GetRun", _get_run),
                "mlflowGetMetricHistoryBulkInterval": ("GetMetricHistoryBulkInterval", histories.drawn),
                "mlflowListArtifacts": ("ListArtifacts", artifacts),
                "mlflowSearchModelVersions": ("SearchModelVersions", versions.search_versions),
            },
            "mutation": {
                **searches,
                "testMutation": ("Test", _test),
                "mlflowSearchDatasets": ("SearchDatasets", experiments.datasets),
            },
        }

    async def answer(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        """`/graphql`: data, and in words what was wrong."""
        query, name, variables = given.get("query"), given.get("operationName"), given.get("variables") or {}
        if not isinstance(query, str) or not isinstance(name, str | None) or not isinstance(variables, dict):
            raise invalid("a GraphQL request has a query, and may have an operationName and variables")
        try:
            kind, fields = asked(query, name or None, variables)
        except Wrong as wrong:
            return {"data": None, "errors": [str(wrong)]}
        data: dict[str, Any] = {}
        errors: list[str] = []
        for field in fields:
            try:
                data[field.alias] = await self._resolved(caller, kind, field)
            except Wrong as wrong:
                return {"data": None, "errors": [str(wrong)]}
            except (MlflowError, Fault) as error:
                data[field.alias] = None
                errors.append(str(error))
        return {"data": data, "errors": errors or None}

    async def _resolved(self, caller: Caller, kind: str, field: Field) -> Any:
        if field.name == "__typename":
            return kind.capitalize()
        found = self._roots[kind].get(field.name)
        if found is None:
            raise Wrong(f"Cannot query field '{field.name}' on type '{kind.capitalize()}'.")
        type_, resolve = found
        _check(field, type_)
        asked_for = field.given.get("input", field.given)
        if not isinstance(asked_for, dict):
            raise Wrong(f"Expected value of type 'Mlflow{type_}Input'.")
        return _told(field.fields, type_, await resolve(caller, _snake(asked_for)))


def _snake(given: dict[str, Any]) -> dict[str, Any]:
    """Their names as REST has them; what is null was not given."""
    return {_plain(name): value for name, value in given.items() if value is not None}


def _plain(name: str) -> str:
    return re.sub("[A-Z]", lambda found: "_" + found.group().lower(), name)


def _check(field: Field, type_: str) -> None:
    """What is asked for is there, before anything is worked out."""
    inner = TYPES.get(type_)
    if inner is None:
        if field.fields:
            raise Wrong(f"Field '{field.name}' must not have a selection since type '{type_}' has no subfields.")
        return
    if not field.fields:
        raise Wrong(f"Field '{field.name}' of type 'Mlflow{type_}' must have a selection of subfields.")
    for each in field.fields:
        if each.name != "__typename":
            if each.name not in inner:
                raise Wrong(f"Cannot query field '{each.name}' on type 'Mlflow{type_}'.")
            _check(each, inner[each.name].strip("[]"))


def _told(fields: Sequence[Field], type_: str, value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields:
        if field.name == "__typename":
            found[field.alias] = f"Mlflow{type_}"
        elif field.name == "apiError":
            found[field.alias] = None
        else:
            told = value.get(_plain(field.name))
            found[field.alias] = _shaped(field, TYPES[type_][field.name], told() if callable(told) else told)
    return found


def _shaped(field: Field, type_: str, value: Any) -> Any:
    if type_.startswith("["):
        return [_shaped(field, type_[1:-1], each) for each in value or ()]
    if type_ in TYPES:
        return _told(field.fields, type_, value or {})
    if value is None:
        return UNSET[type_]
    if type_ == "Float":
        return value if isinstance(value, int | float) else None  # NaN and the infinities are no GraphQL numbers
    return str(value) if type_ == "Long" else value
