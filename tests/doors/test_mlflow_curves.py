"""The MLflow door's routes that its pages use: curves of several runs, thinned curves, datasets, single files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeckd.doors.mlflow.histories import thinned
from tests.conftest import Daemon
from tests.doors.test_mlflow import API, free_port, post, refused

AJAX = "/ajax-api/2.0/mlflow"


@pytest.fixture(scope="module")
def door() -> Iterator[httpx.Client]:
    daemon, port = Daemon(Path(tempfile.mkdtemp(prefix="qd", dir="/tmp"))), free_port()
    daemon.start("--mlflow", f"127.0.0.1:{port}")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        yield client
    daemon.end()


def new_run(door: httpx.Client, experiment: str = "0") -> str:
    return str(post(door, "runs/create", experiment_id=experiment)["run"]["info"]["run_id"])


def logged(door: httpx.Client, run: str, steps: range, timestamp: int = 1) -> None:
    points = [{"key": "loss", "value": 0.5, "timestamp": timestamp, "step": step} for step in steps]
    post(door, "runs/log-batch", run_id=run, metrics=points)


def test_one_metric_of_several_runs_comes_run_by_run(door: httpx.Client) -> None:
    one, two = sorted((new_run(door), new_run(door)))
    logged(door, one, range(3))
    logged(door, two, range(2))
    asked = {"run_id": [two, one], "metric_key": "loss"}
    found = door.get(f"{AJAX}/metrics/get-history-bulk", params=asked).json()["metrics"]
    assert [(each["run_id"], each["step"]) for each in found] == [(one, 0), (one, 1), (one, 2), (two, 0), (two, 1)]
    short = door.get(f"{AJAX}/metrics/get-history-bulk", params={**asked, "max_results": 2}).json()["metrics"]
    assert short == found[:2]


def test_a_thinned_curve_keeps_the_ends_of_each_run(door: httpx.Client) -> None:
    """A run that ended early would else be drawn as if it had ended earlier still."""
    short, long = new_run(door), new_run(door)
    logged(door, short, range(10))
    logged(door, long, range(20))

    def steps(runs: list[str], **more: int) -> dict[str, list[int]]:
        asked = {"run_ids": runs, "metric_key": "loss", "max_results": 5, **more}
        answer = door.get(f"{AJAX}/metrics/get-history-bulk-interval", params=asked)
        found: dict[str, list[int]] = {run: [] for run in runs}
        for each in answer.json()["metrics"]:
            found[each["run_id"]].append(each["step"])
        return found

    assert steps([short]) == {short: [0, 2, 4, 6, 8, 9]}
    assert steps([short], start_step=0, end_step=4) == {short: [0, 1, 2, 3, 4]}
    assert steps([short, long]) == {short: [0, 4, 8, 9], long: [0, 4, 8, 9, 12, 16, 19]}
    logged(door, short, range(10), timestamp=2)
    assert steps([short]) == {short: [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 9, 9]}


@pytest.mark.parametrize(
    ("steps", "most", "expected"),
    [
        (range(10), 5, {0, 2, 4, 6, 8, 9}),
        (range(5), 5, {0, 1, 2, 3, 4}),
        (range(0, 1001, 10), 5, {0, 200, 400, 600, 800, 1000}),
        ([], 3, set()),
        ([7], 1, {7}),
    ],
)
def test_steps_are_thinned_evenly(steps: Any, most: int, expected: set[int]) -> None:
    assert thinned(list(steps), most) == expected


@pytest.mark.parametrize(
    ("route", "given", "words"),
    [
        ("get-history-bulk", {"metric_key": "k"}, "must specify at least one run_id"),
        ("get-history-bulk", {"metric_key": "k", "run_id": [f"r{n}" for n in range(101)]}, "more than 100 run_ids"),
        ("get-history-bulk", {"run_id": ["r"]}, "must specify a metric_key"),
        ("get-history-bulk-interval", {"metric_key": "k"}, "required parameter 'run_ids'"),
        ("get-history-bulk-interval", {"metric_key": "k", "run_ids": [f"r{n}" for n in range(101)]}, "at most 100"),
        ("get-history-bulk-interval", {"run_ids": ["r"]}, "required parameter 'metric_key'"),
        ("get-history-bulk-interval", {"metric_key": "k", "run_ids": ["r"], "max_results": 0}, "between 1 and 2500"),
        ("get-history-bulk-interval", {"metric_key": "k", "run_ids": ["r"], "start_step": 1}, "both must be"),
        (
            "get-history-bulk-interval",
            {"metric_key": "k", "run_ids": ["r"], "start_step": 1, "end_step": 0},
            "end_step must be greater",
        ),
    ],
)
def test_a_question_for_curves_that_is_wrong_says_what(
    door: httpx.Client, route: str, given: dict[str, Any], words: str
) -> None:
    answer = door.get(f"{AJAX}/metrics/{route}", params=given)
    assert refused(answer) == (400, "INVALID_PARAMETER_VALUE") and words in answer.json()["message"], answer.text


def test_the_datasets_of_experiments_are_told_once(door: httpx.Client) -> None:
    experiment = post(door, "experiments/create", name="with data")["experiment_id"]
    data = {"dataset": {"name": "rows", "digest": "abc", "source_type": "local", "source": "x"}}
    training = {**data, "tags": [{"key": "mlflow.data.context", "value": "training"}]}
    for _ in range(2):
        post(door, "runs/log-inputs", run_id=new_run(door, experiment), datasets=[training])
    found = door.post(f"{AJAX}/experiments/search-datasets", json={"experiment_ids": [experiment]}).json()
    expected = {"experiment_id": experiment, "name": "rows", "digest": "abc", "context": "training"}
    assert found == {"dataset_summaries": [expected]}
    for wrong in ({}, {"experiment_ids": []}, {"experiment_ids": [str(n) for n in range(21)]}):
        answer = door.post(f"{AJAX}/experiments/search-datasets", json=wrong)
        assert refused(answer) == (400, "INVALID_PARAMETER_VALUE")


def test_a_file_is_uploaded_by_a_page_and_read_through_a_version(door: httpx.Client) -> None:
    run = new_run(door)
    asked = {"run_uuid": run, "path": "model/a.txt"}
    assert door.post(f"{AJAX}/upload-artifact", params=asked, content=b"hello").status_code == 200
    assert door.get("/get-artifact", params=asked).text == "hello"
    post(door, "registered-models/create", name="m")
    post(door, "model-versions/create", name="m", source=f"runs:/{run}/model", run_id=run)
    post(door, "model-versions/create", name="m", source="s3://elsewhere/model")
    version = {"name": "m", "version": "1", "path": "a.txt"}
    assert door.get("/model-versions/get-artifact", params=version).text == "hello"
    elsewhere = door.get("/model-versions/get-artifact", params={**version, "version": "2"})
    assert refused(elsewhere) == (404, "RESOURCE_DOES_NOT_EXIST")
    wrong = [
        ({}, b"x", "run_uuid"),
        ({"run_uuid": run}, b"x", "path"),
        ({"run_uuid": run, "path": "../x"}, b"x", "Invalid path"),
        ({"run_uuid": run, "path": "x"}, b"", "data"),
    ]
    for given, body, words in wrong:
        answer = door.post(f"{AJAX}/upload-artifact", params=given, content=body)
        assert refused(answer) == (400, "INVALID_PARAMETER_VALUE") and words in answer.json()["message"]
    for route in ("/get-artifact", "//model-versions/get-artifact", f"{API}/artifacts/list"):
        answer = httpx.get(f"{door.base_url}".rstrip("/") + route, params={**version, "run_id": run, "path": "../x"})
        assert (answer.status_code, answer.json()["message"]) == (400, "Invalid path"), route


POINT = {"key": "m", "value": 1, "timestamp": 1}


@pytest.mark.parametrize(
    ("route", "given", "words"),
    [
        ("runs/log-metric", {"run_id": 31, "key": "m", "value": 1, "timestamp": 1}, "Invalid value 31 for parameter"),
        ("runs/log-metric", {"key": 31, "value": 1, "timestamp": 1}, "Invalid value 31 for parameter 'key'"),
        ("runs/log-metric", {"key": "m", "value": 1, "timestamp": 1, "step": "x"}, 'Invalid value "x" for parameter'),
        ("runs/log-metric", {"value": 1, "timestamp": 1}, "Missing value for required parameter 'key'"),
        ("runs/log-batch", {"metrics": "foo"}, "Invalid value \"foo\" for parameter 'metrics' supplied"),
        ("runs/log-batch", {"metrics": [POINT, {"key": "a", "value": 2.5}]}, "parameter 'metrics[1].timestamp'"),
        ("runs/log-batch", {"metrics": [{"value": 1, "timestamp": 1}]}, "parameter 'metrics[0].key'"),
        ("runs/log-batch", {"metrics": [POINT, {**POINT, "key": "a/../b"}]}, "'metrics[1].name' supplied: Names may"),
        ("runs/log-batch", {"params": [{"key": "p;"}]}, "Invalid value \"p;\" for parameter 'params[0].key' supplied"),
        ("runs/log-batch", {"params": [{"value": "p"}]}, "required parameter 'params[0].key'"),
        ("runs/log-batch", {"tags": [{"key": "t" * 251}]}, "'tags[0].key' exceeds the maximum length of 250"),
        ("runs/log-metric", {**POINT, "key": "/m"}, "This name would resolve to '/m'"),
        ("runs/log-metric", {**POINT, "key": "m" * 251}, "'Metric name' exceeds the maximum length of 250"),
        ("runs/log-parameter", {"key": "p", "value": "v" * 6001}, "'Param value' exceeds the maximum length of 6000"),
        ("runs/set-tag", {"key": "k", "value": "v" * 8001}, "'value' exceeds the maximum length of 8000"),
        ("experiments/create", {"name": "e" * 501}, "'name' exceeds the maximum length of 500"),
        ("experiments/create", {"name": "e", "artifact_location": 9.0}, "Invalid value 9.0 for parameter"),
        ("experiments/create", {"name": "e", "artifact_location": "runs:/x"}, "cannot be a runs:/ URI"),
        ("runs/set-tag", {"key": "k", "value": 41}, "Invalid value 41 for parameter 'value'"),
        ("experiments/create", {"name": 123}, "Invalid value 123 for parameter 'name'"),
        ("experiments/create", {"name": "e", "tags": "5"}, "Invalid value \"5\" for parameter 'tags'"),
        ("runs/log-inputs", {}, "Missing value for required parameter 'datasets'"),
    ],
)
def test_a_value_of_another_kind_is_shown_as_json(
    door: httpx.Client, route: str, given: dict[str, Any], words: str
) -> None:
    if route.startswith("runs"):
        given = {"run_id": new_run(door), **given}
    answer = door.post(f"{API}/{route}", json=given)
    assert refused(answer) == (400, "INVALID_PARAMETER_VALUE") and words in answer.json()["message"], answer.text


def test_empty_texts_are_values(door: httpx.Client) -> None:
    """A tag or a parameter that was set to nothing was set."""
    run = new_run(door)
    post(door, "runs/set-tag", run_id=run, key="t", value="")
    post(door, "runs/log-parameter", run_id=run, key="p", value="")
    data = door.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["data"]
    assert {"key": "t", "value": ""} in data["tags"] and {"key": "p", "value": ""} in data["params"]


def test_who_runs_is_unknown_until_the_client_says_it(door: httpx.Client) -> None:
    """MLflow's clients ask for `unknown` where they say nothing; the deck's own person stays in the journal."""
    experiment = post(door, "experiments/create", name="who runs")["experiment_id"]

    def user(**given: Any) -> str:
        made = post(door, "runs/create", experiment_id=experiment, **given)["run"]["info"]
        return str(made["user_id"])

    assert user() == user(user_id="unknown") == "unknown"
    assert user(user_id="ana") == "ana"
    assert user(user_id="ana", tags=[{"key": "mlflow.user", "value": "bo"}]) == "bo"


def test_a_file_keeps_its_name_and_is_never_a_page(door: httpx.Client) -> None:
    """Names as MLflow's own: images are called with percent signs, and a text is shown as text, whatever it says."""
    run = new_run(door)
    names = {
        "MLmodel": "text/plain",
        "page.json": "text/plain",
        "b.pkl": "application/octet-stream",
        "images/dog%step%100%timestamp%100%ab.png": "image/png",
        "größe.txt": "text/plain",
    }
    for name, kind in names.items():
        asked = {"run_uuid": run, "path": name}
        assert door.post(f"{AJAX}/upload-artifact", params=asked, content=b"x").status_code == 200
        answer = door.get("/get-artifact", params=asked)
        assert (answer.text, answer.headers["content-type"]) == ("x", kind), name
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
    listed = door.get(f"{API}/artifacts/list", params={"run_id": run, "path": "images/."}).json()["files"]
    assert [each["path"] for each in listed] == ["images/dog%step%100%timestamp%100%ab.png"]
    assert (
        door.get("/get-artifact", params={"run_uuid": run, "path": "größe.txt"}).headers["content-disposition"]
        == "attachment; filename=gr__e.txt; filename*=UTF-8''gr%C3%B6%C3%9Fe.txt"
    )
