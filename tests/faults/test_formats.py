"""V1, V2: model files as others write them, at a real daemon: what is kept, what is refused, what is found damaged."""

from __future__ import annotations

import json
import math
import pickle
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skops.io
from msgspec.structs import replace
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from quarterstore.records import deployments, governance, jobs, registry, runs
from quarterstore.records.faults import Corrupt, Invalid, Refused
from tests.formats.test_recognise import Evil, safetensors, tensor
from tests.small import onnx_file

pytestmark = pytest.mark.fault
PATIENCE = 150.0
"""Seconds: reading skops' types loads scikit-learn, which a busy machine takes its time for."""
SHAPE = registry.Signature(
    inputs=(registry.Tensor("x", "FP32", (-1, 2)),), outputs=(registry.Tensor("y", "FP32", (-1, 1)),)
)
SCHEMA = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
}


def written(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: Any) -> str:
    """A schema as people declare it."""
    return written(tmp_path_factory.mktemp("schema"), "schema.json", json.dumps(SCHEMA).encode())


def file_of(folder: Path, kind: str) -> str:
    """A sound file of a format, under a name that says nothing."""
    path = folder / f"model-{kind}"
    if kind == "skops":
        x = np.arange(8.0).reshape(4, 2)
        skops.io.dump(LogisticRegression().fit(x, [0, 0, 1, 1]), path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"weights": [1.0, 2.0], "evil": Evil()}))
    elif kind == "safetensors":
        path.write_bytes(safetensors({"w": tensor(0, 400)}, bytes(400)))
    else:
        path.write_bytes(onnx_file("by format"))
    return str(path)


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "skops", "pickle"])
def test_one_flipped_byte_of_a_kept_file_is_found_before_it_is_used(daemon: Any, tmp_path: Path, kind: str) -> None:
    """The complaint names the file, the hash that was found and the one that was kept."""
    with daemon.client(timeout=PATIENCE) as client:
        digest, size = client.put(file_of(tmp_path, kind))
        asked = registry.RegisterVersion(kind, digest, size, "auto", SHAPE, allow_code=kind == "pickle")
        assert client.ask(asked).format == kind
    kept = daemon.home.artefacts / digest[:2] / digest
    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 1
    kept.chmod(0o600)
    kept.write_bytes(bytes(data))
    with daemon.client(timeout=PATIENCE) as client:
        with pytest.raises(Corrupt) as fetched:
            client.get(digest, tmp_path / "fetched")
        with pytest.raises(Corrupt) as registered:
            client.ask(asked)
    got = daemon.qd("version", "get", f"{kind}@1", str(tmp_path / "by hand"))
    assert got.returncode == 1 and f"expected {digest}" in got.stderr and not (tmp_path / "by hand").exists()
    line = registered.value.line()
    assert digest[:16] in line and f"expected {digest}" in line
    found = line.split("got ")[1][:64]
    assert len(found) == 64 and found != digest and found in fetched.value.line()


def test_a_version_is_fetched_byte_for_byte_and_writes_over_nothing(daemon: Any, tmp_path: Path, schema: str) -> None:
    path = file_of(tmp_path, "safetensors") + "-2"
    Path(path).write_bytes(safetensors({"fetched": tensor(0, 40)}, bytes(range(40))))
    assert daemon.qd("register", path, "--name", "fetched", "--schema", schema).returncode == 0
    target = tmp_path / "back.safetensors"
    done = daemon.qd("--json", "version", "get", "fetched@latest", str(target))
    assert done.returncode == 0 and json.loads(done.stdout)["format"] == "safetensors"
    assert target.read_bytes() == Path(path).read_bytes()
    assert daemon.qd("version", "get", "fetched@1", str(target)).returncode == 5
    assert daemon.qd("version", "get", "fetched@7", str(tmp_path / "none")).returncode == 4


def test_a_pickle_is_kept_only_when_somebody_says_so_and_that_is_seen_for_ever(
    daemon: Any, tmp_path: Path, schema: str
) -> None:
    path = written(tmp_path, "model.onnx", pickle.dumps(Evil()))
    words = ("register", path, "--name", "dark", "--schema", schema)
    refused = daemon.qd(*words)
    assert refused.returncode == 6 and "posix.system" in refused.stderr and "--allow-code" in refused.stderr
    with daemon.client() as client:
        assert "dark" not in {model.name for model in client.ask(registry.ListModels())}
    done = daemon.qd(*words, "--allow-code")
    assert done.returncode == 0 and "posix.system" in done.stderr
    with daemon.client() as client:
        version = client.ask(registry.ShowVersion(version="dark@1"))
        assert (version.format, version.allow_code, version.code) == ("pickle", True, ("posix.system",))
        assert "code allowed: pickle that imports posix.system" in client.ask(governance.ListAudit(limit=1))[0].words
        client.ask(registry.MoveStage(version="dark@1", stage="Staging"))
        client.ask(registry.MoveStage(version="dark@1", stage="Production", reason="a test"))
    live = daemon.qd("deploy", "dark@1")
    assert live.returncode == 6 and "dark@1 is pickle, expected onnx" in live.stderr


def test_skops_with_types_that_nobody_vouches_for_names_them_and_needs_leave(daemon: Any, tmp_path: Path) -> None:
    path = tmp_path / "odd.skops"
    skops.io.dump(FunctionTransformer(np.frombuffer), path)
    with daemon.client(timeout=PATIENCE) as client:
        asked = registry.RegisterVersion("odd", *client.put(path), "auto", SHAPE)
        with pytest.raises(Refused, match=r"not trusted: numpy\.frombuffer") as refused:
            client.ask(asked)
        assert refused.value.next is not None
        assert "skl2onnx.to_onnx" in refused.value.next and "--allow-code" in refused.value.next
        assert client.ask(replace(asked, allow_code=True)).code == ("numpy.frombuffer",)
    schema = written(tmp_path, "s.json", json.dumps(SCHEMA).encode())
    said = daemon.qd("register", str(path), "--name", "odd", "--schema", schema, "--allow-code").stderr
    assert "its ONNX child: --sample ROWS.json, then qd registry convert --version odd@2" in said


BAD: list[tuple[str, bytes, int, str]] = [
    ("an empty file", b"", 2, "an empty file"),
    ("a model that is cut off", onnx_file("cut")[:-20], 2, "early"),
    ("a header that lies", safetensors({"w": tensor(0, 80)}, bytes(8)), 2, "where the file ends"),
    ("a header of 100 MB", safetensors({}, length=100_000_000), 2, "100,000,000"),
    ("a text", b"no model at all\n", 2, "begins with"),
]


@pytest.mark.parametrize(("data", "code", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_file_that_is_no_model_is_refused_in_one_line(
    daemon: Any, tmp_path: Path, schema: str, data: bytes, code: int, said: str
) -> None:
    done = daemon.qd("register", written(tmp_path, "m.onnx", data), "--name", "bad", "--schema", schema)
    assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("place", ["../../etc/passwd", "/etc/passwd", "beside.bin"])
def test_a_model_whose_numbers_lie_elsewhere_is_refused(daemon: Any, tmp_path: Path, place: str) -> None:
    model = onnx.load_model_from_string(onnx_file("outside"))
    [weights] = model.graph.initializer
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.append(onnx.StringStringEntryProto(key="location", value=place))
    done = daemon.qd("register", written(tmp_path, "m.onnx", model.SerializeToString()), "--name", "outside")
    assert done.returncode == 6 and "external data" in done.stderr


def test_a_file_of_another_format_than_was_declared_is_refused(daemon: Any, tmp_path: Path) -> None:
    with daemon.client() as client:
        digest, size = client.put(safetensors({"w": tensor(0, 8)}, bytes(8)))
        with pytest.raises(Invalid, match="got onnx, expected safetensors"):
            client.ask(registry.RegisterVersion("m", digest, size, "onnx", registry.Signature((), ())))


def test_a_schema_that_the_file_does_not_have_is_refused_by_name(daemon: Any, tmp_path: Path) -> None:
    for name, wrong, said in (
        ("name", {"name": "z", "datatype": "FP32", "shape": [-1, 2]}, "no x"),
        ("type", {"name": "x", "datatype": "INT64", "shape": [-1, 2]}, "x INT64"),
        ("shape", {"name": "x", "datatype": "FP32", "shape": [-1, 3]}, "[-1, 3]"),
    ):
        schema = written(tmp_path, f"{name}.json", json.dumps({**SCHEMA, "inputs": [wrong]}).encode())
        done = daemon.qd("register", written(tmp_path, "m.onnx", onnx_file()), "--name", "other", "--schema", schema)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_weights_without_a_schema_are_refused_and_a_sample_shows_one(daemon: Any, tmp_path: Path) -> None:
    path = written(tmp_path, "w", safetensors({"weights": tensor(0, 8)}, bytes(8)))
    refused = daemon.qd("register", path, "--name", "weights")
    assert refused.returncode == 2 and "no input schema (give --schema or a sample)" in refused.stderr
    sample = {"inputs": {"x": [[1, 2.5], [3, 4]], "city": [["Rome"], ["Oslo"]]}, "outputs": {"label": [0, 1]}}
    shown = written(tmp_path, "sample.json", json.dumps(sample).encode())
    assert daemon.qd("register", path, "--name", "weights", "--sample", shown).returncode == 0
    with daemon.client() as client:
        found = client.ask(registry.ShowVersion(version="weights@1")).signature
    assert found.inputs == (registry.Tensor("x", "FP32", (-1, 2)), registry.Tensor("city", "BYTES", (-1, 1)))
    assert found.outputs == (registry.Tensor("label", "INT64", (-1,)),) and found.task == "classification"
    for bad in ({"inputs": {"x": [[1], [2, 3]]}, "outputs": {}}, {"inputs": {"x": [[{}]]}, "outputs": {}}, [1]):
        ragged = written(tmp_path, "bad.json", json.dumps(bad).encode())
        assert daemon.qd("register", path, "--name", "weights", "--sample", ragged).returncode == 2


def test_the_semantic_version_is_worked_out_and_one_that_is_too_low_is_refused_with_the_difference(
    daemon: Any, tmp_path: Path
) -> None:
    def register(data: bytes, *words: str) -> Any:
        return daemon.qd("register", written(tmp_path, "m.onnx", data), "--name", "steps", *words)

    assert "steps@1 is 1.0.0: the first version" in register(onnx_file("1")).stderr
    assert "steps@2 is 1.0.1: patch: the same signature, retrained" in register(onnx_file("2")).stderr
    low = register(onnx_file("3", outputs=2), "--bump", "patch")
    assert low.returncode == 6
    assert "got patch, expected major: output y FP32[-1, 1] -> FP32[-1, 2]" in low.stderr
    assert "steps@3 is 2.0.0: major: output y" in register(onnx_file("3", outputs=2)).stderr
    assert "is 2.1.0: minor" in register(onnx_file("4", outputs=2), "--bump", "minor").stderr
    assert register(onnx_file("5", outputs=2), "--bump", "huge").returncode == 2


def test_a_schema_that_leaves_out_what_the_outputs_mean_breaks_no_caller_by_that(daemon: Any, tmp_path: Path) -> None:
    """It once meant a classification, so one more optional input asked for a major version."""
    path = written(tmp_path, "m.onnx", onnx_file("meaning"))
    assert daemon.qd("register", path, "--name", "meant").returncode == 0
    schema = {name: [{**each, "optional": name == "inputs"} for each in SCHEMA[name]] for name in ("inputs", "outputs")}
    done = daemon.qd(
        "register", path, "--name", "meant", "--schema", written(tmp_path, "s", json.dumps(schema).encode())
    )
    assert "meant@2 is 1.1.0: minor: input x required -> optional" in done.stderr


def points(run: str, value: float) -> runs.LogMetrics:
    """One point of one metric."""
    parts = {code: array(code, [number]).tobytes() for code, number in (("H", 0), ("q", 0), ("d", value))}
    return runs.LogMetrics(
        run=run, batch="b", keys=("accuracy",), key=parts["H"], step=parts["q"], time=parts["d"], value=parts["d"]
    )


def test_a_run_is_registered_by_its_model_with_its_metrics_and_a_child_shows_its_parent(
    daemon: Any, tmp_path: Path
) -> None:
    with daemon.client() as client:
        run = client.ask(runs.StartRun(experiment="formats")).id
        client.ask(points(run, 0.875))
        for name, data in (("model.onnx", onnx_file("of a run")), ("notes.txt", b"notes")):
            digest, size = client.put(data)
            client.ask(runs.LogArtefact(run=run, path=name, digest=digest, size=size))
        client.ask(runs.EndRun(run=run))
    done = daemon.qd("--json", "register", run, "--name", "ran")
    assert done.returncode == 0, done.stderr
    [metric] = json.loads(done.stdout)["metrics"]
    assert (metric["name"], metric["value"]) == ("accuracy", 0.875)
    path = written(tmp_path, "tuned.onnx", onnx_file("tuned"))
    assert daemon.qd("register", path, "--name", "tuned", "--run", run, "--parent", "ran@latest").returncode == 0
    with daemon.client() as client:
        client.ask(replace(points(run, 1.0), batch="nan", keys=("loss",), value=array("d", [math.nan]).tobytes()))
    noted = daemon.qd("register", run, "--name", "noted")
    assert noted.returncode == 0 and noted.stderr.startswith("loss is nan: no metric of the version"), noted.stderr
    lineage = daemon.qd("lineage", "tuned@1", "--up")
    assert "parent" in lineage.stdout and "ran@1" in lineage.stdout and run in lineage.stdout
    assert daemon.qd("register", run, "--name", "ran", "--artefact", "notes.txt").returncode == 2
    assert daemon.qd("register", run, "--name", "ran", "--artefact", "model.onx").returncode == 4
    assert daemon.qd("register", "run-that-is-none", "--name", "ran").returncode == 4
    assert daemon.qd("register", "no/such/file.onnx", "--name", "ran").returncode == 2
    assert daemon.qd("register", path, "--name", "ran", "--parent", "ran@9").returncode == 4


def test_an_input_that_is_optional_has_a_value_for_what_is_missing(daemon: Any, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["n"], ["y"])],
        "whole",
        [helper.make_tensor_value_info("n", TensorProto.INT64, ["b", 1])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["b", 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    signature = {
        "inputs": [{"name": "n", "datatype": "INT64", "shape": [-1, 1], "optional": True}],
        "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1, 1]}],
    }
    schema = written(tmp_path, "s.json", json.dumps(signature).encode())
    done = daemon.qd(
        "register", written(tmp_path, "m.onnx", model.SerializeToString()), "--name", "whole", "--schema", schema
    )
    assert done.returncode == 2 and "optional INT64" in done.stderr


def test_a_skops_version_is_served_by_its_onnx_child(daemon: Any, tmp_path: Path) -> None:
    """Registered, refused for traffic, converted in a job of its own, served; the child is a patch of its parent."""
    x = np.random.default_rng(5).normal(size=(80, 2)).astype(np.float32)
    estimator = LogisticRegression().fit(x, (x[:, 0] > 0).astype(int))
    skops.io.dump(estimator, tmp_path / "m.skops")
    golden = {
        "inputs": {"x": x[:20].tolist()},
        "outputs": {"label": estimator.predict(x[:20]).tolist(), "score": estimator.predict_proba(x[:20]).tolist()},
        "labels": estimator.predict(x[:20]).tolist(),
    }
    with daemon.client(timeout=PATIENCE) as client:
        digest, size = client.put(tmp_path / "m.skops")
        sample, _ = client.put(json.dumps(golden).encode())
        nothing = registry.Signature((), ())
        client.ask(registry.RegisterVersion("linear", digest, size, "auto", nothing, golden=sample))
        for stage in ("Staging", "Production"):
            client.ask(registry.MoveStage(version="linear@1", stage=stage, reason="a test"))  # type: ignore[arg-type]
        with pytest.raises(Refused, match="linear@1 is skops, expected onnx") as refused:
            client.ask(deployments.Deploy(version="linear@1"))
        assert refused.value.next == "qd registry convert --version linear@1"
        job = client.ask(registry.ConvertVersion(version="linear@1"))
        for _ in client.follow(0):
            job = client.ask(jobs.ShowJob(job=job.id))
            if job.state not in ("QUEUED", "RUNNING"):
                break
        assert job.state == "SUCCEEDED", job.error
        child = client.ask(registry.ShowVersion(version="linear@2"))
        assert (child.format, child.parent, child.semver) == ("onnx", "linear@1", "1.0.1")
        assert {metric.name for metric in child.metrics} >= {"accuracy"}
        below = client.ask(registry.ShowLineage(version="linear@1")).down
        assert ("child", "linear@2", "1.0.1, None") in [(node.kind, node.id, node.words) for node in below]
        for stage in ("Staging", "Production"):
            client.ask(registry.MoveStage(version="linear@2", stage=stage, reason="a test"))  # type: ignore[arg-type]
        client.ask(deployments.Deploy(version="linear@2"))
        for _ in client.follow(0):
            if client.ask(deployments.ShowDeployment(endpoint="linear")).live == "linear@2":
                break
        assert client.ask(deployments.ShowDeployment(endpoint="linear")).live == "linear@2"
        with pytest.raises(Refused, match="expected skops"):
            client.ask(registry.ConvertVersion(version="linear@2"))
