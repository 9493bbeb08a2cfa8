"""Logged models at the MLflow door: their own measurements, searches with datasets, the versions that they are."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Daemon
from tests.doors.test_mlflow import API, free_port, post, refused

AJAX = "/ajax-api/2.0/mlflow"


@pytest.fixture
def daemon() -> Iterator[tuple[Daemon, int]]:
    daemon, port = Daemon(Path(tempfile.mkdtemp(prefix="qd", dir="/tmp"))), free_port()
    daemon.start("--mlflow", f"127.0.0.1:{port}")
    yield daemon, port
    daemon.end()


@pytest.fixture
def door(daemon: tuple[Daemon, int]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{daemon[1]}", timeout=20) as client:
        yield client


def model(door: httpx.Client, name: str, **given: Any) -> str:
    made = post(door, "logged-models", experiment_id="0", name=name, **given)["model"]
    return str(made["info"]["model_id"])


def read(door: httpx.Client, id_: str) -> Any:
    return door.get(f"{API}/logged-models/{id_}").json()["model"]


def names(door: httpx.Client, **given: Any) -> list[str]:
    found = post(door, "logged-models/search", experiment_ids=["0"], **given).get("models", [])
    return [each["info"]["name"] for each in found]


def test_a_point_that_names_a_model_is_kept_with_it_and_outlives_a_restart(daemon: Any, door: httpx.Client) -> None:
    id_ = model(door, "m", source_run_id="of another tracker")
    run = post(door, "runs/create", experiment_id="0")["run"]["info"]["run_id"]
    point = {"key": "acc", "value": 0.5, "timestamp": 7, "step": 1, "model_id": id_}
    on = {"dataset_name": "rows", "dataset_digest": "abc"}
    for _ in range(2):
        post(door, "runs/log-metric", run_id=run, **point, **on)
    post(door, "runs/log-batch", run_id=run, metrics=[{**point, "value": "NaN", "step": 2}, {**point, "key": "alone"}])
    expected = [
        {**point, **on, "run_id": run},
        {**point, "value": "NaN", "step": 2, "run_id": run},
        {**point, "key": "alone", "run_id": run},
    ]
    assert read(door, id_)["data"]["metrics"] == expected
    assert read(door, id_)["info"]["source_run_id"] == "of another tracker"
    history = door.get(f"{API}/metrics/get-history", params={"run_id": run, "metric_key": "acc"}).json()["metrics"]
    assert [each["step"] for each in history] == [1, 2]
    daemon[0].stop()
    daemon[0].start("--mlflow", f"127.0.0.1:{daemon[1]}")
    assert read(door, id_)["data"]["metrics"] == expected


def test_a_point_of_a_model_that_is_not_there_is_kept_nowhere(door: httpx.Client) -> None:
    run = post(door, "runs/create", experiment_id="0")["run"]["info"]["run_id"]
    point = {"key": "acc", "value": 0.5, "timestamp": 7, "model_id": "m-none"}
    for route, given in (("log-metric", point), ("log-batch", {"metrics": [point]})):
        answer = door.post(f"{API}/runs/{route}", json={"run_id": run, **given})
        assert refused(answer) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert door.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["data"]["metrics"] == []


def test_models_are_found_and_sorted_by_what_was_measured_on_a_dataset(door: httpx.Client) -> None:
    run = post(door, "runs/create", experiment_id="0")["run"]["info"]["run_id"]
    ids = {name: model(door, name, params=[{"key": "depth", "value": name}]) for name in ("a", "b", "c")}

    def measured(name: str, value: float, dataset: str, digest: str, step: int = 0) -> None:
        given = {"dataset_name": dataset, "dataset_digest": digest, "model_id": ids[name]}
        post(door, "runs/log-metric", run_id=run, key="acc", value=value, timestamp=1, step=step, **given)

    measured("a", 0.1, "train", "1")
    measured("a", 0.9, "test", "1", step=1)
    measured("b", 0.5, "train", "1")
    assert names(door) == ["c", "b", "a"]
    assert names(door, datasets=[{"dataset_name": "train"}]) == ["b", "a"]
    assert names(door, datasets=[{"dataset_name": "train", "dataset_digest": "2"}]) == []
    assert names(door, filter="metrics.acc > 0.4") == ["b", "a"]
    assert names(door, filter="metrics.acc > 0.4", datasets=[{"dataset_name": "train"}]) == ["b"]
    assert names(door, filter="name = 'a' and params.depth = 'a' and status = 'PENDING'") == ["a"]
    assert names(door, filter=f"model_id IN ('{ids['a']}', '{ids['c']}') AND source_run_id = ''") == []
    by = {"field_name": "metrics.acc", "ascending": False}
    assert names(door, order_by=[by]) == ["a", "b", "c"]
    assert names(door, order_by=[{**by, "dataset_name": "train"}]) == ["b", "a", "c"]
    assert names(door, order_by=[{"field_name": "name"}]) == ["a", "b", "c"]
    first = post(door, "logged-models/search", experiment_ids=["0"], max_results=2, order_by=[by])
    rest = names(door, order_by=[by], page_token=first["next_page_token"])
    assert [each["info"]["name"] for each in first["models"]] + rest == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"experiment_ids": []}, "required parameter 'experiment_ids'"),
        ({"datasets": [{"dataset_digest": "x"}]}, "`dataset_name` in the `datasets` clause must be specified."),
        ({"order_by": [{"field_name": "colour"}]}, "Invalid order by field name: colour"),
        ({"order_by": [{"field_name": "params.x"}]}, "Only metrics are supported."),
        ({"filter": "colour = 'red'"}, "Invalid attribute key 'colour'"),
        ({"filter": "datasets.name = 'x'"}, "Invalid entity type 'dataset'"),
    ],
)
def test_a_search_that_would_find_nothing_for_the_wrong_reason_is_refused(
    door: httpx.Client, given: dict[str, Any], words: str
) -> None:
    answer = door.post(f"{API}/logged-models/search", json={"experiment_ids": ["0"], **given})
    assert refused(answer) == (400, "INVALID_PARAMETER_VALUE") and words in answer.json()["message"], answer.text


def test_a_model_says_which_versions_it_is_and_gives_its_files(door: httpx.Client) -> None:
    id_ = model(door, "m")
    proxy = f"/api/2.0/mlflow-artifacts/artifacts/0/models/{id_}/artifacts/MLmodel"
    door.put(proxy, content=b"flavours: none").raise_for_status()
    post(door, "registered-models/create", name="r")
    for _ in range(2):
        made = post(door, "model-versions/create", name="r", source=f"models:/{id_}", model_id=id_)["model_version"]
        assert made["model_id"] == id_
    tags = {each["key"]: each["value"] for each in read(door, id_)["info"]["tags"]}
    assert json.loads(tags["mlflow.modelVersions"]) == [{"name": "r", "version": 1}, {"name": "r", "version": 2}]
    files = f"{AJAX}/logged-models/{id_}/artifacts/files"
    assert door.get(files, params={"artifact_file_path": "MLmodel"}).text == "flavours: none"
    assert refused(door.get(files)) == (400, "BAD_REQUEST")
    assert refused(door.get(files, params={"artifact_file_path": "../x"})) == (400, "INVALID_PARAMETER_VALUE")
    gone = door.post(f"{API}/model-versions/create", json={"name": "r", "source": "models:/m-no", "model_id": "m-no"})
    assert refused(gone) == (400, "INVALID_PARAMETER_VALUE")


def test_a_version_made_of_another_has_its_lineage_and_no_other(door: httpx.Client) -> None:
    """Who says where a model comes from must not be wrong about what lies here; what lies elsewhere is believed."""
    runs = [post(door, "runs/create", experiment_id="0")["run"]["info"]["run_id"] for _ in range(2)]
    id_ = model(door, "m")
    for name in ("from", "to"):
        post(door, "registered-models/create", name=name)
    post(door, "model-versions/create", name="from", source=f"runs:/{runs[0]}/m", run_id=runs[0], model_id=id_)
    post(door, "registered-models/alias", name="from", version="1", alias="best")
    copied = post(door, "model-versions/create", name="to", source="models:/from@best")["model_version"]
    assert (copied["source"], copied["run_id"], copied["model_id"]) == ("models:/from/1", runs[0], id_)
    again = post(door, "model-versions/create", name="to", source="models:/from/latest")["model_version"]
    assert again["source"] == "models:/from/1"
    uri = door.get(f"{API}/model-versions/get-download-uri", params={"name": "to", "version": "1"}).json()
    assert uri == {"artifact_uri": f"runs:/{runs[0]}/m"}
    elsewhere = {"source": "runs:/of-another-tracker/m", "run_id": runs[0]}
    assert post(door, "model-versions/create", name="to", **elsewhere)["model_version"]["run_id"] == runs[0]
    for wrong, words in (
        ({"source": f"runs:/{runs[0]}/m", "run_id": runs[1]}, "The run_id request parameter must identify"),
        ({"source": f"mlflow-artifacts:/0/{runs[0]}/artifacts/m", "run_id": runs[1]}, "The run_id request"),
        ({"source": "models:/from/1", "run_id": runs[1]}, "must match the referenced model version"),
        ({"source": f"models:/{id_}", "model_id": model(door, "n")}, "The model_id request parameter"),
    ):
        answer = door.post(f"{API}/model-versions/create", json={"name": "to", **wrong})
        assert refused(answer) == (400, "INVALID_PARAMETER_VALUE") and words in answer.text, answer.text
    gone = door.post(f"{API}/model-versions/create", json={"name": "to", "source": "models:/from/9"})
    assert refused(gone) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_removed_model_is_shown_only_to_who_asks_for_removed_ones(door: httpx.Client) -> None:
    id_ = model(door, "m")
    door.delete(f"{API}/logged-models/{id_}").raise_for_status()
    assert refused(door.get(f"{API}/logged-models/{id_}")) == (404, "RESOURCE_DOES_NOT_EXIST")
    shown = door.get(f"{API}/logged-models/{id_}", params={"allow_deleted": "true"})
    assert shown.json()["model"]["info"]["model_id"] == id_


def test_models_of_the_old_clients_stand_in_a_tag_of_their_run(door: httpx.Client) -> None:
    run = post(door, "runs/create", experiment_id="0")["run"]["info"]["run_id"]
    told = {"artifact_path": "m", "flavors": {"python_function": {}}, "utc_time_created": "now", "run_id": run}
    for uuid in ("1", "2"):
        post(door, "runs/log-model", run_id=run, model_json=json.dumps({**told, "model_uuid": uuid, "more": "x"}))
    data = door.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["data"]
    (history,) = [each["value"] for each in data["tags"] if each["key"] == "mlflow.log-model.history"]
    assert json.loads(history) == [{**told, "model_uuid": "1"}, {**told, "model_uuid": "2"}]
    for wrong, words in (
        ("{", "Malformed model info"),
        ("{}", "missing mandatory fields: artifact_path"),
        ("[]", "Malf"),
    ):
        answer = door.post(f"{API}/runs/log-model", json={"run_id": run, "model_json": wrong})
        assert refused(answer) == (400, "INVALID_PARAMETER_VALUE") and words in answer.text
