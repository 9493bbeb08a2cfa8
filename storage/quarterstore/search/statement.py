"""A tree and an order as SQL over the index's narrow tables, every value bound; the same meaning as the test of one
run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from quarterstore.search.matching import NUMBERS, TEXTS
from quarterstore.search.paging import MISSING, NAN, NUMBER, TEXT, Down, Key
from quarterstore.search.tree import Column, Compare, Not, Order, Tree

Names = dict[str, dict[str, int]]
"""Table (metrics, params, tags) -> the names that a run has there, each with its number."""
MOST_TABLES = 40
"""Columns that one statement joins; DuckDB plans 40 joins in 30 ms, beyond that each run is tested by itself."""

ZERO, BLANK = "0.0::DOUBLE", "''::VARCHAR"
"""The part of a key that is the same for all."""


class Sql(NamedTuple):
    """A column as SQL: as a number, as a text; nothing for what it never is."""

    number: str | None
    text: str | None


class Statement:
    """Grows by columns, conditions and orders; `values` are those of `$1`, `$2`, … in the text."""

    def __init__(self, names: Names) -> None:
        self.values: list[Any] = []
        self._names = names
        self._joins: dict[tuple[str, str], str] = {}
        self._texts: list[str] = []

    def bind(self, value: Any) -> str:
        """A value's place in the text."""
        self.values.append(value)
        return f"${len(self.values)}"

    def source(self) -> str:
        """The runs and what was joined to them."""
        return " ".join(("runs AS r", *self._texts))

    def _joined(self, table: str, name: str) -> str | None:
        number = self._names[table].get(name)
        if number is None:
            return None
        alias = self._joins.get((table, name))
        if alias is None:
            alias = self._joins[table, name] = f"j{len(self._joins)}"
            self._texts.append(
                f"LEFT JOIN {table} AS {alias} ON {alias}.row = r.row AND {alias}.key = {self.bind(number)}"
            )
        return alias

    def column(self, column: Column) -> Sql:
        """A column as SQL, joined where it is not there yet."""
        kind, name = column.kind, column.name
        if kind in ("attribute", "any") and name in TEXTS:
            return Sql(None, f"r.{name}")
        if kind in ("attribute", "any") and name in NUMBERS:
            return Sql(f"r.{name}", None)
        tables = ("metrics", "params", "tags") if kind == "any" else (f"{kind}s",)
        found = [(table, alias) for table in tables if (alias := self._joined(table, name))]
        if not found:
            return Sql("NULL::DOUBLE", "NULL::VARCHAR")
        if len(found) == 1:
            ((table, alias),) = found
            return Sql(f"{alias}.value", None) if table == "metrics" else Sql(f"{alias}.number", f"{alias}.text")
        return Sql(
            _first([(alias, "value" if table == "metrics" else "number", table) for table, alias in found]),
            _first([(alias, "NULL" if table == "metrics" else "text", table) for table, alias in found]),
        )

    def condition(self, tree: Tree) -> str:
        """A tree as a condition of three values."""
        if isinstance(tree, Compare):
            return self._dataset(tree) if tree.column.kind == "dataset" else self._compared(tree)
        if isinstance(tree, Not):
            return f"(NOT {self.condition(tree.part)})"
        return "(" + f" {tree.word.upper()} ".join(self.condition(part) for part in tree.parts) + ")"

    def _compared(self, tree: Compare) -> str:
        sql = self.column(tree.column)
        if tree.operator == "null":
            return "(" + " AND ".join(f"{part} IS NULL" for part in sql if part is not None) + ")"
        if isinstance(tree.value, tuple):
            return "(" + " OR ".join(self._among(sql, tree.value)) + ")"
        assert tree.value is not None
        return self._one(sql, tree.operator, tree.value)

    def _among(self, sql: Sql, values: tuple[float | str, ...]) -> list[str]:
        texts = [value for value in values if isinstance(value, str)]
        numbers = [value for value in values if not isinstance(value, str) and not math.isnan(value)]
        parts = [self._one(sql, "=", math.nan)] if len(texts) + len(numbers) < len(values) else []
        if texts:
            places = ", ".join(map(self.bind, texts))
            parts.append("NULL::BOOLEAN" if sql.text is None else f"{sql.text} IN ({places})")
        if numbers:
            places = ", ".join(map(self.bind, numbers))
            parts.append("NULL::BOOLEAN" if sql.number is None else _known(sql.number, f"IN ({places})"))
        return parts

    def _one(self, sql: Sql, operator: str, value: float | str) -> str:
        if isinstance(value, str):
            return "NULL::BOOLEAN" if sql.text is None else f"({sql.text} {operator.upper()} {self.bind(value)})"
        if sql.number is None:
            return "NULL::BOOLEAN"
        if math.isnan(value):
            held = {"=": f"(isnan({sql.number}))", "!=": f"(NOT isnan({sql.number}))"}
            return held.get(operator, "NULL::BOOLEAN")
        return _known(sql.number, f"{operator} {self.bind(value)}")

    def _dataset(self, tree: Compare) -> str:
        """Whether one of the datasets of a run is so; unknown where it has none."""
        field = f"d.{tree.column.name}"
        if tree.operator == "null":
            return f"(NOT EXISTS (SELECT 1 FROM datasets AS d WHERE d.row = r.row AND {field} IS NOT NULL))"
        values = tree.value if isinstance(tree.value, tuple) else (tree.value,)
        operator = "=" if tree.operator == "in" else tree.operator
        one = " OR ".join(self._one(Sql(None, field), operator, value) for value in values if value is not None)
        return f"(SELECT bool_or({one}) FROM datasets AS d WHERE d.row = r.row)"

    def keys(self, orders: Sequence[Order]) -> list[tuple[str, bool]]:
        """What rows are sorted by, each with whether it goes down: the same as `paging.key_of`."""
        found: list[tuple[str, bool]] = []
        for order in orders:
            sql = self.column(order.column)
            if order.texts and sql.text is not None:
                sql = Sql(None, sql.text)
            found += _key(sql, order.down)
        return [*found, ("r.started", True), ("r.id", False)]

    def sorting(self, keys: Sequence[tuple[str, bool]], backward: bool = False) -> str:
        """The keys as ORDER BY takes them, from the end where `backward`: not those that are the same for all."""
        turned = ((sql, down is not backward) for sql, down in keys if sql not in (ZERO, BLANK))
        return ", ".join(f"{sql} {'DESC' if down else 'ASC'}" for sql, down in turned)

    def beyond(self, keys: Sequence[tuple[str, bool]], after: Key, backward: bool = False) -> str:
        """The condition that a row comes after the row of a key, or before it."""
        *parts, started, id_ = after
        values = [value for part in parts for value in part]
        # numbers that go down are turned round in a key, so that one comparison serves all
        flat = [
            value.text if isinstance(value, Down) else -value if down and isinstance(value, float) else value
            for value, (_, down) in zip([*values, started, id_], keys, strict=True)
        ]
        cases, same = [], "TRUE"
        for (sql, down), value in zip(keys, flat, strict=True):
            place = self.bind(value)
            cases.append(f"({same} AND {sql} {'<' if down is not backward else '>'} {place})")
            same = f"{same} AND {sql} = {place}"
        return "(" + " OR ".join(cases) + ")"


def _known(number: str, compared: str) -> str:
    """A comparison that is unknown for a NaN."""
    return f"(CASE WHEN NOT isnan({number}) THEN {number} {compared} END)"


def _first(found: list[tuple[str, str, str]]) -> str:
    """The value of the first table in which a run has the name."""
    cases = " ".join(
        f"WHEN {alias}.{'value' if table == 'metrics' else 'text'} IS NOT NULL "
        f"THEN {'NULL' if field == 'NULL' else f'{alias}.{field}'}"
        for alias, field, table in found
    )
    return f"(CASE {cases} END)"


def _key(sql: Sql, down: bool) -> list[tuple[str, bool]]:
    number, text = sql
    if number is None:
        return [
            (f"CASE WHEN {text} IS NULL THEN {MISSING} ELSE {TEXT} END", False),
            (ZERO, down),
            (f"coalesce({text}, '')", down),
        ]
    nothing = f"CASE WHEN {text} IS NULL THEN {MISSING} ELSE {TEXT} END" if text else str(MISSING)
    return [
        (f"CASE WHEN {number} IS NULL THEN {nothing} WHEN isnan({number}) THEN {NAN} ELSE {NUMBER} END", False),
        (f"CASE WHEN {number} IS NULL OR isnan({number}) THEN 0 ELSE {number} END", down),
        (f"CASE WHEN {number} IS NULL THEN coalesce({text}, '') ELSE '' END" if text else BLANK, down),
    ]
