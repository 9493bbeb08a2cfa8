"""The MLflow door where clients seldom go: what MLflow 3.17's own server was seen to answer there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Daemon
from tests.doors.test_mlflow import API, PROXY, free_port, post, refused

WRONG, ABSENT = (400, "INVALID_PARAMETER_VALUE"), (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.fixture(scope="module")
def door() -> Iterator[httpx.Client]:
    daemon, port = Daemon(Path(tempfile.mkdtemp(prefix="qd", dir="/tmp"))), free_port()
    daemon.start("--mlflow", f"127.0.0.1:{port}")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        post(client, "experiments/create", name="Default 1")
        yield client
    daemon.end()


def start(door: httpx.Client, **given: Any) -> str:
    return str(post(door, "runs/create", **{"experiment_id": "1", **given})["run"]["info"]["run_id"])


def asked(door: httpx.Client, route: str, **given: Any) -> httpx.Response:
    return door.post(f"{API}/{route}", json=given)


def tags_of(door: httpx.Client, run: str) -> dict[str, str]:
    data = door.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["data"]
    return {each["key"]: each["value"] for each in data["tags"]}


@pytest.mark.parametrize(
    "filter_",
    ["tags.mlflow.runName = 'named'", "tags.`mlflow.runName` LIKE 'nam%'", "\"run_name\" = 'named'"],
)
def test_a_run_is_found_by_its_name_however_it_is_written(door: httpx.Client, filter_: str) -> None:
    experiment = asked(door, "experiments/create", name=f"by name {filter_}").json()["experiment_id"]
    run = start(door, experiment_id=experiment, run_name="named")
    start(door, experiment_id=experiment, run_name="other")
    found = post(door, "runs/search", experiment_ids=[experiment], filter=filter_)["runs"]
    assert [each["info"]["run_id"] for each in found] == [run]


def test_a_filter_is_read_also_where_there_is_nothing_to_search(door: httpx.Client) -> None:
    assert refused(asked(door, "runs/search", experiment_ids=[], filter="metrics.m >")) == WRONG
    assert refused(asked(door, "runs/search", experiment_ids=["1"], order_by=["datasets.name"])) == WRONG


def test_experiments_are_found_by_number_and_sorted_by_number(door: httpx.Client) -> None:
    for n in range(11):
        post(door, "experiments/create", name=f"n{n}")
    one = post(door, "experiments/search", max_results=9, filter="experiment_id IN ('10', '1')", order_by=["name"])
    assert sorted(each["experiment_id"] for each in one["experiments"]) == ["1", "10"]
    every = post(door, "experiments/search", max_results=99, order_by=["experiment_id ASC"])["experiments"]
    numbers = [int(each["experiment_id"]) for each in every]
    assert numbers == sorted(numbers) and 10 in numbers


@pytest.mark.parametrize(
    ("route", "filter_"),
    [
        ("experiments", "name = 'a' OR name = 'b'"),
        ("experiments", "name = a"),
        ("experiments", "name > 'a'"),
        ("experiments", "creation_time > '0'"),
        ("experiments", "metrics.a > 1"),
        ("registered-models", "name = 'a' OR name = 'b'"),
        ("registered-models", "tags.a = 1"),
        ("model-versions", "run_id IN (1)"),
        ("model-versions", "version = '1'"),
    ],
)
def test_what_mlflow_refuses_to_search_by_is_refused(door: httpx.Client, route: str, filter_: str) -> None:
    answer = door.get(f"{API}/{route}/search", params={"filter": filter_, "max_results": 9})
    assert refused(answer) == WRONG, answer.text


def test_words_of_a_fixed_list_may_come_as_their_numbers(door: httpx.Client) -> None:
    run = start(door)
    assert post(door, "runs/update", run_id=run, status=4)["run_info"]["status"] == "FAILED"
    post(door, "runs/delete", run_id=run)
    found = post(door, "runs/search", experiment_ids=["1"], run_view_type=2)["runs"]
    assert run in [each["info"]["run_id"] for each in found]
    for wrong in (0, 6, "9", "DONE", True):
        assert refused(asked(door, "runs/update", run_id=start(door), status=wrong)) == WRONG
    assert refused(asked(door, "runs/update", run_id=start(door), end_time="soon")) == WRONG


def test_names_are_as_long_as_mlflows(door: httpx.Client) -> None:
    run, key = start(door), "k" * 250
    post(door, "runs/log-metric", run_id=run, key=key, value=1, timestamp=1)
    post(door, "runs/log-batch", run_id=run, params=[{"key": key, "value": "1"}], tags=[{"key": key, "value": "1"}])
    data = door.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["data"]
    assert data["metrics"][0]["key"] == data["params"][0]["key"] == key and tags_of(door, run)[key] == "1"
    post(door, "experiments/create", name="x" * 500)
    assert refused(asked(door, "experiments/create", name="x" * 501)) == WRONG


@pytest.mark.parametrize(
    ("route", "given"),
    [
        ("runs/log-metric", {"key": "m", "value": 1, "timestamp": -1}),
        ("runs/log-batch", {"metrics": [{"key": "m", "value": 1, "timestamp": -1}], "tags": [{"key": "t"}]}),
        ("runs/log-batch", {"params": [{"key": "p", "value": "1"}, {"key": "p", "value": "1"}]}),
        ("runs/create", {"experiment_id": "1", "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]}),
        ("runs/create", {"experiment_id": "one"}),
        ("experiments/create", {"name": "odd tags", "tags": [{"key": "a*", "value": "1"}]}),
        ("registered-models/create", {"name": "odd tags", "tags": [{"key": "a*", "value": "1"}]}),
        ("logged-models", {"experiment_id": "1", "name": "a/b"}),
    ],
)
def test_what_mlflow_refuses_is_refused_and_changes_nothing(
    door: httpx.Client, route: str, given: dict[str, Any]
) -> None:
    run = start(door, run_name="kept")
    assert refused(asked(door, route, **{"run_id": run, **given})) == WRONG
    data = door.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["data"]
    assert (data["metrics"], data["params"], [each["value"] for each in data["tags"]]) == ([], [], ["kept"])


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_page_may_send_unasked_is_refused(door: httpx.Client, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    answer = door.post(f"{API}/experiments/create", content=b'{"name": "by a page"}', headers=headers)
    assert refused(answer) == WRONG and "Content-Type" in answer.text
    sent = {"content-type": "application/json; charset=utf-8"}
    assert door.post(f"{API}/runs/search", content=b"{}", headers=sent).status_code == 200


def test_an_experiment_is_deleted_once_and_restored_once(door: httpx.Client) -> None:
    number = post(door, "experiments/create", name="twice")["experiment_id"]
    for route in ("experiments/delete", "experiments/restore"):
        post(door, route, experiment_id=number)
        assert refused(asked(door, route, experiment_id=number)) == ABSENT


def test_a_version_without_a_run_is_of_another_run_than_any(door: httpx.Client) -> None:
    post(door, "registered-models/create", name="runless")
    post(door, "model-versions/create", name="runless", source="s3://b/1")
    post(door, "model-versions/create", name="runless", source="s3://b/2", run_id="elsewhere")
    where = {"filter": "name IN ('runless') AND run_id != 'elsewhere'"}
    found = door.get(f"{API}/model-versions/search", params=where).json()["model_versions"]
    assert [each["version"] for each in found] == ["1"]
    latest = door.get(f"{API}/registered-models/alias", params={"name": "runless", "alias": "latest"})
    assert latest.json()["model_version"]["version"] == "2"
    post(door, "registered-models/rename", name="runless", new_name="runless")


def test_a_parameter_of_a_logged_model_is_not_changed(door: httpx.Client) -> None:
    told = {"experiment_id": "1", "name": "lm", "params": [{"key": "p", "value": "1"}]}
    route = f"logged-models/{post(door, 'logged-models', **told)['model']['info']['model_id']}"
    post(door, f"{route}/params", params=[{"key": "p", "value": "1"}, {"key": "q", "value": "2"}])
    answer = asked(door, f"{route}/params", params=[{"key": "p", "value": "2"}, {"key": "r", "value": "3"}])
    assert refused(answer) == WRONG and "Changing param values is not allowed" in answer.text
    params = door.get(f"{API}/{route}").json()["model"]["data"]["params"]
    assert {each["key"]: each["value"] for each in params} == {"p": "1", "q": "2"}
    for _ in range(2):
        assert door.delete(f"{API}/{route}").status_code == 200


def test_a_folder_is_no_file_and_goes_with_all_that_is_in_it(door: httpx.Client) -> None:
    place = f"{PROXY}/1/{start(door)}/artifacts"
    for name in ("d/a.txt", "d/e/b.txt", "other.txt"):
        door.put(f"{place}/{name}", content=b"x").raise_for_status()
    assert refused(door.get(f"{place}/d")) == WRONG and refused(door.get(f"{place}/none")) == ABSENT
    for _ in range(2):
        assert door.delete(f"{place}/d").status_code == 200
    listed = door.get(PROXY, params={"path": place.removeprefix(f"{PROXY}/")}).json()["files"]
    assert [each["path"] for each in listed] == ["other.txt"]
    assert refused(door.get(PROXY, params={"path": "/etc"})) == WRONG


def test_models_that_are_logged_at_once_are_all_in_the_history(door: httpx.Client) -> None:
    """Clients of 2.x say so by a tag that is read, added to and written: nobody's is lost."""
    run = start(door)
    told = {"artifact_path": "m", "flavors": {}, "utc_time_created": "now", "run_id": run}

    def log(n: int) -> None:
        post(door, "runs/log-model", run_id=run, model_json=json.dumps({**told, "model_uuid": str(n)}))

    with ThreadPoolExecutor(8) as many:
        list(many.map(log, range(24)))
    history = json.loads(tags_of(door, run)["mlflow.log-model.history"])
    assert sorted(int(each["model_uuid"]) for each in history) == list(range(24))
