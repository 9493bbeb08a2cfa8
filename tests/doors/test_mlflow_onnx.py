"""ONNX models that MLflow's client logs are served by the deck; what cannot be says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest

from quarterstore.records import deployments, registry
from tests.conftest import Daemon
from tests.doors.test_mlflow import API, PROXY, free_port, post, refused
from tests.faults.test_serving import until
from tests.small import onnx_file

SCRIPT = """
import mlflow, onnx, sys
mlflow.set_experiment("prices")
model = onnx.load_from_string(open(sys.argv[1], "rb").read())
with mlflow.start_run() as run:
    mlflow.log_metric("acc", 0.9)
    mlflow.onnx.log_model(model, name="model", registered_model_name="price", pip_requirements=[])
mlflow.register_model(f"runs:/{run.info.run_id}/model", "price")
client = mlflow.MlflowClient()
client.copy_model_version("models:/price/1", "copy")
client.transition_model_version_stage("price", "1", "Production")
assert mlflow.onnx.load_model("models:/price/2").graph.name == model.graph.name
"""


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[Any, httpx.Client]]:
    daemon, port = Daemon(Path(tempfile.mkdtemp(prefix="qd", dir="/tmp"))), free_port()
    daemon.start("--mlflow", f"127.0.0.1:{port}")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as door:
        yield daemon, door
    daemon.end()


def test_what_mlflows_onnx_flavour_logs_is_registered_as_its_file_and_answers(opened: Any, tmp_path: Path) -> None:
    daemon, door = opened
    (tmp_path / "given.onnx").write_bytes(
        onnx_file(inputs=300)
    )  # from 1,024 bytes on MLflow puts weights beside the file
    environ = {**os.environ, "MLFLOW_TRACKING_URI": str(door.base_url), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "given.onnx")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    with daemon.client() as owner:
        first, second, copy = (owner.ask(registry.ShowVersion(version=id_)) for id_ in ("price@1", "price@2", "copy@1"))
        assert {each.format for each in (first, second, copy)} == {"onnx"}
        assert first.digest == second.digest == copy.digest and copy.source == "models:/price/1"
        assert [each.name for each in first.signature.inputs] == ["x"] and first.logged_model and first.run
        assert [(each.name, each.value) for each in first.metrics] == [("acc", 0.9)]
        assert (second.semver, first.stage) == ("1.0.1", "Production"), second.reason
        shown = deployments.ShowDeployment(endpoint="price")
        served = daemon.qd("deploy", "price@1")
        assert served.returncode == 0, served.stderr
        until(lambda: owner.ask(shown).live == "price@1")
        until(lambda: owner.ask(deployments.ShowServing()).epoch >= owner.ask(shown).epoch)
        address = owner.ask(deployments.ShowServing()).address
    asked = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 300], "data": [1.0] * 300}]}
    answer = httpx.post(f"{address}/v2/models/price/infer", json=asked, timeout=20)
    assert answer.json()["outputs"][0]["data"] == [150.0], answer.text


def outside(location: str) -> bytes:
    """A model of two numbers that lie in another file."""
    model = onnx.load_from_string(onnx_file())
    (weights,) = model.graph.initializer
    onnx.external_data_helper.set_external_data(weights, location, length=8)
    weights.ClearField("raw_data")
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"m/model.onnx": outside("../model.onnx"), "m/w": b"0" * 8}, "file: got weights in '../model.onnx'"),
        ({"m/model.onnx": outside("w"), "m/w": b"0" * 7}, "file: got 8 bytes from 0 on in 'w', expected at most its 7"),
        ({"m/model.onnx": b"no model"}, "file: got a file that begins with"),
        ({"m/model.onnx": onnx_file(), "m/other.onnx": onnx_file("o")}, None),
        ({"m/artifacts/model.onnx": onnx_file(), "m/MLmodel": b"flavors: {python_function: {}}"}, None),
    ],
)
def test_a_folder_that_is_not_one_onnx_file_is_kept_by_reference(
    opened: Any, files: dict[str, bytes], why: str | None
) -> None:
    daemon, door = opened
    run = post(door, "runs/create", experiment_id="0")["run"]["info"]["run_id"]
    for path, body in files.items():
        door.put(f"{PROXY}/0/{run}/artifacts/{path}", content=body).raise_for_status()
    name = f"m{run[:8]}"
    post(door, "registered-models/create", name=name)
    made = post(door, "model-versions/create", name=name, source=f"runs:/{run}/m", run_id=run)["model_version"]
    tags = {each["key"]: each["value"] for each in made["tags"]}
    assert tags.get("quarterdeck.by_reference", "").startswith(why or "") and bool(tags) is bool(why), tags
    post(door, "model-versions/transition-stage", name=name, version="1", stage="Production")
    done = daemon.qd("deploy", f"{name}@1")
    assert done.returncode == 6 and "kept by reference" in done.stderr, done.stderr


def test_a_stage_is_moved_in_one_entry_with_what_it_archives_and_skips(opened: Any) -> None:
    daemon, door = opened
    post(door, "registered-models/create", name="staged")
    for _ in range(2):
        post(door, "model-versions/create", name="staged", source="s3://b/m")
    for version in ("1", "2"):
        post(door, "model-versions/transition-stage", name="staged", version=version, stage="Production")
    told = [json.loads(line) for line in daemon.qd("registry", "moves", "staged", "--json").stdout.splitlines()]
    moves = {each["version"]: each for each in told if each["after"] == "Production"}
    archived = next(each for each in told if each["after"] == "Archived")
    assert (archived["version"], archived["entry"]) == ("staged@1", moves["staged@2"]["entry"])
    assert all(each["skipped"] for each in moves.values()), moves


def test_a_source_outside_of_the_deck_with_a_logged_model_that_is_not_there_is_refused(opened: Any) -> None:
    _, door = opened
    post(door, "registered-models/create", name="odd")
    answer = door.post(f"{API}/model-versions/create", json={"name": "odd", "source": "s3://b", "model_id": "no"})
    assert refused(answer) == (400, "INVALID_PARAMETER_VALUE")
