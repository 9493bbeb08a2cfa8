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


class Cell(NamedTuple):
    """What a run has in a column: as a text, as a number, as both where a text says a number."""

    text: str | None
    number: float | None


def parent_of(run: Run) -> str | None:
    """The run that a run is nested in, as it was opened here or as MLflow's clients tag it."""
    return run.parent or run.tags.get("mlflow.parentRunId")


Read = Callable[[Row], "Cell | None"]
Test = Callable[[Row], "bool | None"]
TEXTS: dict[str, Callable[[Run], str | None]] = {
    "id": lambda run: run.id,
    "name": lambda run: run.name,
    "experiment": lambda run: run.experiment,
    "state": lambda run: run.state,
    "actor": lambda run: run.actor,
    "notes": lambda run: run.notes or None,
    "parent": parent_of,
    "job": lambda run: run.job,
    "artefacts": lambda run: None,
}
NUMBERS: dict[str, Callable[[Run], float | None]] = {
    "started": lambda run: run.started,
    "ended": lambda run: run.ended,
    "duration": lambda run: None if run.ended is None else run.ended - run.started,
}
ATTRIBUTES = (*TEXTS, *NUMBERS)


def number_of(value: Any) -> float | None:
    """A value as a number, where it is one or says one."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return float(value)


def cell_of(value: Any) -> Cell | None:
    """The cell of a parameter's or a tag's value."""
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return Cell(text, number_of(value))


def _metric(name: str) -> Read:
    def read(row: Row) -> Cell | None:
        value = row.metrics.get(name)
        return None if value is None else Cell(None, value)

    return read


def _text(name: str) -> Read:
    attribute = TEXTS[name]

    def read(row: Row) -> Cell | None:
        value = attribute(row.run)
        return None if value is None else Cell(value, None)

    return read


def _number(name: str) -> Read:
    attribute = NUMBERS[name]

    def read(row: Row) -> Cell | None:
        value = attribute(row.run)
        return None if value is None else Cell(None, value)

    return read


def reader(column: Column) -> Read:
    """What a run has in a column other than a dataset's, `None` where nothing."""
    kind, name = column.kind, column.name
    if kind in ("attribute", "any") and name in TEXTS:
        return _text(name)
    if kind in ("attribute", "any") and name in NUMBERS:
        return _number(name)
    metric = _metric(name)
    if kind == "metric":
        return metric
    if kind == "param":
        return lambda row: cell_of(row.run.params.get(name))
    if kind == "tag":
        return lambda row: cell_of(row.run.tags.get(name))
    return lambda row: metric(row) or cell_of(row.run.params.get(name)) or cell_of(row.run.tags.get(name))


def datasets_of(run: Run) -> list[tuple[str, str, str | None]]:
    """Name, digest and context of each dataset that a run used; one that is kept here goes by its id."""
    found = [(each.name, each.digest, each.tags.get("mlflow.data.context")) for each in run.inputs]
    return [*found, *((id_, id_, None) for id_ in run.datasets)]


DATASET = ("name", "digest", "context")


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


def _one(operator: str, cell: Cell, wanted: float | str) -> bool | None:
    """One comparison. A NaN is no number to compare: unknown, as where nothing is, so that `not` does not find it
    either; only `= nan` and `!= nan` look for it."""
    if isinstance(wanted, str):
        return None if cell.text is None else _COMPARED[operator](cell.text, wanted)
    if cell.number is None:
        return None
    if math.isnan(wanted):
        return math.isnan(cell.number) is (operator == "=") if operator in ("=", "!=") else None
    return None if math.isnan(cell.number) else _COMPARED[operator](cell.number, wanted)


def _any_of(found: list[bool | None]) -> bool | None:
    return True if True in found else None if None in found else False


def _cell_test(operator: str, value: Any) -> Callable[[Cell | None], bool | None]:
    if operator == "null":
        return lambda cell: cell is None
    if operator == "in":
        return lambda cell: None if cell is None else _any_of([_one("=", cell, each) for each in value])
    return lambda cell: None if cell is None else _one(operator, cell, value)


def _compared(tree: Compare) -> Test:
    test, column = _cell_test(tree.operator, tree.value), tree.column
    if column.kind != "dataset":
        read = reader(column)
        return lambda row: test(read(row))
    field = DATASET.index(column.name)

    def of_datasets(row: Row) -> bool | None:
        values = [each[field] for each in datasets_of(row.run)]
        cells = [Cell(value, None) for value in values if value is not None]
        if tree.operator == "null":
            return not cells
        return _any_of([test(cell) for cell in cells]) if cells else None

    return of_datasets


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
