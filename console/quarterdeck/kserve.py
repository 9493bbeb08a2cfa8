"""A version as KServe deploys it: an InferenceService (v1beta1) and a model repository of Triton, as texts."""

from __future__ import annotations

import json
import re
from typing import Any

from quarterstore.records.base import Record
from quarterstore.records.faults import Refused, got
from quarterstore.records.registry import Tensor, Version

RUNTIME = "kserve-tritonserver"
"""The ClusterServingRuntime of Triton that KServe's installation brings."""
STORAGE = "pvc://models"
MAX_BATCH = 64
"""Rows that Triton puts together; it needs a first dimension of each tensor that is open."""
TYPES = {
    **{name: f"TYPE_{name}" for name in ("BOOL", "FP16", "FP32", "FP64")},
    **{f"{sign}INT{bits}": f"TYPE_{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "BYTES": "TYPE_STRING",
}
"""Datatypes of the Open Inference Protocol -> those of Triton's model_config.proto."""
_label = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_uri = re.compile(r"(s3|gs|pvc|hf|https?|hdfs|webhdfs|oci)://[A-Za-z0-9._~/:@%+=?&-]+\Z")


class Written(Record, frozen=True):
    """What was written: the service's name, its manifest, the model repository, and where that has to lie."""

    name: str
    manifest: str
    repository: str
    storage_uri: str


def service_name(text: str) -> str:
    """The name of a service for a model or an endpoint: a DNS label (RFC 1035), which Kubernetes asks for; `Invalid`
    where none can be made of it."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].rstrip("-")
    if not _label.match(name):
        raise got("endpoint", text, "--endpoint NAME of a-z, 0-9 and -, starting with a letter")
    return name


def inference_service(version: Version, name: str, storage_uri: str) -> dict[str, Any]:
    """The InferenceService of a version: its predictor is Triton with the ONNX file, spoken to by the Open Inference
    Protocol (v2)."""
    if not _uri.match(storage_uri):
        raise got("storage-uri", storage_uri, "s3://, gs://, pvc://, https:// or another place KServe fetches from")
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "quarterdeck"},
            "annotations": {
                "quarterdeck/version": version.id,
                "quarterdeck/semver": version.semver,
                "quarterdeck/sha256": version.digest,
            },
        },
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": "onnx"},
                    "protocolVersion": "v2",
                    "runtime": RUNTIME,
                    "storageUri": storage_uri,
                }
            }
        },
    }


def yaml(value: dict[str, Any], depth: int = 0) -> str:
    """Nested objects of texts as YAML: every text is quoted as JSON quotes it, which YAML 1.2 reads the same."""
    lines = []
    for key, found in value.items():
        start = "  " * depth + (key if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", key) else json.dumps(key)) + ":"
        if isinstance(found, dict):
            lines.append(f"{start}\n{yaml(found, depth + 1)}")
        else:
            lines.append(f"{start} {json.dumps(found)}\n")
    return "".join(lines)


def config(version: Version, name: str) -> str:
    """The config.pbtxt of a version (Triton's ModelConfig in protobuf's text form); `Refused` where Triton has no such
    type or the tensors are not rows."""
    if version.format != "onnx":
        raise Refused(f"{version.id} is {version.format}, expected onnx", field="version")
    sides = (("input", version.signature.inputs), ("output", version.signature.outputs))
    rows = all(tensor.shape[:1] == (-1,) and len(tensor.shape) > 1 for _, found in sides for tensor in found)
    parts = [
        f"name: {json.dumps(name)}",
        'backend: "onnxruntime"',
        'default_model_filename: "model.onnx"',
        f"max_batch_size: {MAX_BATCH if rows else 0}",
    ]
    for side, tensors in sides:
        parts.append(f"{side} [\n" + ",\n".join(_tensor(tensor, rows, side) for tensor in tensors) + "\n]")
    if rows:
        parts.append("dynamic_batching { }")
    return "\n".join(parts) + "\n"


def _tensor(tensor: Tensor, rows: bool, side: str) -> str:
    if tensor.datatype not in TYPES:
        raise Refused(f"{tensor.name} is {tensor.datatype}, which Triton has no type for", field="signature")
    dims = ", ".join(map(str, tensor.shape[1:] if rows else tensor.shape))
    lines = [f"name: {json.dumps(tensor.name)}", f"data_type: {TYPES[tensor.datatype]}", f"dims: [ {dims} ]"]
    if side == "input" and tensor.optional:
        lines.append("optional: true")
    return "  {\n" + "".join(f"    {line}\n" for line in lines) + "  }"
