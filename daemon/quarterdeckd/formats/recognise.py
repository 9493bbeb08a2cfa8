"""The format of a file by its bytes, whatever its name says; a fault for what is empty, cut off or none we keep."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from quarterdeckd.formats import archives, packed, pickles, protobuf, safetensors
from quarterdeckd.formats.found import Found
from quarterstore.records.faults import Refused, got

EXPECTED: Final = "ONNX, safetensors or skops"
OTHERS: Final[tuple[tuple[int, bytes, str, str], ...]] = (
    (0, b"\x89HDF", "an HDF5 file (as Keras writes)", "export it with: model.export('model.onnx', format='onnx')"),
    (0, b"GGUF", "a GGUF file", "these weights are served by llama.cpp, not here"),
    (0, b"PAR1", "a Parquet file", "rows are registered with: qd datasets add"),
    (0, b"ORTM", "an ORT-format file", "register the ONNX file it was made of"),
    (
        4,
        b"TFL3",
        "a TFLite file",
        "convert it with: python -m tf2onnx.convert --tflite model.tflite --output model.onnx",
    ),
)
"""Place, bytes, what it is, the way out."""


def recognised(path: Path) -> Found:
    """The format of a file, and what it would import where it can run code."""
    with path.open("rb") as file:
        first = file.read(16)
    if not first:
        raise got("file", "an empty file", EXPECTED)
    for place, magic, what, way_out in OTHERS:
        if first[place : place + len(magic)] == magic:
            raise Refused(f"got {what}, expected {EXPECTED}", field="file", next=way_out)
    if first.startswith(b"PK"):
        return archives.inspected(path)
    if pickles.begins(first):
        return pickles.scanned(path)
    if safetensors.begins(first):
        return safetensors.checked(path)
    compression = packed.compression_of(first)
    if compression is not None:
        return packed.looked_into(path, compression)
    if protobuf.begins(first) and protobuf.is_onnx(path):
        return Found("onnx", "an ONNX model")
    if pickles.is_old(path):
        return pickles.scanned(path)
    raise got("file", f"a file that begins with {first[:8]!r}", EXPECTED)
