"""What is written for KServe: a manifest as its documentation has it, and a model repository as Triton reads it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from quarterdeck import kserve
from quarterstore.records.faults import Invalid, Refused
from quarterstore.records.registry import MoveStage, RegisterVersion, Signature, Tensor, Version
from tests.small import onnx_file

ROWS = Signature(
    inputs=(
        Tensor(name="x", datatype="FP32", shape=(-1, 2)),
        Tensor(name='o"dd', datatype="BYTES", shape=(-1, 1), optional=True),
    ),
    outputs=(Tensor(name="y", datatype="INT64", shape=(-1, 1)),),
)
SERVICE = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "labels": dict, "annotations": dict},
    "spec": {
        "predictor": {
            "model": {"modelFormat": {"name": str}, "protocolVersion": str, "runtime": str, "storageUri": str}
        }
    },
}
"""Fields of `serving.kserve.io/v1beta1` and where they stand, as KServe's page on ONNX and its CRD have them."""


def version(**other: Any) -> Version:
    """`churn@3`."""
    about: dict[str, Any] = {
        "id": "churn@3",
        "model": "churn",
        "number": 3,
        "semver": "1.2.0",
        "stage": "Production",
        "digest": "a" * 64,
        "size": 1,
        "format": "onnx",
        "signature": ROWS,
        "created": 0.0,
        "created_by": "ana",
        "reason": "",
        **other,
    }
    return Version(**about)


def shaped(found: Any, shape: Any) -> bool:
    """Whether a manifest has these fields and no others."""
    if not isinstance(shape, dict):
        return isinstance(found, shape)
    return found.keys() == shape.keys() and all(shaped(found[name], shape[name]) for name in shape)


def test_the_manifest_has_the_fields_of_an_inference_service() -> None:
    text = kserve.yaml(kserve.inference_service(version(), "churn", "s3://bucket/models/churn"))
    found = yaml.safe_load(text)
    assert shaped(found, SERVICE)
    assert (found["apiVersion"], found["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    model = found["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "onnx"} and model["protocolVersion"] == "v2"
    assert model["runtime"] == "kserve-tritonserver" and model["storageUri"] == "s3://bucket/models/churn"
    assert found["metadata"]["annotations"]["quarterdeck/version"] == "churn@3"


def test_rows_are_batched_and_names_are_quoted_in_the_config() -> None:
    text = kserve.config(version(), "churn")
    assert "max_batch_size: 64" in text and "dynamic_batching { }" in text
    assert re.findall(r"data_type: (\w+)", text) == ["TYPE_FP32", "TYPE_STRING", "TYPE_INT64"]
    assert re.findall(r"dims: \[ (.*) \]", text) == ["2", "1", "1"] and r'"o\"dd"' in text
    assert text.count("optional: true") == 1


def test_tensors_that_are_no_rows_keep_their_whole_shape() -> None:
    whole = Signature(
        inputs=(Tensor(name="x", datatype="FP32", shape=(3, 224)),),
        outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 2)),),
    )
    text = kserve.config(version(signature=whole), "churn")
    assert "max_batch_size: 0" in text and "dynamic_batching" not in text
    assert re.findall(r"dims: \[ (.*) \]", text) == ["3, 224", "-1, 2"]


@pytest.mark.parametrize(("given", "name"), [("Churn Model", "churn-model"), ("a" * 80, "a" * 63), ("x_y.z", "x-y-z")])
def test_a_service_has_a_name_that_kubernetes_takes(given: str, name: str) -> None:
    assert kserve.service_name(given) == name


@pytest.mark.parametrize("given", ["9lives", "модель", "$()\n"])
def test_a_name_that_cannot_be_one_is_refused(given: str) -> None:
    with pytest.raises(Invalid, match="--endpoint NAME"):
        kserve.service_name(given)


@pytest.mark.parametrize("uri", ["file:///etc", "s3://a b", 's3://a"\n  x: y', "models"])
def test_a_place_that_kserve_does_not_fetch_from_is_refused(uri: str) -> None:
    with pytest.raises(Invalid, match="storage-uri"):
        kserve.inference_service(version(), "churn", uri)


def test_what_triton_cannot_serve_is_refused() -> None:
    odd = Signature(inputs=(Tensor(name="x", datatype="COMPLEX64", shape=(-1, 2)),), outputs=ROWS.outputs)
    for wrong in (version(format="skops"), version(signature=odd)):
        with pytest.raises(Refused):
            kserve.config(wrong, "churn")


def test_the_command_writes_the_repository_with_the_very_file(daemon: Any, tmp_path: Path) -> None:
    data = onnx_file("kserve")
    signature = Signature(
        inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
        outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
    )
    with daemon.client() as client:
        digest, size = client.put(data)
        asked = RegisterVersion(model="K Serve", digest=digest, size=size, format="onnx", signature=signature)
        made = client.ask(asked, timeout=60).id
        out = tmp_path / "out"
        early = daemon.qd("deploy", made, "--for", "kserve", "-o", str(out))
        assert early.returncode == 6 and "expected Production" in early.stderr and not out.exists()
        client.ask(MoveStage(version=made, stage="Production", skip_stage=True, reason="a test"))
    done = daemon.qd("deploy", "K Serve", "--for", "kserve", "-o", str(out), "--storage-uri", "pvc://models/k")
    assert done.returncode == 0, done.stderr
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == [
        "inferenceservice.yaml",
        "repository/k-serve/1/model.onnx",
        "repository/k-serve/config.pbtxt",
    ]
    kept = (out / "repository/k-serve/1/model.onnx").read_bytes()
    assert hashlib.sha256(kept).hexdigest() == digest
    again = daemon.qd("deploy", "K Serve", "--for", "kserve", "-o", str(out))
    assert again.returncode == 5 and "not empty" in again.stderr
    assert daemon.qd("deploy", made, "-o", str(out)).returncode == 2
