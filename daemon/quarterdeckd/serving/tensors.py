"""Tensors as every door gives and gets them: lists or little-endian bytes in, checked arrays to the model, and back."""

from __future__ import annotations

import struct
from array import array as packed_array
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from quarterdeckd.serving.session import DTYPES, NAMES, Loaded
from quarterstore.records.faults import Invalid, got, missing
from quarterstore.records.registry import Signature, Tensor

Array = np.ndarray[Any, Any]
Feed = dict[str, Array]
LARGEST_SHAPE = 1 << 28
DEEPEST = 8
"""Lists in lists."""
_length = struct.Struct("<I")
_CODES = {"FP32": "f", "FP64": "d"}
_little = {name: np.dtype(kind).newbyteorder("<") for name, kind in DTYPES.items()}


class Given(NamedTuple):
    """One tensor of a request: `data` is a list, flat or nested, or the elements' bytes one after the other (each text
    with its length in four bytes before it), as Open Inference's binary tensor data extension and gRPC have them."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: list[Any] | bytes


def label(part: str, number: int, name: str) -> str:
    """How a part of a request is called in a complaint: by its name, where that can be shown."""
    return f"{part}.{name}" if name.isprintable() and len(name) <= 100 else f"{part}[{number}]"


def unknown(field: str, name: str, known: Iterable[str]) -> Invalid:
    """A name inside a request that is none of those known: the request is wrong, not what it asks for absent."""
    found = missing(field, name, known)
    return Invalid(found.message, field=field, nearest=found.nearest)


def feed_of(given: Sequence[Given], loaded: Loaded, signature: Signature, beside: Container[str] = ()) -> Feed:
    """The tensors of a request by name, as the model takes them, where those `beside` them are known otherwise; raises
    `Invalid` naming the input. What may be left
    out is said by the version's signature: two versions can share one file, and so its session."""
    wanted = loaded.wanted
    feed: Feed = {}
    for each in given:
        tensor = wanted.get(each.name)
        if tensor is None:
            raise unknown("inputs.name", each.name, wanted)
        if each.name in feed:
            raise got("inputs.name", f"{each.name} twice", "each input once")
        feed[each.name] = array = array_of(each, tensor, f"inputs.{each.name}")
        if not finite(array):
            refuse_missing(array, tensor, signature, f"inputs.{each.name}.data")
    if len(feed) == len(wanted):
        return feed
    rows = rows_in(feed)
    for name, tensor in wanted.items():
        if name in feed or name in beside:
            continue
        if not rows or not any(each.optional and each.name == name for each in signature.inputs):
            raise got("inputs", "no " + name, f"{name} as {tensor.datatype} of shape {list(tensor.shape)}")
        feed[name] = left_out(tensor, rows)
    return feed


def rows_in(feed: Feed) -> int:
    """How many rows there are; none where no tensor has rows."""
    most = 0
    for array in feed.values():
        if array.ndim and len(array) > most:
            most = len(array)
    return most


def finite(array: Array) -> bool:
    """Whether an array has neither NaN nor infinity. By its bytes: numpy's own `all` costs three times as much on a
    row (2.9 us here)."""
    return array.dtype.kind != "f" or b"\0" not in np.isfinite(array).tobytes()


def takes_null(tensor: Tensor) -> bool:
    """Whether a tensor can say that a value is missing, as NaN or an empty text."""
    return tensor.datatype.startswith("FP") or tensor.datatype == "BYTES"


def left_out(tensor: Tensor, rows: int) -> Array:
    """What the model is given for an optional input that a caller leaves out: what stands for a missing value in
    training, NaN or an empty text."""
    shape = [rows, *(1 if size < 0 else size for size in tensor.shape[1:])]
    return np.full(shape, "" if tensor.datatype == "BYTES" else np.nan, DTYPES[tensor.datatype])


def array_of(given: Given, tensor: Tensor, field: str) -> Array:
    """One tensor as the model takes it; raises `Invalid` with what is wrong of datatype, shape or data."""
    if given.datatype != tensor.datatype:
        raise got(f"{field}.datatype", given.datatype, tensor.datatype)
    shape = list(given.shape)
    fits = len(shape) == len(tensor.shape)
    count = 1
    for size, wanted in zip(shape, tensor.shape, strict=False):
        fits = fits and size >= 0 and wanted in (-1, size)
        count *= size
    if not fits or count > LARGEST_SHAPE:
        raise got(f"{field}.shape", shape, f"{list(tensor.shape)} (-1 is any)")
    if count == 0:
        raise got(f"{field}.shape", shape, "at least one row")
    try:
        if isinstance(given.data, list):
            array = listed(given.data, tensor.datatype)
        else:
            array = _unpacked(given.data, tensor.datatype, count)
    except (ValueError, TypeError, OverflowError) as error:
        words = f"values that do not fit ({str(error)[:100]})"
        raise got(f"{field}.data", words, f"{count} of {tensor.datatype}") from error
    if array.size != count:
        raise got(f"{field}.data", f"{array.size} values", f"{count}, for shape {shape}")
    return array.reshape(shape)


def listed(values: list[Any], datatype: str) -> Array:
    """Values, flat or nested, as an array of the datatype; a fraction for an integer, a number for a boolean, one out
    of range or anything else is a `ValueError`. The kind is given to numpy: of integers beyond 2^63 beside small ones
    it would make floats, of true beside 2 an integer."""
    if datatype == "BYTES":
        return np.array(list(_texts(values, 0)), dtype=np.object_)
    kind, kinds = DTYPES[datatype], _kinds(values, 0)
    if not kinds <= {bool, int, float, list}:
        raise ValueError("not all of it is numbers")
    if datatype == "BOOL":
        if not kinds <= {bool, list}:
            raise ValueError("numbers among booleans")
        return np.asarray(values, kind)
    if bool in kinds:
        raise ValueError("booleans among numbers")
    if datatype in _CODES and list not in kinds and finite(found := _read(values, datatype)):
        return found
    if datatype.startswith("FP"):
        return _narrowed(np.asarray(values, np.float64), datatype)
    if float in kinds:
        raise ValueError("fractions among integers")
    try:
        return np.asarray(values, kind)
    except OverflowError as error:
        raise ValueError(f"beyond {np.iinfo(kind).min} to {np.iinfo(kind).max}") from error


def _read(values: list[float], datatype: str) -> Array:
    """Flat numbers in one step; one beyond the type becomes infinite."""
    found: Array = np.frombuffer(packed_array(_CODES[datatype], values), DTYPES[datatype])
    return found


def _narrowed(wide: Array, datatype: str) -> Array:
    with np.errstate(over="ignore"):
        found: Array = wide.astype(DTYPES[datatype])
    # an infinity made here would come back as the model's error and count against its version
    if not np.isfinite(found).all() and (np.isinf(found) & np.isfinite(wide)).any():
        raise ValueError(f"beyond the range of {datatype}")
    return found


def _kinds(values: list[Any], depth: int) -> set[type]:
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    kinds = set(map(type, values))
    if list in kinds:
        kinds.update(*(_kinds(value, depth + 1) for value in values if isinstance(value, list)))
    return kinds


def _unpacked(data: bytes, datatype: str, count: int) -> Array:
    if datatype == "BYTES":
        return np.array([text_of(each) for each in _lengthy(data)], dtype=np.object_)
    kind = _little[datatype]
    if len(data) != count * kind.itemsize:
        raise ValueError(f"{len(data)} bytes, not {count * kind.itemsize}")
    if datatype == "BOOL" and np.frombuffer(data, np.uint8).max() > 1:
        raise ValueError("a byte that is neither 0 nor 1 among booleans")
    array = np.frombuffer(data, kind)
    return array if array.flags.aligned else array.copy()


def _lengthy(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        if at + _length.size > len(data):
            raise ValueError(f"{len(data) - at} bytes where a length of {_length.size} should be")
        (size,) = _length.unpack_from(data, at)
        at += _length.size
        if at + size > len(data):
            raise ValueError(f"a text of {size} bytes where {len(data) - at} are left")
        yield data[at : at + size]
        at += size


def _texts(values: list[Any], depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    for value in values:
        if isinstance(value, list):
            yield from _texts(value, depth + 1)
        else:
            yield text_of(value)


def text_of(value: Any) -> str:
    """A text as the model takes it: UTF-8, as ONNX's strings are; a `ValueError` for anything else."""
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} among texts")
    value.encode()  # half of a surrogate pair would be an error of the model
    return value


def refuse_missing(array: Array, tensor: Tensor, signature: Signature, field: str) -> None:
    """Raise `Invalid` for an infinity, and for a NaN where a caller may leave nothing out: it would come back as the
    model's error and count against its version."""
    if finite(array):
        return
    if any(each.optional and each.name == tensor.name for each in signature.inputs):
        bad = np.isinf(array)
    else:
        bad = ~np.isfinite(array)
        for each in signature.features:
            if each.optional and each.input == tensor.name and array.ndim:
                columns = bad.reshape(len(array), -1)
                columns[:, each.index] = np.isinf(array.reshape(len(array), -1)[:, each.index])
    if bad.any():
        row, column = divmod(int(bad.ravel().argmax()), max(1, array.size // (len(array) if array.ndim else 1)))
        names = {each.index: each.name for each in signature.features if each.input == tensor.name}
        where = f"row {row}, column {names.get(column, column)}"
        raise got(field, f"{float(array.ravel()[bad.ravel().argmax()])} in {where}", f"a finite {tensor.datatype}")


def flat(array: Array) -> list[Any]:
    """The elements row by row, as JSON and protobuf's lists have them."""
    if array.dtype.kind in "OUS":
        return [shown(value) for value in array.ravel()]
    values: list[Any] = array.ravel().tolist()
    return values


def packed(array: Array) -> bytes:
    """The elements' bytes row by row, little endian; each text with its length before it."""
    if array.dtype.kind in "OUS":
        parts = []
        for value in array.ravel():
            text = value if isinstance(value, bytes) else str(value).encode()
            parts += [_length.pack(len(text)), text]
        return b"".join(parts)
    return array.astype(_little[NAMES[array.dtype]], copy=False).tobytes()


def shown(value: Any) -> Any:
    """One element of a text tensor as a text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
