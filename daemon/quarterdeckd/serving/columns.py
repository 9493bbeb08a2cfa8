"""Columns of a table as the tensors of a version, and its answers as columns again."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from quarterdeckd.serving.session import DTYPES, Loaded
from quarterstore.records.faults import Refused, got
from quarterstore.records.registry import Signature, Tensor

Array = np.ndarray[Any, Any]


class Column(NamedTuple):
    """One column a version takes: its place in a tensor, and the tensor's datatype."""

    name: str
    tensor: str
    place: int
    datatype: str
    optional: bool

    @property
    def text(self) -> bool:
        """Whether it holds text."""
        return self.datatype == "BYTES"


def needed(inputs: tuple[Tensor, ...], signature: Signature) -> dict[str, Column]:
    """The columns of a version, by name: its features, else the tensors' own (`x`, or `x_0`, `x_1`, … where a tensor is
    wider than one). `Refused` where a tensor is no column or row of columns."""
    tensors = {tensor.name: tensor for tensor in inputs}
    optional = {tensor.name for tensor in signature.inputs if tensor.optional}
    found = {}
    for tensor in inputs:
        if len(tensor.shape) not in (1, 2) or (len(tensor.shape) == 2 and tensor.shape[1] < 1):
            raise Refused(f"{tensor.name} is of shape {list(tensor.shape)}, expected [-1] or [-1, n]", field="data")
    if signature.features:
        for each in signature.features:
            may = each.optional or each.input in optional
            found[each.name] = Column(each.name, each.input, each.index, tensors[each.input].datatype, may)
        return found
    for tensor in inputs:
        width = tensor.shape[1] if len(tensor.shape) == 2 else 1
        for index in range(width):
            name = f"{tensor.name}_{index}" if width > 1 else tensor.name
            found[name] = Column(name, tensor.name, index, tensor.datatype, tensor.name in optional)
    return found


def tables_of(frame: pl.DataFrame, columns: dict[str, Column], loaded: Loaded) -> dict[str, pl.DataFrame]:
    """The columns of each tensor, in their places and of its datatype, by its name. A missing number is NaN, a missing
    text empty, as in training; `Invalid` names a column whose values do not fit its datatype."""
    found = {}
    for tensor in loaded.inputs:
        mine = sorted((each for each in columns.values() if each.tensor == tensor.name), key=lambda each: each.place)
        found[tensor.name] = pl.DataFrame([(_texts if each.text else _numbers)(frame, each) for each in mine])
    return found


def feed_of(tables: dict[str, pl.DataFrame], loaded: Loaded, start: int, rows: int) -> dict[str, Array]:
    """The tensors of so many rows from a row on."""
    feed = {}
    for tensor in loaded.inputs:
        array = tables[tensor.name].slice(start, rows).to_numpy(order="c")
        array = array.astype(DTYPES[tensor.datatype], copy=False)
        feed[tensor.name] = np.ascontiguousarray(array[:, 0] if len(tensor.shape) == 1 else array)
    return feed


_KINDS: dict[str, Any] = {
    "BOOL": pl.Boolean,
    "INT8": pl.Int8,
    "INT16": pl.Int16,
    "INT32": pl.Int32,
    "INT64": pl.Int64,
    "UINT8": pl.UInt8,
    "UINT16": pl.UInt16,
    "UINT32": pl.UInt32,
    "UINT64": pl.UInt64,
    "FP16": pl.Float32,
    "FP32": pl.Float32,
    "FP64": pl.Float64,
}


def _numbers(frame: pl.DataFrame, column: Column) -> pl.Series:
    """A column in its datatype. A text that is no number, a gap or a fraction where a whole number is taken, and a
    number beyond the type are `Invalid`, with the first row that has one."""
    kind = _KINDS[column.datatype]
    if column.name not in frame.columns:
        return pl.Series(column.name, [float("nan")], dtype=kind).new_from_index(0, len(frame))
    given = frame[column.name]
    if given.dtype == kind and not given.null_count():
        return given
    values, blank = given, given.is_null()
    if given.dtype == pl.String:
        values = given.str.strip_chars()
        blank = blank | (values == "")
        values = values.cast(pl.Float64, strict=False)
    elif given.dtype.is_temporal():
        values = given.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    became = values.cast(kind, strict=False)
    if column.datatype.startswith("FP"):
        lost = (became.is_null() & ~blank) | (became.is_infinite() & values.cast(pl.Float64).is_finite())
        became = became.fill_null(float("nan"))
    else:
        lost = became.is_null() | (values.cast(pl.Float64) != became.cast(pl.Float64))
    row = lost.fill_null(False).arg_max()
    if row is not None and lost[row]:
        raise got(f"data.{column.name}", f"{str(given[row])[:80]!r} in row {row}", column.datatype)
    return became


def _texts(frame: pl.DataFrame, column: Column) -> pl.Series:
    if column.name not in frame.columns:
        return pl.Series(column.name, [""]).new_from_index(0, len(frame))
    return frame[column.name].cast(pl.String).fill_null("")


def joined(blocks: list[dict[str, Array]], sizes: list[int]) -> dict[str, Array]:
    """The outputs of blocks of rows as those of all of them; `Refused` where an output has not a row for each row."""
    for block, rows in zip(blocks, sizes, strict=True):
        for name, array in block.items():
            if not array.ndim or len(array) != rows:
                words = f"{name} has the shape {list(array.shape)}, expected a row for each of {rows}"
                raise Refused(words, field="output")
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def answers_of(found: dict[str, Array], signature: Signature) -> dict[str, pl.Series]:
    """The outputs as columns: one under its name, several as `score_<class>` where the classes are known, else
    `y_0`, `y_1`, …"""
    columns: dict[str, pl.Series] = {}
    for name, array in found.items():
        table = array.reshape(len(array), -1)
        if array.dtype.kind in "OUS":
            table = table.astype(str)
        width = table.shape[1]
        known = signature.classes if name == signature.score and len(signature.classes) == width else None
        for index in range(width):
            column = name if width == 1 else f"{name}_{known[index] if known else index}"
            columns[column] = pl.Series(column, np.ascontiguousarray(table[:, index]))
    return columns
