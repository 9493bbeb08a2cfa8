"""The outermost fields of a protobuf message, walked without a parser: enough to tell an ONNX model that is whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from quarterstore.records.faults import got

FIELDS: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
"""Numbers of the fields of `ModelProto` (onnx.proto3 of ONNX 1.23)."""
GRAPH: Final = 7
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MOST: Final = 100_000
"""Outermost fields looked at; a model has a few dozen."""


def begins(first: bytes) -> bool:
    """Whether the first tag is one that a model begins with: a known field, as a number or as bytes."""
    return first[0] >> 3 in FIELDS and first[0] & 7 in (VARINT, BYTES)


def is_onnx(path: Path) -> bool:
    """Whether the file is a message of ONNX's fields with a graph; a fault where that graph is cut off."""
    numbers = set()
    with path.open("rb") as file:
        for number in _walked(file, path.stat().st_size):
            if number is None:
                return False
            numbers.add(number)
    return GRAPH in numbers


def _walked(file: BinaryIO, size: int) -> Iterator[int | None]:
    """Field numbers; `None` for what is no message of ONNX, which ends it."""
    for _ in range(MOST):
        if file.tell() == size:
            return
        tag = _varint(file)
        number, kind = (tag >> 3, tag & 7) if tag is not None else (0, 0)
        if number not in FIELDS or kind not in (VARINT, BYTES):
            yield None
            return
        length = _varint(file)
        if length is None:
            yield None
            return
        if kind == BYTES:
            end = file.tell() + length
            if end > size and number == GRAPH:
                raise got("file", f"an ONNX model that ends {end - size:,} bytes too early", "a whole one")
            if end > size:
                yield None
                return
            file.seek(end)
        yield number
    yield None


def _varint(file: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
