"""The MLflow door: MLflow's own client unmodified, and the same routes by hand with everything that is wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeck import keys
from quarterstore.records.governance import ListAudit
from quarterstore.records.people import AddKey
from tests.conftest import Daemon

API = "/api/2.0/mlflow"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def door(daemon_with_door: tuple[Any, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=daemon_with_door[1], timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def daemon_with_door() -> Iterator[tuple[Any, str]]:
    daemon, port = Daemon(Path(tempfile.mkdtemp(prefix="qd", dir="/tmp"))), free_port()
    daemon.start("--mlflow", f"127.0.0.1:{port}")
    yield daemon, f"http://127.0.0.1:{port}"
    daemon.end()


def post(door: httpx.Client, route: str, **given: Any) -> Any:
    answer = door.post(f"{API}/{route}", json=given)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


@pytest.fixture(scope="module")
def run(door: httpx.Client) -> str:
    experiment = post(door, "experiments/create", name="by hand")["experiment_id"]
    return str(post(door, "runs/create", experiment_id=experiment, run_name="one")["run"]["info"]["run_id"])


SCRIPT = """
import math, os, tempfile
import mlflow
from mlflow.entities import Dataset, DatasetInput, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

def code(work):
    try:
        work()
    except MlflowException as error:
        return error.error_code
    return None

client = mlflow.MlflowClient()
experiment = mlflow.set_experiment("churn")
with mlflow.start_run(run_name="first", tags={"team": "one"}) as run:
    mlflow.log_params({"lr": 0.1, "depth": 3})
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metric("loss", 9.0, step=1)
    mlflow.log_metrics({"acc": 0.9, "bad": math.nan, "big": -math.inf}, step=3)
    path = os.path.join(tempfile.mkdtemp(), "note.txt")
    open(path, "w").write("hello")
    mlflow.log_artifact(path)
    mlflow.log_artifact(path, "deep/er")
    mlflow.log_dict({"a": 1}, "d.json")
    with mlflow.start_run(nested=True, run_name="child") as child:
        mlflow.log_metric("acc", 0.5)
id_ = run.info.run_id
found = client.get_run(id_)
assert (found.info.status, found.info.run_name, found.info.lifecycle_stage) == ("FINISHED", "first", "active")
assert found.data.params == {"lr": "0.1", "depth": "3"}
assert found.data.metrics["loss"] == 0.2 and found.data.metrics["big"] == -math.inf
assert math.isnan(found.data.metrics["bad"])
assert found.data.tags["team"] == "one"
assert client.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == id_
assert len(client.get_metric_history(id_, "loss")) == 6
assert {each.path for each in client.list_artifacts(id_)} == {"d.json", "deep", "note.txt"}
assert [(each.path, each.is_dir) for each in client.list_artifacts(id_, "deep")] == [("deep/er", True)]
assert open(mlflow.artifacts.download_artifacts(run_id=id_, artifact_path="deep/er/note.txt")).read() == "hello"
assert mlflow.artifacts.load_dict(found.info.artifact_uri + "/d.json") == {"a": 1}
names = lambda **given: [each.info.run_name for each in mlflow.search_runs(output_format="list", **given)]
assert names(filter_string="metrics.acc > 0.5 and tags.team = 'one'") == ["first"]
assert names(order_by=["metrics.acc DESC"]) == ["first", "child"]
assert names(order_by=["metrics.acc ASC"], filter_string="status = 'FINISHED'") == ["child", "first"]
one = client.search_runs([experiment.experiment_id], max_results=1)
two = client.search_runs([experiment.experiment_id], max_results=1, page_token=one.token)
assert {one[0].info.run_id, two[0].info.run_id} == {id_, child.info.run_id} and not two.token
many = [Metric("many", n, n, n) for n in range(1000)]
client.log_batch(id_, metrics=many, params=[Param("p", "1")], tags=[RunTag("t", "2")])
assert len(client.get_metric_history(id_, "many")) == 1000
assert code(lambda: client.log_param(id_, "lr", "0.2")) == "INVALID_PARAMETER_VALUE"
assert code(lambda: client.create_experiment("churn")) == "RESOURCE_ALREADY_EXISTS"
assert code(lambda: client.get_run("0" * 32)) == "RESOURCE_DOES_NOT_EXIST"
client.log_inputs(id_, [DatasetInput(Dataset("rows", "abc", "local", "{}"))])
assert client.get_run(id_).inputs.dataset_inputs[0].dataset.digest == "abc"
client.set_tag(id_, "gone", "1")
client.delete_tag(id_, "gone")
assert "gone" not in client.get_run(id_).data.tags
client.update_run(id_, name="renamed")
assert client.get_run(id_).info.run_name == "renamed"
client.delete_run(id_)
assert client.get_run(id_).info.lifecycle_stage == "deleted"
client.restore_run(id_)
client.set_experiment_tag(experiment.experiment_id, "k", "v")
client.rename_experiment(experiment.experiment_id, "churn 2")
assert client.get_experiment(experiment.experiment_id).tags == {"k": "v"}
assert [each.name for each in client.search_experiments(filter_string="name LIKE 'churn%'")] == ["churn 2"]
client.delete_experiment(experiment.experiment_id)
assert client.get_experiment(experiment.experiment_id).lifecycle_stage == "deleted"
client.restore_experiment(experiment.experiment_id)
assert client.get_run(id_).info.lifecycle_stage == "active"
model = client.create_logged_model(experiment.experiment_id, name="m", source_run_id=id_, params={"a": "1"})
client.log_model_artifact(model.model_id, path)
client.set_logged_model_tags(model.model_id, {"x": "y"})
client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
model = client.get_logged_model(model.model_id)
assert (model.status, model.tags["x"], model.params) == (LoggedModelStatus.READY, "y", {"a": "1"})
assert [each.model_id for each in client.search_logged_models([experiment.experiment_id])] == [model.model_id]
assert open(mlflow.artifacts.download_artifacts(artifact_uri=model.artifact_location + "/note.txt")).read() == "hello"
print("all of it")
"""


def test_mlflows_own_client_works_unmodified(daemon_with_door: tuple[Any, str]) -> None:
    """The `mlflow` package as it is installed, in a process of its own."""
    environ = {**os.environ, "MLFLOW_TRACKING_URI": daemon_with_door[1], "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=100, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.rstrip().endswith("all of it")


def test_health_version_and_an_unknown_route(door: httpx.Client) -> None:
    assert (door.get("/health").text, door.get("/version").text[:2]) == ("OK", "3.")
    assert refused(door.get("/api/3.0/mlflow/server-info")) == (404, "ENDPOINT_NOT_FOUND")
    assert refused(door.get(f"{API}/runs/create")) == (404, "ENDPOINT_NOT_FOUND")


def test_the_same_routes_answer_a_browsers_prefix(door: httpx.Client, run: str) -> None:
    answer = door.get("/ajax-api/2.0/mlflow/runs/get", params={"run_id": run})
    assert answer.json()["run"]["info"]["run_name"] == "one"


WRONG, TAKEN, ABSENT = "INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"
POINT = {"run_id": "RUN", "key": "a", "value": 1, "timestamp": 1}
MANY = [{"key": "a", "value": 1, "timestamp": 1}] * 1001


@pytest.mark.parametrize(
    ("route", "given", "status", "code"),
    [
        ("experiments/create", {}, 400, WRONG),
        ("experiments/create", {"name": "by hand"}, 400, TAKEN),
        ("experiments/create", {"name": "\x1b[31mred"}, 400, WRONG),
        ("experiments/create", {"name": {"a": 1}}, 400, WRONG),
        ("runs/create", {"experiment_id": "777"}, 404, ABSENT),
        ("runs/update", {"run_id": "nobody", "status": "FINISHED"}, 404, ABSENT),
        ("runs/update", {"run_id": "RUN", "status": "DONE"}, 400, WRONG),
        ("runs/log-metric", {**POINT, "value": "abc"}, 400, WRONG),
        ("runs/log-metric", {**POINT, "value": None}, 400, WRONG),
        ("runs/log-metric", {**POINT, "timestamp": None}, 400, WRONG),
        ("runs/log-metric", {**POINT, "timestamp": "soon"}, 400, WRONG),
        ("runs/log-metric", {**POINT, "step": 2**70}, 400, WRONG),
        ("runs/log-metric", {**POINT, "key": "k" * 251}, 400, WRONG),
        ("runs/log-parameter", {"run_id": "RUN", "key": "a", "value": "x" * 6001}, 400, WRONG),
        ("runs/log-batch", {"run_id": "RUN", "metrics": MANY}, 400, WRONG),
        ("runs/log-batch", {"run_id": "RUN", "metrics": "many"}, 400, WRONG),
        ("runs/log-batch", {"run_id": "RUN", "metrics": ["many"]}, 400, WRONG),
        ("runs/search", {"experiment_ids": ["1"], "filter": "metrics.a >"}, 400, WRONG),
        ("runs/search", {"experiment_ids": ["1"], "max_results": 50001}, 400, WRONG),
        ("runs/search", {"experiment_ids": ["1"], "page_token": "x"}, 400, WRONG),
        ("runs/delete-tag", {"run_id": "RUN", "key": "none"}, 404, ABSENT),
        ("runs/log-inputs", {"run_id": "RUN", "datasets": ["rows"]}, 400, WRONG),
        ("logged-models", {"experiment_id": "777"}, 404, ABSENT),
        ("logged-models", {"experiment_id": "1", "tags": [{"key": "a;b", "value": ""}]}, 400, WRONG),
        ("logged-models/search", {"experiment_ids": ["1"], "order_by": ["name"]}, 400, WRONG),
    ],
)
def test_bad_input_has_mlflows_code_and_changes_nothing(
    door: httpx.Client, run: str, route: str, given: dict[str, Any], status: int, code: str
) -> None:
    before = door.get(f"{API}/runs/get", params={"run_id": run}).json()
    told = {name: run if value == "RUN" else value for name, value in given.items()}
    assert refused(door.post(f"{API}/{route}", json=told)) == (status, code)
    assert door.get(f"{API}/runs/get", params={"run_id": run}).json() == before


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(door: httpx.Client, body: bytes) -> None:
    answer = door.post(f"{API}/runs/create", content=body)
    assert refused(answer)[0] == 400


@pytest.mark.parametrize(
    "path", ["../../x", "%2e%2e/%2e%2e/x", "%252e%252e/x", "a//b", "..%5c..%5cx", "%2fetc/passwd", "a/%00"]
)
def test_no_path_leaves_a_run(daemon_with_door: tuple[Any, str], run: str, path: str) -> None:
    """Sent as it is: a client library would tidy it."""
    host, _, port = daemon_with_door[1].removeprefix("http://").partition(":")
    for method in ("PUT", "GET", "DELETE"):
        with socket.create_connection((host, int(port)), timeout=10) as wire:
            start = f"{method} {PROXY}/1/{run}/artifacts/{path} HTTP/1.1\r\nhost: {host}\r\n"
            wire.sendall(f"{start}content-length: 1\r\nconnection: close\r\n\r\nx".encode())
            answer = b""
            while chunk := wire.recv(65536):
                answer += chunk
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404")), answer


def test_pages_of_other_addresses_and_other_host_names_are_refused(door: httpx.Client) -> None:
    """DNS rebinding and cross-site requests: whoever has a browser has a way to this address."""
    told = {"name": "from elsewhere"}
    evil = door.post(f"{API}/experiments/create", json=told, headers={"origin": "http://evil.example"})
    assert refused(evil) == (403, "PERMISSION_DENIED")
    assert door.post(f"{API}/experiments/create", json=told, headers={"host": "evil.example"}).status_code == 403
    assert door.get(f"{API}/experiments/get-by-name", params={"experiment_name": "from elsewhere"}).status_code == 404


def test_a_metric_that_was_answered_outlives_kill_9(absent: Any) -> None:
    port = free_port()
    absent.start("--mlflow", f"127.0.0.1:{port}")
    address = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=address, timeout=20) as door:
        run = post(door, "runs/create", experiment_id="0")["run"]["info"]["run_id"]
        for step in range(20):
            post(door, "runs/log-metric", run_id=run, key="loss", value=step, timestamp=step, step=step)
    absent.process.send_signal(signal.SIGKILL)
    absent.process.wait(20)
    absent.start("--mlflow", f"127.0.0.1:{port}")
    with httpx.Client(base_url=address, timeout=20) as door:
        found = door.get(f"{API}/metrics/get-history", params={"run_id": run, "metric_key": "loss"}).json()
        assert [point["step"] for point in found["metrics"]] == list(range(20))
        assert door.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["info"]["status"] == "RUNNING"


def test_in_a_team_everybody_needs_a_token_and_it_names_them(absent: Any) -> None:
    port = free_port()
    absent.start("--profile", "team", "--mlflow", f"127.0.0.1:{port}")
    with absent.client() as owner:
        owner.ask(AddKey(public=keys.make(absent.home, "ana"), person="ana", roles=("operator",)))
        owner.ask(AddKey(public=keys.make(absent.home, "carl"), person="carl", roles=("viewer",)))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as door:
        assert refused(door.post(f"{API}/experiments/create", json={"name": "a"})) == (401, "UNAUTHENTICATED")
        for wrong in ("Bearer nonsense", "Basic abc", "Bearer " + "0" * 40):
            answer = door.post(f"{API}/experiments/create", json={"name": "a"}, headers={"authorization": wrong})
            assert refused(answer) == (401, "UNAUTHENTICATED")
        told = {name: f"Bearer {absent.home.secret_key(name).read_text().strip()}" for name in ("ana", "carl")}
        post_as = lambda name: door.post(  # noqa: E731
            f"{API}/experiments/create", json={"name": f"of {name}"}, headers={"authorization": told[name]}
        )
        assert post_as("ana").status_code == 200
        assert refused(post_as("carl")) == (403, "PERMISSION_DENIED")
    with absent.client() as owner:
        (entry,) = owner.ask(ListAudit(text="of ana"))
        assert (entry.actor, entry.act) == ("ana", "experiments.create")
