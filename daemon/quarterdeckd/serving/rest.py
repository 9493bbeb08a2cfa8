"""The Open Inference Protocol v2 over REST: JSON to tensors and back; what is wrong is a sentence, never a crash."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from quarterdeckd.serving.session import DTYPES, Loaded, name_of
from quarterstore.records.faults import got, missing
from quarterstore.records.registry import Signature, Tensor


class InferInput(msgspec.Struct):
    """One tensor of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: Any
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
    data: list[Any]


class InferResponse(msgspec.Struct):
    """The body of an answer."""

    model_name: str
    model_version: str
    id: str
    outputs: list[ResponseOutput]


decode_request = msgspec.json.Decoder(InferRequest).decode
encode_response = msgspec.json.Encoder().encode
LARGEST_SHAPE = 1 << 28


def feed_of(request: InferRequest, loaded: Loaded, signature: Signature) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a request by name, as the model takes them; raises `Invalid` or `NotFound` naming the input. What
    may be left out is said by the version's signature: two versions can share one file, and so its session."""
    wanted = {tensor.name: tensor for tensor in loaded.inputs}
    feed: dict[str, np.ndarray[Any, Any]] = {}
    for given in request.inputs:
        tensor = wanted.get(given.name)
        if tensor is None:
            raise missing("inputs.name", given.name, wanted)
        feed[given.name] = _array(given, tensor)
    rows = max((len(array) for array in feed.values() if array.ndim), default=0)
    for name, tensor in wanted.items():
        if name in feed:
            continue
        if not rows or not any(each.optional and each.name == name for each in signature.inputs):
            raise got("inputs", "no " + name, f"{name} as {tensor.datatype} of shape {list(tensor.shape)}")
        feed[name] = left_out(tensor, rows)
    return feed


def left_out(tensor: Tensor, rows: int) -> np.ndarray[Any, Any]:
    """What the model is given for an optional input that a caller leaves out: what stands for a missing value in
    training, NaN or an empty text."""
    shape = [rows, *(1 if size < 0 else size for size in tensor.shape[1:])]
    return np.full(shape, "" if tensor.datatype == "BYTES" else np.nan, DTYPES[tensor.datatype])


def _array(given: InferInput, tensor: Tensor) -> np.ndarray[Any, Any]:
    field = f"inputs.{given.name}"
    if given.datatype != tensor.datatype:
        raise got(f"{field}.datatype", given.datatype, tensor.datatype)
    fits = len(given.shape) == len(tensor.shape) and all(
        size >= 0 and (wanted in (-1, size)) for size, wanted in zip(given.shape, tensor.shape, strict=True)
    )
    count = 1
    for size in given.shape:
        count *= size
    if not fits or count > LARGEST_SHAPE:
        raise got(f"{field}.shape", given.shape, f"{list(tensor.shape)} (-1 is any)")
    if count == 0:
        raise got(f"{field}.shape", given.shape, "at least one row")
    if not isinstance(given.data, list):
        raise got(f"{field}.data", type(given.data).__name__, "a list")
    kind = DTYPES[tensor.datatype]
    try:
        values = given.data
        if tensor.datatype == "BYTES":
            values = list(_texts(values, field, 0))
            array = np.array(values, dtype=np.object_)
        else:
            array = np.asarray(values)
            if array.dtype.kind not in "biuf":
                raise ValueError("not all of it is numbers")
            array = _cast(array, kind, tensor.datatype)
    except (ValueError, TypeError, OverflowError) as error:
        raise got(
            f"{field}.data", f"values that do not fit ({str(error)[:100]})", f"{count} of {tensor.datatype}"
        ) from error
    if array.size != count:
        raise got(f"{field}.data", f"{array.size} values", f"{count}, for shape {given.shape}")
    return array.reshape(given.shape)


def _cast(array: np.ndarray[Any, Any], kind: Any, datatype: str) -> np.ndarray[Any, Any]:
    """To the model's type; a fraction for an integer, a number for a boolean or one out of range is refused."""
    if datatype.startswith("FP"):
        if array.dtype.kind == "b":
            raise ValueError("booleans among numbers")
        with np.errstate(over="ignore"):
            cast: np.ndarray[Any, Any] = array.astype(kind)
        # an infinity made here would come back as the model's error and count against its version
        if not np.isfinite(cast).all():
            raise ValueError(f"beyond the range of {datatype}")
        return cast
    if datatype == "BOOL":
        if array.dtype.kind != "b":
            raise ValueError("numbers among booleans")
        return array
    if array.dtype.kind == "f":
        raise ValueError("fractions among integers")
    if array.dtype.kind == "b":
        raise ValueError("booleans among integers")
    limits = np.iinfo(kind)
    if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        raise ValueError(f"beyond {limits.min} to {limits.max}")
    return array.astype(kind)


def _texts(values: Any, field: str, depth: int) -> Iterable[str]:
    if depth > 8:
        raise ValueError("nested too deep")
    for value in values:
        if isinstance(value, list):
            yield from _texts(value, field, depth + 1)
        elif isinstance(value, str):
            yield value
        else:
            raise ValueError(f"{type(value).__name__} among texts")


def outputs_of(names: list[str], arrays: list[Any]) -> list[ResponseOutput]:
    """Arrays as the tensors of an answer, data flat and row by row."""
    return [
        ResponseOutput(name=name, shape=list(array.shape), datatype=name_of(array), data=_flat(array))
        for name, array in zip(names, arrays, strict=True)
    ]


def _flat(array: np.ndarray[Any, Any]) -> list[Any]:
    if array.dtype.kind in "OUS":
        return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in array.ravel()]
    flat: list[Any] = array.ravel().tolist()
    return flat


def metadata(endpoint: str, version: str, loaded: Loaded) -> dict[str, Any]:
    """`GET /v2/models/{name}`."""

    def described(tensors: tuple[Tensor, ...]) -> list[dict[str, Any]]:
        return [{"name": each.name, "datatype": each.datatype, "shape": list(each.shape)} for each in tensors]

    return {
        "name": endpoint,
        "versions": [version],
        "platform": "onnx_onnxv1",
        "inputs": described(loaded.inputs),
        "outputs": described(loaded.outputs),
    }
