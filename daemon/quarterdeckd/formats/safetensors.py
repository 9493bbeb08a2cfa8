"""A safetensors file, checked by the rules of its format: a header that says where each tensor lies, then exactly those
bytes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

from quarterdeckd.formats.found import Found
from quarterstore.records.faults import Invalid, TooLarge, got
from quarterstore.records.names import drawn

LONGEST: Final = 16 * 1024**2
"""Bytes of a header: about 150,000 tensors. The format allows 100 MB, which as JSON would take a gigabyte to read."""
BITS: Final[dict[str, int]] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}
"""Type -> bits of one number."""


def begins(first: bytes) -> bool:
    """Whether a header stands where it has to: eight bytes of its length, then JSON."""
    return len(first) > 8 and first[8:9] == b"{"


def checked(path: Path) -> Found:
    """The file as what it is; `Invalid` for a header that lies about a length, an offset, a type or a name."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LONGEST:
            raise TooLarge(f"got a safetensors header of {length:,} bytes, expected at most {LONGEST:,}", field="file")
        if 8 + length > size:
            raise _lie(f"a header of {length:,} bytes in a file of {size:,}", "a header inside the file")
        header = _decoded(file.read(length))
    about = header.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise _lie("metadata of another kind", "texts by name")
    if not header:
        raise _lie("no tensor", "at least one")
    _check_places({name: _place(name, tensor) for name, tensor in header.items()}, size - 8 - length)
    return Found("safetensors", f"safetensors with {len(header)} tensors")


def _decoded(data: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            raise _lie(f"{_shown(next(each for each in names if names.count(each) > 1))} twice", "each name once")
        return found

    try:
        header = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise _lie(f"a header that is no JSON ({str(error)[:80]})", "JSON") from error
    if not isinstance(header, dict):
        raise _lie("a header of another kind", "tensors by name")
    return header


def _place(name: str, tensor: Any) -> tuple[int, int]:
    """Where a tensor lies, by its own words; they have to agree with one another."""
    try:
        kind, shape, (start, end) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise _lie(f"{_shown(name)} without dtype, shape and data_offsets", "all three") from error
    if kind not in BITS:
        raise _lie(f"the type {_shown(str(kind))} of {_shown(name)}", "a known one")
    numbers = [*shape, start, end] if isinstance(shape, list) else [None]
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        raise _lie(f"a shape or an offset of {_shown(name)} that is no number of bytes", "whole numbers from 0 on")
    need = math.prod(shape) * BITS[kind]
    if need != (end - start) * 8:
        raise _lie(f"{end - start:,} bytes for {_shown(name)}", f"{math.ceil(need / 8):,} by its shape and type")
    return start, end


def _check_places(places: dict[str, tuple[int, int]], size: int) -> None:
    """One after the other, without a gap or an overlap, up to the last byte."""
    before = 0
    for name, (start, end) in sorted(places.items(), key=lambda each: each[1]):
        if end > size:
            raise _lie(f"{_shown(name)} up to byte {end:,}", f"at most {size:,}, where the file ends")
        if start != before:
            word = "overlaps the one before it" if start < before else "leaves a gap before it"
            raise _lie(f"{_shown(name)} at byte {start:,}, which {word}", f"{before:,}")
        before = end
    if before != size:
        raise _lie(f"{size - before:,} bytes behind the last tensor", "none")


def _shown(name: str) -> str:
    return drawn(name, longest=80)


def _lie(found: str, expected: str) -> Invalid:
    return got("file", f"safetensors with {found}", expected)
