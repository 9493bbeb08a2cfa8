"""The Open Inference Protocol v2 over REST, with its binary tensor data extension: a request and its answer."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from quarterdeckd.http.server import Request, Response
from quarterdeckd.serving import bodies
from quarterdeckd.serving.inference import Question, Stamp
from quarterdeckd.serving.looking import Looked, read_of
from quarterdeckd.serving.nulls import Nulls
from quarterdeckd.serving.plain import columns_of, feed_of_keys
from quarterdeckd.serving.router import Arm
from quarterdeckd.serving.session import Loaded, name_of
from quarterdeckd.serving.tensors import Feed, Given, feed_of, flat, label, packed, rows_in
from quarterstore.records.faults import Fault, got
from quarterstore.records.registry import Signature, Tensor

SPLIT = b"inference-header-content-length"
"""The header with the size of the JSON that stands before the binary tensors."""
SIZE = "binary_data_size"
ELSEWHERE = ("shared_memory_region", "classification")
"""Parameters of Triton that would change what is read or answered, and are not there."""


class InferInput(msgspec.Struct):
    """One tensor of a request; without `data` it lies behind the JSON, `parameters.binary_data_size` bytes of it."""

    name: str
    shape: list[int]
    datatype: str
    data: Any = UNSET
    parameters: dict[str, Any] = {}


class InferOutput(msgspec.Struct):
    """An output that is asked for by name."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """The body of `POST /v2/models/{name}/infer`."""

    inputs: list[InferInput]
    id: str | None = None
    outputs: list[InferOutput] = []
    parameters: dict[str, Any] = {}


class ResponseOutput(msgspec.Struct):
    """One tensor of an answer."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET


class InferResponse(msgspec.Struct):
    """The body of an answer."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, Any]
    outputs: list[ResponseOutput]


_request = msgspec.json.Decoder(InferRequest)
_encode = msgspec.json.Encoder().encode


class Infer:
    """One inference request at this door; `version` is that of its path, if it has one."""

    def __init__(self, request: Request, endpoint: str, version: str = "") -> None:
        self.endpoint = endpoint
        self._version = version
        self._request = request
        self._body: InferRequest

    def read(self) -> Question:
        """What is asked; raises `Invalid`."""
        bodies.refuse_encoded(self._request)
        head, tail = self._parts()
        form = '{"inputs": [{"name": NAME, "shape": [...], "datatype": TYPE, "data": [...]}]}'
        body = self._body = bodies.decoded(head, InferRequest, _request, "inference request", form)
        for number, output in enumerate(body.outputs):
            refuse_elsewhere(label("outputs", number, output.name), output.parameters)
        given = _given(body.inputs, tail)
        keys = _keys(body.parameters)
        return Question(
            lambda loaded, signature: feed_of(given, loaded, signature),
            [output.name for output in body.outputs],
            bodies.sticky(self._request, body.parameters.get("key"), "parameters.key"),
            self._version,
            keys,
            lambda loaded, signature, looked: _keyed(given, keys, loaded, signature, looked),
        )

    def _parts(self) -> tuple[bytes, bytes | None]:
        """The JSON, and what follows it: None where the request says of nothing that it does."""
        size, body = self._request.headers.get(SPLIT), self._request.body
        if size is None:
            return body, None
        if not size.isdigit() or len(size) > 18 or int(size) > len(body):
            words = f"a number of bytes up to the body's {len(body)}"
            raise got("inference-header-content-length", size.decode("latin-1"), words)
        return body[: int(size)], body[int(size) :]

    def answered(self, stamp: Stamp, outputs: dict[str, Any]) -> Response:
        """Tensors in JSON or, those that are asked for so, behind it."""
        body, tail = self._body, []
        asked = {output.name: output.parameters for output in body.outputs} if body.outputs else {}
        otherwise = body.parameters.get("binary_data_output", False) is True
        found = []
        for name, array in outputs.items():
            tensor = ResponseOutput(name, list(array.shape), name_of(array))
            if asked.get(name, {}).get("binary_data", otherwise) is True:
                tail.append(packed(array))
                tensor.parameters = {SIZE: len(tail[-1])}
            else:
                tensor.data = flat(array)
            found.append(tensor)
        parameters: dict[str, Any] = {"prediction": stamp.prediction, "epoch": stamp.epoch, "arm": stamp.arm}
        if stamp.read is not None:
            parameters["features"] = read_of(stamp.read)
        number = body.id or stamp.prediction
        text = _encode(InferResponse(stamp.endpoint, stamp.version, number, parameters, found))
        headers = bodies.headers(stamp)
        if not tail:
            return Response(200, text, headers)
        headers += b"%b: %d\r\n" % (SPLIT, len(text))
        return Response(200, b"".join([text, *tail]), headers, b"application/octet-stream")

    def refused(self, fault: Fault, stamp: Stamp | None) -> Response:
        """What is wrong, as `{"error": words}`."""
        return bodies.refused(fault, stamp)


def _keys(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The keys of a row each, by which a version's features are read; what else it gives stands beside them."""
    keys = parameters.get("keys", [])
    if not isinstance(keys, list) or not all(isinstance(each, dict) for each in keys):
        raise got("parameters.keys", type(keys).__name__, '[{"NAME": VALUE, ...}, ...], an object a row')
    return keys


def _keyed(
    given: list[Given], keys: list[dict[str, Any]], loaded: Loaded, signature: Signature, looked: Looked
) -> tuple[Feed, Nulls]:
    """The tensors that are given, and the others of what was read and of what stands beside the keys."""
    named = {each.name for each in given}
    for name, column in columns_of(loaded, signature).items():
        twice = next((number for number, row in enumerate(keys) if name in row), None)
        if twice is not None and column.tensor.name in named and name not in looked.keys:
            raise got(f"parameters.keys[{twice}].{name}", "a value", f"none beside the input {column.tensor.name}")
    rows, nulls = feed_of_keys(keys, loaded, signature, looked, named)
    feed = {**rows, **feed_of(given, loaded, signature, rows)}
    if rows_in(feed) != len(looked.values) or any(len(array) != len(looked.values) for array in feed.values()):
        raise got("parameters.keys", f"{len(looked.values)} of them", "one for each row of the inputs")
    return feed, nulls


def _given(inputs: list[InferInput], tail: bytes | None) -> list[Given]:
    """The tensors with their data, from the JSON or in turn from what follows it; raises `Invalid`."""
    found, at = [], 0
    for number, each in enumerate(inputs):
        field = label("inputs", number, each.name)
        refuse_elsewhere(field, each.parameters)
        size = each.parameters.get(SIZE)
        if size is None:
            if not isinstance(each.data, list):
                kind = "none" if each.data is UNSET else type(each.data).__name__
                raise got(f"{field}.data", kind, f"a list, or {SIZE} among its parameters")
            found.append(Given(each.name, each.datatype, each.shape, each.data))
            continue
        if tail is None:
            raise got("inference-header-content-length", "none", f"the bytes of JSON before {field}")
        if each.data is not UNSET:
            raise got(f"{field}.data", f"a list beside {SIZE}", "one of the two")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(tail) - at:
            raise got(f"{field}.parameters.{SIZE}", size, f"a number of bytes, {len(tail) - at} are left")
        found.append(Given(each.name, each.datatype, each.shape, tail[at : at + size]))
        at += size
    if tail is not None and at != len(tail):
        raise got("body", f"{len(tail) - at} bytes more after the last tensor", "none")
    return found


def refuse_elsewhere(field: str, parameters: Container[str]) -> None:
    """Raise `Invalid` for a parameter that would change what is read or answered, and is not there."""
    for name in ELSEWHERE:
        if name in parameters:
            raise got(f"{field}.parameters", name, "the data itself in the request and in the answer")


def metadata(arm: Arm, versions: list[str]) -> dict[str, Any]:
    """`GET /v2/models/{name}`: what an arm takes and gives, and the versions that can be asked for by name."""

    def described(tensors: tuple[Tensor, ...]) -> list[dict[str, Any]]:
        return [{"name": each.name, "datatype": each.datatype, "shape": list(each.shape)} for each in tensors]

    return {
        "name": arm.route.endpoint,
        "versions": versions,
        "platform": "onnx_onnxv1",
        "inputs": described(arm.loaded.inputs),
        "outputs": described(arm.loaded.outputs),
    }
