"""An ONNX model whose weights lie in files beside it, made one file by a throw-away process with limits: `python -m
quarterdeckd.formats.gather`, a `Beside` as JSON on its input."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from quarterstore.records.faults import Failed, Fault, TooLarge, got

SECONDS = 120
ROOM = 2 * 1024**3
"""Address space beside what the files may take: the libraries."""
TIMES = 4
"""How often the bytes may be in memory: read, in the message, in its copy, as it is written."""
LARGEST = 2 * 1024**3 - 1
"""Bytes of one protobuf message."""


class Beside(msgspec.Struct):
    """A model, the files that its tensors may lie in by the names that they say, and where the whole is written."""

    model: str
    files: dict[str, str]
    out: str


def main() -> int:
    """Write the model with its tensors in it, print whether there was anything to write, answer 0; or the fault, 1."""
    found: Fault
    try:
        given = msgspec.json.decode(sys.stdin.buffer.read(), type=Beside)
        _set_limits(given)
        print(msgspec.json.encode(gathered(given)).decode())
        return 0
    except Fault as fault:
        found = fault
    except MemoryError:
        found = Failed("it takes more memory than files of its size may", field="file")
    print(msgspec.json.encode(found.record()).decode())
    return 1


def gathered(given: Beside) -> bool:
    """Whether some tensor lay beside the model; then the whole is in `out`.

    A tensor says a name, an offset and a length (onnx.proto3, `external_data`). The name is looked up among the files
    that were given and never opened as a path.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_from_string(Path(given.model).read_bytes())
    except DecodeError as error:
        raise got("file", "a message that cannot be read", "an ONNX model") from error
    found = [tensor for tensor in _tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    total = Path(given.model).stat().st_size
    for tensor in found:
        told = {each.key: each.value for each in tensor.external_data}
        tensor.raw_data = _bytes(given.files, told)
        total += len(tensor.raw_data)
        if total > LARGEST:
            raise TooLarge(f"got more than {LARGEST:,} bytes with its weights in it", field="file")
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    if found:
        Path(given.out).write_bytes(model.SerializeToString(deterministic=True))
    return bool(found)


def _bytes(files: dict[str, str], told: dict[str, str]) -> bytes:
    name = told.get("location", "")
    if name not in files:
        raise got("file", f"weights in {name[:100]!r}", "weights in a file of the same folder")
    path = Path(files[name])
    size = path.stat().st_size
    try:
        start = int(told.get("offset", "0"))
        length = int(told.get("length", size - start))
    except ValueError as error:
        raise got("file", "weights at no number", "an offset and a length") from error
    if start < 0 or length < 0 or start + length > size:
        raise got("file", f"{length:,} bytes from {start:,} on in {name[:100]!r}", f"at most its {size:,}")
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor of a model: initialisers, and attributes of nodes, also within the graphs of nodes."""
    graphs = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for attribute in (each for node in graph.node for each in node.attribute):
            yield from (attribute.t, *attribute.tensors)
            graphs += [attribute.g, *attribute.graphs]


def _set_limits(given: Beside) -> None:
    total = sum(Path(path).stat().st_size for path in (given.model, *given.files.values()))
    room = ROOM + TIMES * min(total, LARGEST)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (room, room))


if __name__ == "__main__":
    sys.exit(main())
