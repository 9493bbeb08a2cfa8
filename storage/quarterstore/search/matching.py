"""A tree as a test of one run: true, false, or unknown where the run lacks the column (SQL's three values)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from quarterstore.records.runs import Run
from quarterstore.search.tree import Column, Compare, Joined, Not, Tree


class Row(NamedTuple):
    """A run with the last value of each of its metrics."""

    run: Run
    metrics: Mapping[str, float]


Read = Callable[[Row], Any]
Test = Callable[[Row], "bool | None"]
ATTRIBUTES: dict[str, Read] = {
    "id": lambda row: row.run.id,
    "name": lambda row: row.run.name,
    "experiment": lambda row: row.run.experiment,
    "state": lambda row: row.run.state,
    "actor": lambda row: row.run.actor,
    "started": lambda row: row.run.started,
    "ended": lambda row: row.run.ended,
    "duration": lambda row: None if row.run.ended is None else row.run.ended - row.run.started,
    "notes": lambda row: row.run.notes or None,
    "parent": lambda row: row.run.parent,
    "job": lambda row: row.run.job,
    "artefacts": lambda row: None,
}
_METRICS: Read = lambda row: row.metrics  # noqa: E731
_PARAMS: Read = lambda row: row.run.params  # noqa: E731
_TAGS: Read = lambda row: row.run.tags  # noqa: E731
_TABLES = {"metric": _METRICS, "param": _PARAMS, "tag": _TAGS}


def reader(column: Column) -> Read:
    """What a run has in a column, `None` where nothing; several texts for datasets."""
    name = column.name
    if column.kind == "dataset":
        return lambda row: _datasets(row.run, name)
    if column.kind == "attribute" or (column.kind == "any" and name in ATTRIBUTES):
        return ATTRIBUTES[name]
    if column.kind == "any":
        return lambda row: _first(name, row.metrics, row.run.params, row.run.tags)
    table = _TABLES[column.kind]
    return lambda row: table(row).get(name)


def _first(name: str, *tables: Mapping[str, Any]) -> Any:
    for table in tables:
        if name in table:
            return table[name]
    return None


def _datasets(run: Run, field: str) -> tuple[str, ...] | None:
    if field == "context":
        found = tuple(each.tags["mlflow.data.context"] for each in run.inputs if "mlflow.data.context" in each.tags)
    else:
        found = tuple(getattr(each, field) for each in run.inputs)
        found += run.datasets
    return found or None


def like(pattern: str, text: str) -> bool:
    """SQL's LIKE: `%` any text, `_` any character; two pointers, so that no pattern takes longer than their product."""
    at, place, star, mark = 0, 0, -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "%":
            star, mark = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("_", text[at]):
            at, place = at + 1, place + 1
        elif star >= 0:
            mark += 1
            at, place = mark, star + 1
        else:
            return False
    return all(char == "%" for char in pattern[place:])


def number_of(value: Any) -> float | None:
    """A value as a number, where it is one or says one."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float) else None


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "like": lambda left, right: like(right, left),
    "ilike": lambda left, right: like(right.lower(), left.lower()),
}


def _one(operator: str, value: Any, wanted: float | str) -> bool | None:
    """One comparison. NaN is never above, below or equal to anything, nor unequal: it says nothing."""
    if isinstance(wanted, str):
        return _COMPARED[operator](_text_of(value), wanted)
    number = number_of(value)
    if number is None:
        return None
    if math.isnan(number) or math.isnan(wanted):
        return math.isnan(number) and math.isnan(wanted) if operator in ("=", "!=") else False
    return _COMPARED[operator](number, wanted)


def _compared(tree: Compare) -> Test:
    read, operator, wanted = reader(tree.column), tree.operator, tree.value
    if operator == "null":
        return lambda row: read(row) is None
    if operator == "in" and isinstance(wanted, tuple):
        every = wanted

        def among(row: Row) -> bool | None:
            value = read(row)
            return None if value is None else any(_any("=", value, each) for each in every)

        return among
    only: Any = wanted
    if tree.column.kind == "metric" and operator in ("<", "<=", ">", ">=") and isinstance(only, float):
        compare, name = _COMPARED[operator], tree.column.name  # the common case without a step between

        def above(row: Row) -> bool | None:
            value = row.metrics.get(name)
            return None if value is None else compare(value, only)

        return above

    def test(row: Row) -> bool | None:
        value = read(row)
        return None if value is None else _any(operator, value, only)

    return test


def _any(operator: str, value: Any, wanted: float | str) -> bool | None:
    if isinstance(value, tuple):
        return any(_one(operator, each, wanted) for each in value)
    return _one(operator, value, wanted)


def _joined(tree: Joined) -> Test:
    parts = [test_of(part) for part in tree.parts]
    decides = tree.word == "or"

    def test(row: Row) -> bool | None:
        unknown = False
        for part in parts:
            found = part(row)
            if found is decides:
                return decides
            unknown = unknown or found is None
        return None if unknown else not decides

    return test


def _not(tree: Not) -> Test:
    part = test_of(tree.part)

    def test(row: Row) -> bool | None:
        found = part(row)
        return None if found is None else not found

    return test


def test_of(tree: Tree) -> Test:
    """The test that a tree means."""
    if isinstance(tree, Compare):
        return _compared(tree)
    return _not(tree) if isinstance(tree, Not) else _joined(tree)


test_of.__test__ = False  # type: ignore[attr-defined]


def columns_of(tree: Tree | None) -> list[Column]:
    """Every column of a tree, in the order of the text."""
    if tree is None:
        return []
    if isinstance(tree, Compare):
        return [tree.column]
    parts = (tree.part,) if isinstance(tree, Not) else tree.parts
    return [column for part in parts for column in columns_of(part)]
