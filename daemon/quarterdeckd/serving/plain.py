"""The plain door, `POST /v1/predict/NAME`: rows as JSON objects by the names of the features, answers by those of the
outputs."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from quarterdeckd.http.server import Request, Response
from quarterdeckd.serving import bodies
from quarterdeckd.serving.inference import Question, Stamp
from quarterdeckd.serving.looking import Looked, read_of
from quarterdeckd.serving.nulls import Nulls, nulls_in
from quarterdeckd.serving.session import Loaded
from quarterdeckd.serving.tensors import (
    Array,
    Feed,
    Given,
    array_of,
    left_out,
    listed,
    refuse_missing,
    shown,
    takes_null,
    text_of,
)
from quarterdeckd.serving.tensors import unknown as unknown_name
from quarterstore.records.faults import Fault, Invalid, got
from quarterstore.records.registry import Signature, Tensor


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body: one object a row; `key` keeps a caller on one arm, `outputs` names those that are wanted."""

    rows: list[dict[str, Any]]
    key: Any = None
    outputs: list[str] = []


class Column(NamedTuple):
    """What a row gives under a name: a number or text at a place of a tensor's row, or where that is None the tensor's
    whole row as a list."""

    tensor: Tensor
    at: int | None
    optional: bool


_request = msgspec.json.Decoder(PredictRequest)
_ABSENT = object()


class Predict:
    """One request at this door."""

    def __init__(self, request: Request, endpoint: str) -> None:
        self.endpoint = endpoint
        self._request = request
        self._rows = 0

    def read(self) -> Question:
        """What is asked; raises `Invalid`."""
        bodies.refuse_encoded(self._request)
        form = '{"rows": [{"NAME": VALUE, ...}, ...]}'
        body = bodies.decoded(self._request.body, PredictRequest, _request, "prediction request", form)
        if not body.rows:
            raise got("rows", "none", "at least one")
        self._rows = len(body.rows)
        return Question(
            lambda loaded, signature: feed_of_rows(body.rows, loaded, signature),
            body.outputs,
            bodies.sticky(self._request, body.key, "key"),
            "",
            body.rows,
            lambda loaded, signature, looked: feed_of_keys(body.rows, loaded, signature, looked),
        )

    def answered(self, stamp: Stamp, outputs: dict[str, Any]) -> Response:
        """A row of outputs for each row; an output that has no rows stands beside them."""
        by_row = {name: _by_row(array) for name, array in outputs.items() if array.ndim and len(array) == self._rows}
        rows = [dict(zip(by_row, values, strict=True)) for values in zip(*by_row.values(), strict=True)]
        beside = {name: _plain(array.tolist()) for name, array in outputs.items() if name not in by_row}
        body = {
            "rows": rows,
            **({"outputs": beside} if beside else {}),
            "version": stamp.version,
            "epoch": stamp.epoch,
            "arm": stamp.arm,
            "prediction": stamp.prediction,
            **({"features": read_of(stamp.read)} if stamp.read is not None else {}),
        }
        return Response(200, msgspec.json.encode(body), bodies.headers(stamp))

    def refused(self, fault: Fault, stamp: Stamp | None) -> Response:
        """What is wrong, as `{"error": words}`."""
        return bodies.refused(fault, stamp)


def columns_of(loaded: Loaded, signature: Signature) -> dict[str, Column]:
    """What a row consists of, by name: the features of each tensor that they cover, otherwise the tensor itself."""
    found: dict[str, Column] = {}
    for tensor in loaded.inputs:
        able = takes_null(tensor)
        may_lack = able and any(each.optional and each.name == tensor.name for each in signature.inputs)
        features = [each for each in signature.features if each.input == tensor.name]
        sizes = tensor.shape[1:]
        width = max(1, int(np.prod(sizes))) if all(size > 0 for size in sizes) else len(features)
        if features and sorted(each.index for each in features) == list(range(width)):
            for each in features:
                found[each.name] = Column(tensor, each.index, may_lack or (able and each.optional))
        else:
            found[tensor.name] = Column(tensor, 0 if width == 1 and not any(n < 0 for n in sizes) else None, may_lack)
    return found


def feed_of_keys(
    rows: Sequence[dict[str, Any]], loaded: Loaded, signature: Signature, looked: Looked, given: Container[str] = ()
) -> tuple[Feed, Nulls]:
    """The tensors of rows of which some values were read by their keys, but those `given` otherwise, and where they are
    null; what a row gives itself holds. `Conflict` for a null in a tensor of whole numbers or booleans."""
    columns = columns_of(loaded, signature)
    drop = looked.keys.difference(columns)
    whole = [
        {
            **{name: _as_taken(value, columns.get(name)) for name, value in found.items()},
            **{name: value for name, value in row.items() if name not in drop},
        }
        for row, found in zip(rows, looked.values, strict=True)
    ]
    taken = {name: each for name, each in columns.items() if not each.optional and each.tensor.name not in given}
    nulls = nulls_in(whole, looked.values, taken)
    refused = {
        number: [name for name in names if not takes_null(columns[name].tensor)] for number, names in nulls.items()
    }
    if any(refused.values()):
        raise looked.refused({number: names for number, names in refused.items() if names})
    read = looked.names
    for number, (row, found) in enumerate(zip(whole, looked.values, strict=True)):
        if len(found) < len(read):
            _refuse_absent(row, sorted(read.intersection(taken).difference(found)), number)
    return feed_of_rows(whole, loaded, signature, read, given), nulls


def _refuse_absent(row: dict[str, Any], names: Sequence[str], number: int) -> None:
    """What others of the request have read by keys, a row without those gives itself."""
    for name in names:
        if row.get(name) is None:
            raise got(f"rows[{number}].{name}", "no value", "one, or the keys it is read by")


def _as_taken(value: Any, column: Column | None) -> Any:
    """A value of a view as a caller would give it: true as 1 to a model that takes numbers."""
    return int(value) if isinstance(value, bool) and column and column.tensor.datatype != "BOOL" else value


def feed_of_rows(
    rows: Sequence[dict[str, Any]],
    loaded: Loaded,
    signature: Signature,
    nullable: Container[str] = (),
    given: Container[str] = (),
) -> Feed:
    """The tensors of rows, as the model takes them, but those `given` otherwise; `nullable` columns may have no value,
    as optional ones do. Raises `Invalid` naming row and column."""
    columns = {
        name: column._replace(optional=column.optional or (name in nullable and takes_null(column.tensor)))
        for name, column in columns_of(loaded, signature).items()
    }
    for number, row in enumerate(rows):
        for name in row:
            if name not in columns:
                raise unknown_name(f"rows[{number}]", name, columns)
    feed: Feed = {}
    for tensor in loaded.inputs:
        if tensor.name in given:
            continue
        if not tensor.shape:
            raise got(tensor.name, "an input that has no rows", "/v2, for this model")
        own = {name: column for name, column in columns.items() if column.tensor is tensor}
        if any(column.at is None for column in own.values()):
            ((name, column),) = own.items()
            feed[tensor.name] = _whole(rows, name, column, signature)
        else:
            table = _at_once(rows, own, tensor)
            if table is None:
                values = [_values(rows, name, column) for name, column in own.items()]
                placed = sorted(zip(own.values(), values, strict=True), key=_place)
                table = np.stack([each for _, each in placed], axis=1)
            feed[tensor.name] = _shaped(table, tensor)
    return feed


def _at_once(rows: Sequence[dict[str, Any]], own: dict[str, Column], tensor: Tensor) -> Array | None:
    """All columns of numbers as one table, much quicker for a row of many than one by one; None where a value is absent
    or does not fit, so that its column has to be found."""
    if tensor.datatype == "BYTES":
        return None
    names = sorted(own, key=lambda name: own[name].at or 0)
    try:
        table = listed([[row[name] for name in names] for row in rows], tensor.datatype)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    if table.ndim != 2 or (table.dtype.kind == "f" and not np.isfinite(table).all()):
        return None
    return table


def _place(pair: tuple[Column, Array]) -> int:
    return pair[0].at or 0


def _shaped(table: Array, tensor: Tensor) -> Array:
    rows, width = table.shape
    if tensor.shape[0] not in (-1, rows):
        raise got("rows", f"{rows} of them", f"{tensor.shape[0]}, for the input {tensor.name}")
    sizes = tensor.shape[1:]
    return table.reshape((rows, *sizes) if all(size > 0 for size in sizes) else (rows, width))


def _values(rows: Sequence[dict[str, Any]], name: str, column: Column) -> Array:
    """One column; raises `Invalid` with the first row that is wrong."""
    values = [row.get(name, _ABSENT) for row in rows]
    missing = None
    if column.optional:
        missing = left_out(column.tensor, 1).ravel().tolist()[0]
        values = [missing if value is _ABSENT or value is None else value for value in values]
    try:
        return _cast(values, column.tensor.datatype, column.optional)
    except (ValueError, TypeError, OverflowError):
        for number, value in enumerate(values):
            _refuse_value(value, f"rows[{number}].{name}", column)
        raise


def _cast(values: list[Any], datatype: str, optional: bool) -> Array:
    if datatype == "BYTES":
        return np.array([text_of(value) for value in values], np.object_)
    found = listed(values, datatype)
    if found.ndim != 1:
        raise ValueError("lists among numbers")
    if found.dtype.kind == "f" and (np.isinf(found) if optional else ~np.isfinite(found)).any():
        raise ValueError("no finite number")
    return found


def _refuse_value(value: Any, field: str, column: Column) -> None:
    expected = {"BYTES": "a text", "BOOL": "true or false"}.get(column.tensor.datatype, "a number")
    expected = f"{expected} ({column.tensor.datatype})"
    if value is _ABSENT:
        raise got(field, "no value", expected)
    try:
        _cast([value], column.tensor.datatype, column.optional)
    except (ValueError, TypeError, OverflowError):
        shown_value = "null" if value is None else msgspec.json.encode(value).decode() if _simple(value) else str(value)
        raise got(field, f"{shown_value} ({type(value).__name__})", expected) from None


def _simple(value: Any) -> bool:
    return isinstance(value, str | bool)


def _whole(rows: Sequence[dict[str, Any]], name: str, column: Column, signature: Signature) -> Array:
    """A tensor of which each row gives its own row as a list."""
    tensor = column.tensor
    absent = [number for number, row in enumerate(rows) if row.get(name) is None]
    if absent and column.optional and len(absent) == len(rows):
        return left_out(tensor, len(rows))
    if absent:
        raise got(f"rows[{absent[0]}].{name}", "no value", f"a list of {tensor.datatype}")
    values = [row[name] for row in rows]
    sizes, inner = list(tensor.shape[1:]), values[0]
    for at, size in enumerate(sizes):
        if not isinstance(inner, list):
            raise got(f"rows[0].{name}", type(inner).__name__, f"a list of {tensor.datatype}, {len(sizes)} deep")
        sizes[at] = len(inner) if size < 0 else size
        inner = inner[0] if inner else None
    try:
        array = array_of(Given(name, tensor.datatype, [len(rows), *sizes], values), tensor, f"rows.{name}")
    except Invalid:
        for number, value in enumerate(values):  # which row it is
            array_of(Given(name, tensor.datatype, [1, *sizes], [value]), tensor, f"rows[{number}].{name}")
        raise
    refuse_missing(array, tensor, signature, f"rows.{name}")
    return array


def _by_row(array: Array) -> list[Any]:
    values = array.reshape(len(array)) if array.size == len(array) else array
    found: list[Any] = _plain(values.tolist())
    return found


def _plain(value: Any) -> Any:
    """Texts as JSON has them; numbers as they are."""
    if isinstance(value, list):
        return [_plain(each) for each in value] if value and isinstance(value[0], list | str | bytes) else value
    return shown(value) if isinstance(value, bytes) else value
