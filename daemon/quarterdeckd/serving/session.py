"""One version loaded: an ONNX Runtime session whose file was checked, and what goes in and out of it."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnxruntime

from quarterdeckd.serving.load import Queue
from quarterstore.records.faults import Corrupt, Failed, got
from quarterstore.records.registry import Signature, Tensor

BY_NAME = 16 * 1024 * 1024
"""Bytes from which on a file is loaded by its name."""
THREADS = 4
"""Runs of one version at a time beside the loop, in one host."""
DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
NAMES = {np.dtype(kind): name for name, kind in DTYPES.items()}
ONNX_TYPES = {
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


def name_of(array: np.ndarray[Any, Any]) -> str:
    """The Open Inference datatype of an array."""
    if array.dtype.kind in "OUS":
        return "BYTES"
    return NAMES[array.dtype]


@contextmanager
def checked(path: Path, digest: str) -> Iterator[BinaryIO]:
    """A file, open, when its bytes are those of its SHA-256; `Failed` or `Corrupt` otherwise."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != digest:
                raise Corrupt(f"{digest[:16]}: got {found}, expected {digest}", field="model")
            file.seek(0)
            yield file
    except OSError as error:
        raise Failed(f"{digest[:16]}: the file could not be read ({error.strerror})", field="model") from error


class Loaded:
    """A session and its signature as the file has it."""

    def __init__(self, path: Path, digest: str, signature: Signature | None = None) -> None:
        with checked(path, digest) as file:
            self._session = _session(file)
        for node in (*self._session.get_inputs(), *self._session.get_outputs()):
            if node.type not in ONNX_TYPES:
                # a sequence or a map (ZipMap writes one) has no datatype in the protocol, bfloat16 none in numpy
                raise got(f"model.{node.name}", node.type, f"one of {', '.join(ONNX_TYPES)}")
        self.inputs = tuple(_tensor(node) for node in self._session.get_inputs())
        self.outputs = tuple(_tensor(node) for node in self._session.get_outputs())
        self.wanted = {tensor.name: tensor for tensor in self.inputs}
        self.signature = signature or Signature(inputs=self.inputs, outputs=self.outputs)
        self.names = [tensor.name for tensor in self.outputs]
        self.threads = ThreadPoolExecutor(THREADS, f"model-{digest[:8]}")
        """Its own, so that a version that hangs holds up no other one."""
        self.queue = Queue()
        self._least = math.inf
        self._share = 0.0

    def expected(self, rows: int) -> float:
        """Seconds that so many rows will take, by the runs so far; the first run is not known and so endless."""
        return max(self._least, self._share * rows)

    def took(self, rows: int, seconds: float) -> None:
        """A run took so long: the shortest one, let up by a tenth each time, is what a single row costs at least; the
        moving mean by row is what a large batch adds. A mean by run alone would put a batch of 100,000 rows on the
        loop after a hundred single ones."""
        first = self._least == math.inf
        self._least = seconds if first else min(seconds, self._least * 1.1)
        self._share = seconds / rows if first else self._share + (seconds / rows - self._share) * 0.1

    def run(self, feed: Mapping[str, np.ndarray[Any, Any]], names: list[str] | None = None) -> list[Any]:
        """The outputs, in the order of `names` or of the file."""
        found: list[Any] = self._session.run(names or self.names, feed)
        return found


def _session(file: BinaryIO) -> Any:
    first = file.read(2)
    if first in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"):
        raise got("model", "a pickle or an archive", "an ONNX file")
    file.seek(0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    size = os.fstat(file.fileno()).st_size
    # bytes are read with the interpreter held: 400 MB stood every other request still for 325 ms, by name for 26 ms.
    # By the open file's own name, so that what was checked is what is loaded
    source = f"/proc/self/fd/{file.fileno()}" if size > BY_NAME else file.read()
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Failed(f"the file could not be loaded ({_short(error)})", field="model") from error


def _tensor(node: Any) -> Tensor:
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return Tensor(name=node.name, datatype=ONNX_TYPES[node.type], shape=shape)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
