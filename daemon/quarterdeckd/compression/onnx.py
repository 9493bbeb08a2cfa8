"""ONNX files as data that others wrote: looked at before they are loaded, asked through one kind of session."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from quarterstore.records.faults import Invalid, Refused, TooLarge, got
from quarterstore.records.names import drawn
from quarterstore.records.registry import Signature

if TYPE_CHECKING:
    import onnx
    import onnxruntime

DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator sets ONNX Runtime itself holds; `com.microsoft` is what quantisation writes. Any other needs somebody's
library."""

LARGEST: Final = 2 * 1024**3 - 1
"""Bytes of one protobuf message."""

MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"PK\x03\x04", "a ZIP archive (as torch.save and skops write)"),
    (b"\x89HDF", "an HDF5 file (as Keras writes)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"GGUF", "a GGUF file"),
    (b"PAR1", "a Parquet file"),
    (b"ORTM", "an ORT-format file"),
)

DTYPES: Final[dict[str, Any]] = {
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
    "BYTES": np.object_,
}
"""Open Inference datatype -> what numpy calls it."""


def checked_onnx(path: Path) -> onnx.ModelProto:
    """The model of a file that is ONNX by content, whole in itself and made of known operators only.

    Refused by name: another format (told by its first bytes; nothing is ever unpickled), external data (it names files
    of this machine), operators outside `DOMAINS`, negative dimensions, a tensor whose bytes do not fill its dimensions.
    """
    if not path.is_file():
        raise got("model", str(path), "an ONNX file that is there")
    size = path.stat().st_size
    if size > LARGEST:
        raise TooLarge(f"got {size:,} bytes, expected at most {LARGEST:,}", field=path.name)
    _check_first_bytes(path)
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise got(path.name, f"a file that is not ONNX ({drawn(str(error), longest=80)})", "an ONNX model") from None
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise got(path.name, "a file without a graph", "an ONNX model with operators and outputs")
    own = {(function.domain, function.name) for function in model.functions}
    for graph in _graphs(model):
        _check_nodes(path.name, graph.node, own)
    for function in model.functions:
        _check_nodes(path.name, function.node, own)
    for tensor in _tensors(model):
        _check_tensor(path.name, tensor)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise got(path.name, drawn(str(error).splitlines()[0], longest=160), "a valid ONNX graph") from None
    return model


def opened(model: Path | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the processor with so many threads; a file that ONNX Runtime cannot load is a fault."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises bare classes of its C extension with no common base of their own
        name = "model" if isinstance(model, bytes) else model.name
        reason = drawn(str(error).splitlines()[0], longest=200)
        raise Invalid(f"got a graph that ONNX Runtime does not load ({reason})", field=name) from None


def arrays(values: dict[str, Any], signature: Signature) -> dict[str, NDArray[Any]]:
    """The input tensors of golden rows or of a request (nested lists) as arrays of the signature's types; a null among
    numbers is NaN, which JSON does not have."""
    found = {}
    for tensor in signature.inputs:
        if tensor.name not in values:
            raise got(f"inputs.{tensor.name}", "nothing", "a tensor of the signature")
        found[tensor.name] = np.array(values[tensor.name], dtype=DTYPES[tensor.datatype])
    return found


def lists(values: NDArray[Any]) -> list[Any]:
    """An array as nested lists for JSON: bytes as text, NaN as null."""
    if values.dtype.kind == "f":
        plain = values.astype(object)
        plain[np.isnan(values)] = None
        return list(plain.tolist())
    return list(values.tolist())


def _check_first_bytes(path: Path) -> None:
    with path.open("rb") as file:
        first = file.read(16)
    if not first:
        raise got(path.name, "an empty file", "an ONNX model")
    for magic, what in MAGIC:
        if first.startswith(magic):
            raise Refused(f"got {what}, expected an ONNX model; export it first", field=path.name)
    if first[:1] not in (b"\x08", b"\x12", b"\x1a", b"\x3a", b"\x42", b"\x72"):
        raise got(path.name, f"a file that begins with {first[:4]!r}", "an ONNX model")


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    waiting = [model.graph]
    for function in model.functions:
        waiting.extend(_inner(function.node))
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting.extend(_inner(graph.node))


def _inner(nodes: Any) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices
        yield from _constants(graph.node)
    for function in model.functions:
        yield from _constants(function.node)


def _constants(nodes: Any) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor.values
                yield attribute.sparse_tensor.indices


def _check_nodes(name: str, nodes: Any, own: set[tuple[str, str]]) -> None:
    for node in nodes:
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
            found = drawn(f"{node.domain}.{node.op_type}", longest=120)
            raise Refused(f"got the operator {found}, expected one of ONNX or ONNX Runtime", field=name)


def _check_tensor(name: str, tensor: onnx.TensorProto) -> None:
    import onnx

    said = drawn(tensor.name or "a constant", longest=80)
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise Refused(f"got external data in {said}, expected all data inside the file", field=name)
    if any(size < 0 for size in tensor.dims):
        raise got(name, f"dimensions {list(tensor.dims)} of {said}", "none below zero")
    if not tensor.HasField("raw_data"):
        return
    try:
        width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError):
        raise got(name, f"data type {tensor.data_type} of {said}", "a known one") from None
    need = math.prod(tensor.dims) * width
    if tensor.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        need = (math.prod(tensor.dims) + 1) // 2
    if len(tensor.raw_data) != need:
        raise got(name, f"{len(tensor.raw_data):,} bytes in {said}", f"{need:,} for its dimensions")
