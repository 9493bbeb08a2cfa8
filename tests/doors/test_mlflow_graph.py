"""GraphQL at the MLflow door: real answers for what is there, words for what is not, and limits that hold."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeckd.doors.mlflow.graphql import Wrong, asked
from tests.conftest import Daemon
from tests.doors.test_mlflow import free_port, post


@pytest.fixture(scope="module")
def door() -> Iterator[httpx.Client]:
    daemon, port = Daemon(Path(tempfile.mkdtemp(prefix="qd", dir="/tmp"))), free_port()
    daemon.start("--mlflow", f"127.0.0.1:{port}")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        yield client
    daemon.end()


def told(door: httpx.Client, query: str, **more: Any) -> Any:
    answer = door.post("/graphql", json={"query": query, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def run(door: httpx.Client) -> str:
    """A run with a number, one that is none, files, a dataset and a version."""
    experiment = post(door, "experiments/create", name="graph")["experiment_id"]
    id_ = str(post(door, "runs/create", experiment_id=experiment, run_name="one")["run"]["info"]["run_id"])
    for key, value in (("loss", 0.5), ("odd", "NaN")):
        post(door, "runs/log-metric", run_id=id_, key=key, value=value, timestamp=7, step=3)
    for path in ("a.txt", "deep/b.txt"):
        asked = {"run_uuid": id_, "path": path}
        door.post("/ajax-api/2.0/mlflow/upload-artifact", params=asked, content=b"hello").raise_for_status()
    data = {"dataset": {"name": "rows", "digest": "abc", "source_type": "local", "source": "x"}}
    post(door, "runs/log-inputs", run_id=id_, datasets=[data])
    post(door, "registered-models/create", name="m")
    post(door, "model-versions/create", name="m", source=f"runs:/{id_}/model", run_id=id_)
    return id_


def test_a_run_is_told_with_what_lies_beside_it(door: httpx.Client, run: str) -> None:
    query = (
        'query Q($id: String!) @component(name: "T") { '
        "mlflowGetRun(input: {runId: $id}) { __typename run { ...R } } } "
        "fragment R on MlflowRun { info { status startTime } experiment { name } "
        "modelVersions { name version aliases } data { metrics { key value timestamp step } } "
        "inputs { datasetInputs { dataset { digest } } } }"
    )
    found = told(door, query, operationName="Q", variables={"id": run})
    assert found["errors"] is None
    answer = found["data"]["mlflowGetRun"]
    assert answer["__typename"] == "MlflowGetRun" and answer["run"]["info"]["status"] == "RUNNING"
    assert answer["run"]["info"]["startTime"].isdecimal()
    assert answer["run"]["experiment"] == {"name": "graph"}
    assert answer["run"]["modelVersions"] == [{"name": "m", "version": "1", "aliases": []}]
    assert answer["run"]["inputs"] == {"datasetInputs": [{"dataset": {"digest": "abc"}}]}
    metrics = {each["key"]: each for each in answer["run"]["data"]["metrics"]}
    assert metrics["loss"] == {"key": "loss", "value": 0.5, "timestamp": "7", "step": "3"}
    assert metrics["odd"]["value"] is None


def test_runs_files_curves_and_datasets_are_found(door: httpx.Client, run: str) -> None:
    number = post(door, "experiments/search", filter="name = 'graph'")["experiments"][0]["experiment_id"]
    search = '{ runs: mlflowSearchRuns(input: {experimentIds: ["' + number + '"]}) { runs { info { runId } } } }'
    for kind in ("query", "mutation"):
        assert told(door, kind + search)["data"] == {"runs": {"runs": [{"info": {"runId": run}}]}}
    files = told(door, '{ mlflowListArtifacts(input: {runId: "' + run + '"}) { files { path isDir fileSize } } }')
    assert files["data"]["mlflowListArtifacts"]["files"] == [
        {"path": "a.txt", "isDir": False, "fileSize": "5"},
        {"path": "deep", "isDir": True, "fileSize": "0"},
    ]
    asked = '(input: {runIds: ["' + run + '"], metricKey: "loss", maxResults: 5}) { metrics { value runId } }'
    curves = told(door, "{ mlflowGetMetricHistoryBulkInterval" + asked + "}")
    assert curves["data"]["mlflowGetMetricHistoryBulkInterval"]["metrics"] == [{"value": 0.5, "runId": run}]
    used = '(input: {experimentIds: ["' + number + '"]}) { datasetSummaries { name context } }'
    datasets = told(door, "mutation { mlflowSearchDatasets" + used + "}")
    assert datasets["data"]["mlflowSearchDatasets"]["datasetSummaries"] == [{"name": "rows", "context": ""}]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("{ nothing { here } }", "Cannot query field 'nothing' on type 'Query'."),
        (
            '{ mlflowGetRun(input: {runId: "x"}) { run { secrets } } }',
            "Cannot query field 'secrets' on type 'MlflowRun'.",
        ),
        ('{ mlflowGetRun(input: {runId: "x"}) { run } }', "must have a selection of subfields"),
        ('{ mlflowGetRun(input: {runId: "x"}) { run { info { status { a } } } } }', "has no subfields"),
        ('{ mlflowGetRun(input: {runId: "nobody"}) { run { info { status } } } }', "Run with id=nobody not found"),
        ("{ mlflowGetRun(input: {runId: $id}) { run { info { status } } } }", 'Variable "$id" is not defined.'),
        ("{ test(inputString: 'x') { output } }", "Syntax Error"),
        ('{ test(inputString: "x") { output }', "Expected Name, found <EOF>."),
        ("{ ...Nowhere }", 'Unknown fragment "Nowhere".'),
        ("{ test @other { output } }", 'Unknown directive "@other".'),
    ],
)
def test_what_is_wrong_with_a_query_is_said(door: httpx.Client, query: str, words: str) -> None:
    (error,) = told(door, query)["errors"]
    assert words in error


def test_no_query_asks_for_more_than_its_share(door: httpx.Client) -> None:
    """Aliases and fragments multiply: each is counted where it lands."""
    doubled = " ".join(f"fragment F{n} on Q {{ ...F{n + 1} ...F{n + 1} }}" for n in range(30))
    for query, words in (
        ("{" + " ".join(f"k{n}: test {{ output }}" for n in range(11)) + "}", "at most 10 root fields, got 11"),
        ("{ test {" + " ".join(f"k{n}: output" for n in range(11)) + "} }", "at most 10 aliases, got 11"),
        ("{ test " + "{ output " * 11 + "}" * 12, "exceeds maximum depth of 10"),
        ("{ test {" + "output " * 1001 + "} }", "exceeds maximum total selections of 1000"),
        ("{ ...F0 } " + doubled + " fragment F30 on Q { test { output } }", "exceeds maximum total selections"),
        ("{ ...A } fragment A on Q { ...A }", 'Unknown fragment "A".'),
        ("{ test(inputString: " + "[" * 5000 + ") }", "nested too deeply"),
        ("#" * 200_001, "exceeds maximum length"),
    ):
        found = told(door, query)
        assert found["data"] is None and words in found["errors"][0], (query[:60], found)
    assert door.post("/graphql", json={"query": 5}).status_code == 400


def test_a_query_is_read_as_graphql_says() -> None:
    text = (
        'query A($n: [Int!]! = [1, 2], $on: Boolean = false) { one: f(a: "x\\u00e9\\n", b: -1.5e2, c: RED, d: $n, '
        "e: {g: null, h: true}) { i @include(if: $on) j @skip(if: $on) ... on T { k } } } mutation B { f }"
    )
    kind, (field,) = asked(text, "A", {})
    assert (kind, field.name, field.alias) == ("query", "f", "one")
    assert field.given == {"a": "xé\n", "b": -150.0, "c": "RED", "d": [1, 2], "e": {"g": None, "h": True}}
    assert [each.name for each in field.fields] == ["j", "k"]
    assert [each.name for each in asked(text, "A", {"on": True})[1][0].fields] == ["i", "k"]
    assert asked(text, "B", {})[0] == "mutation"
    with pytest.raises(Wrong, match="Must provide operation name"):
        asked(text, None, {})
