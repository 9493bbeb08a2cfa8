"""Features that are computed as they are read: one function for the rows of a training set and for a caller's request.

A column is its values and which of them are missing; every formula is worked out for all rows at once. Numbers are
64-bit floats on both sides, so a value computed offline has the same bits as the one computed online.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quarterstore.records.features import OnDemand
from quarterstore.records.formulas import Tree, parsed


class Column(NamedTuple):
    """Values of n rows (floats, booleans, or texts as objects) and whether each is missing."""

    values: NDArray[Any]
    missing: NDArray[np.bool_]


FILL: Final[dict[str, Any]] = {"number": 0.0, "integer": 0.0, "boolean": False, "text": ""}
DTYPES: Final[dict[str, Any]] = {"number": np.float64, "integer": np.float64, "boolean": np.bool_, "text": np.object_}


def column_of(values: Sequence[Any], kind: str) -> Column:
    """A column of a kind (number, integer, boolean, text) from plain values, None where there is none; what is no
    finite number counts as missing."""
    absent = np.fromiter((each is None for each in values), np.bool_, len(values))
    kept = np.empty(len(values), DTYPES[kind])
    kept[:] = [FILL[kind] if each is None else each for each in values]
    return _finite(kept, absent)


def derived(wanted: Sequence[OnDemand], columns: Mapping[str, Column], rows: int) -> dict[str, Column]:
    """Each feature on demand, of the `columns` its formula names: those of the view and those of the request."""
    return {each.name: _worked(parsed(each.formula), columns, rows) for each in wanted}


def plain(column: Column) -> list[Any]:
    """The values as Python has them, None where one is missing."""
    return [
        None if absent else value for value, absent in zip(column.values.tolist(), column.missing.tolist(), strict=True)
    ]


def _worked(tree: Tree, columns: Mapping[str, Column], rows: int) -> Column:
    word, parts = tree
    if word == "name":
        return columns[str(parts[0])]
    if word == "value":
        value = parts[0]
        kind = "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
        return Column(np.full(rows, value, DTYPES[kind]), np.zeros(rows, np.bool_))
    given = [_worked(part, columns, rows) for part in parts if isinstance(part, tuple)]
    if word == "missing":
        return Column(given[0].missing, np.zeros(rows, np.bool_))
    if word == "coalesce":
        return _first(given)
    if word == "if":
        chosen = np.where(given[0].values, given[1].values, given[2].values)
        lacking = np.where(given[0].values, given[1].missing, given[2].missing)
        return Column(chosen, lacking | given[0].missing)
    absent = np.logical_or.reduce([each.missing for each in given])
    with np.errstate(all="ignore"):
        found = OPERATIONS[word](*(each.values for each in given))
    return _finite(found, absent)


def _first(given: Sequence[Column]) -> Column:
    values, absent = given[0]
    for other in given[1:]:
        values, absent = np.where(absent, other.values, values), absent & other.missing
    return Column(values, absent)


def _finite(values: NDArray[Any], absent: NDArray[np.bool_]) -> Column:
    if values.dtype == np.float64:
        endless = ~np.isfinite(values)
        if endless.any():
            return Column(np.where(endless, 0.0, values), absent | endless)
    return Column(values, absent)


def _many(two: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def all_of(first: Any, *others: Any) -> Any:
        for other in others:
            first = two(first, other)
        return first

    return all_of


def _lower(values: NDArray[Any]) -> NDArray[Any]:
    found = np.empty(len(values), np.object_)
    found[:] = [each.lower() for each in values]
    return found


def _compared(two: Callable[[Any, Any], Any]) -> Callable[[Any, Any], NDArray[np.bool_]]:
    return lambda left, right: np.asarray(two(left, right), np.bool_)


OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.mod,
    "negative": np.negative,
    "not": np.logical_not,
    "and": _many(np.logical_and),
    "or": _many(np.logical_or),
    "==": _compared(lambda left, right: left == right),
    "!=": _compared(lambda left, right: left != right),
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "abs": np.abs,
    "ceil": np.ceil,
    "exp": np.exp,
    "floor": np.floor,
    "log": np.log,
    "lower": _lower,
    "max": _many(np.maximum),
    "min": _many(np.minimum),
    "sqrt": np.sqrt,
}
"""What each word does to the values of its operands."""
