"""What a model may learn from a table: the task, the features, what is left out and why; faults where it cannot."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

from quarterstore.records.base import Record
from quarterstore.records.datasets import Column
from quarterstore.records.faults import Invalid, got, missing
from quarterstore.records.names import drawn
from quarterstore.records.tables import COUNTED, FEW, MOST_CLASSES, Table

FEWEST_ROWS: Final = 20
JOINED: Final = ("__status", "__age")
"""Ends of the two columns that a training set has of each view beside its features."""
FEWEST_OF_A_CLASS: Final = 2
"""One row of a class to learn from, one to measure on."""


class Plan(Record, frozen=True):
    """What a model learns from a table: the task, the features in order, what is left out and why, the classes."""

    target: str
    task: Literal["classification", "regression"]
    features: tuple[Column, ...]
    left_out: dict[str, str]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether every feature is a number."""
        return all(column.kind in ("number", "integer") for column in self.features)


def plan(
    table: Table,
    target: str,
    *,
    task: str = "auto",
    time: str | None = None,
    group: str | None = None,
    ignore: Sequence[str] = (),
    strict: bool = True,
) -> Plan:
    """What to learn from a table to predict `target`.

    Left out with a note: what is ignored, time and group columns, dates, identifiers and free text. A feature that
    is all missing or constant is a fault that says how to ignore it; with `strict` off it is left out with a note.
    """
    _check_named(table, target, time, group, ignore)
    aim = table.column(target)
    found = _task(table, aim, task)
    classes = _classes(table, aim) if found == "classification" else ()
    _check_enough(table, aim, found)
    left_out, features = {}, []
    for column in table.columns:
        if column.name == target:
            continue
        why = _why_not(table, column, time, group, ignore) or _why_empty(table, column, strict)
        if why is None:
            features.append(column)
        else:
            left_out[column.name] = why
    if not features:
        raise got("features", "no usable column", "at least one besides the target; left out: " + _listed(left_out))
    notes = [f"{drawn(name)} is not used: {why}" for name, why in left_out.items() if name not in ignore]
    return Plan(target, found, tuple(features), left_out, classes, (*table.notes, *notes))


def _check_named(table: Table, target: str, time: str | None, group: str | None, ignore: Sequence[str]) -> None:
    """Raise where a column that is named is not there, or is the target."""
    names = [column.name for column in table.columns]
    others = (("time", time), ("group", group), *(("ignore", name) for name in ignore))
    for field, name in (("target", target), *others):
        if name is not None and name not in names:
            raise missing(field, name, names)
    for field, name in others:
        if name == target:
            raise got(field, target, "a column that is not the target")


def _why_empty(table: Table, column: Column, strict: bool) -> str | None:
    """Why nothing can be learnt from a feature; `strict` raises it."""
    empty = _emptiness(table, column) or None
    if empty and strict:
        raise Invalid(
            f"got {empty}, expected at least two different values",
            field=column.name,
            next=f"ignore it with --ignore {_quoted(column.name)} (data.ignore)",
        )
    return empty


def _task(table: Table, aim: Column, task: str) -> Literal["classification", "regression"]:
    if aim.missing == table.rows:
        raise got(aim.name, "no value at all", "a target in every row")
    if aim.distinct == 1:
        raise got(aim.name, f"one class ({table.values[aim.name][0]}) in all rows", "at least two")
    if aim.kind == "time":
        raise got(aim.name, "dates", "a target of numbers or classes")
    few = aim.distinct is not None and aim.distinct <= FEW
    guess = "classification" if aim.kind in ("text", "boolean") or (aim.kind == "integer" and few) else "regression"
    chosen = guess if task == "auto" else task
    if chosen == "regression" and aim.kind in ("text", "boolean"):
        raise got(aim.name, "text", "numbers for a regression")
    if chosen == "classification" and (aim.distinct is None or aim.distinct > MOST_CLASSES):
        seen = f"more than {COUNTED:,}" if aim.distinct is None else f"{aim.distinct:,}"
        raise got(aim.name, f"{seen} classes", f"at most {MOST_CLASSES:,} (an identifier is no class)")
    return "classification" if chosen == "classification" else "regression"


def _classes(table: Table, aim: Column) -> tuple[str, ...]:
    values = table.values[aim.name]
    if aim.kind == "integer":
        return tuple(map(str, sorted({int(value) for value in values})))
    return tuple(sorted(values, key=float)) if aim.kind == "number" else values


def _check_enough(table: Table, aim: Column, task: str) -> None:
    """Rows to learn from and to measure on, of each class too, where the table counted them."""
    if (known := table.rows - aim.missing) < FEWEST_ROWS:
        raise got(aim.name, f"{known} rows with a target", f"at least {FEWEST_ROWS}")
    counts: Counter[str] = Counter()
    for cell, number in table.counts.get(aim.name, {}).items() if task == "classification" else ():
        counts[str(int(cell)) if aim.kind == "integer" else cell] += number
    rare = [cell for cell, number in counts.items() if number < FEWEST_OF_A_CLASS]
    if rare:
        raise Invalid(
            f"got 1 row of class {drawn(rare[0], longest=40)}, expected at least {FEWEST_OF_A_CLASS} of each class",
            field=aim.name,
        )


def _why_not(table: Table, column: Column, time: str | None, group: str | None, ignore: Sequence[str]) -> str | None:
    if column.name in ignore:
        return "ignored as asked"
    if column.name == time:
        return "it orders the rows"
    if column.name == group:
        return "it groups the rows"
    if column.kind == "time":
        return "it holds dates"
    if any(column.name == f"{view}{end}" for view in _joined(table) for end in JOINED):
        return "it says how a feature was found, not what it is"
    if column.name in table.sequence:
        return "it counts the rows"
    if column.kind != "text" or column.missing == table.rows:
        return None
    known = table.rows - column.missing
    if column.distinct == known and known > FEW:
        return f"an identifier ({known:,} rows, each another text)"
    if column.distinct is None or column.distinct > MOST_CLASSES or (known > 100 and column.distinct > known / 2):
        return f"free text ({column.distinct or COUNTED:,} different values in {known:,} rows)"
    return None


def _joined(table: Table) -> set[str]:
    """The views that a training set says of, for each row, whether a value was there and how old it was."""
    names = {column.name for column in table.columns}
    views = {name.removesuffix(JOINED[0]) for name in names if name.endswith(JOINED[0])}
    return {view for view in views if f"{view}{JOINED[1]}" in names}


def _emptiness(table: Table, column: Column) -> str | None:
    if column.missing == table.rows:
        return "no value in any row"
    if column.distinct == 1 and not column.missing:
        return f"one value ({drawn(table.values[column.name][0], longest=40)}) in every row"
    return None


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.-]+", name) else "'" + name.replace("'", "'\\''") + "'"


def _listed(left_out: dict[str, str]) -> str:
    return "; ".join(f"{drawn(name)}: {why}" for name, why in list(left_out.items())[:5])
