"""A book: every record of one kind by its key, with a note of what changed since it was last taken down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from quarterstore.ledger.shape import meant, written
from quarterstore.records.base import Record

R = TypeVar("R", bound=Record)

Changes = dict[tuple[str, str], Record | None]
"""What changed: (book, key) -> the record now, None when it is gone. The newest wins, so a group is one row a key."""

Former = list[tuple[str, str, Record | None]]
"""What was there before, in the order it was changed: (book, key, record or None)."""


class Book(Generic[R]):
    """Records of one kind in memory; `put` and `drop` note the change."""

    __slots__ = ("changes", "columns", "former", "key", "kind", "name", "rows")

    def __init__(self, name: str, kind: type[R], key: Callable[[R], str], changes: Changes, former: Former) -> None:
        self.name = name
        self.kind = kind
        self.key = key
        self.rows: dict[str, R] = {}
        self.changes = changes
        self.former = former
        self.columns = columns_of(kind)

    def put(self, record: R) -> None:
        """Keep a record under its key, in place of the former one."""
        key = self.key(record)
        self.former.append((self.name, key, self.rows.get(key)))
        self.rows[key] = record
        self.changes[self.name, key] = record

    def drop(self, key: str) -> None:
        """Forget a record."""
        self.former.append((self.name, key, self.rows.pop(key)))
        self.changes[self.name, key] = None

    def get(self, key: str) -> R | None:
        """The record under a key, or None."""
        return self.rows.get(key)

    def __getitem__(self, key: str) -> R:
        return self.rows[key]

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def __iter__(self) -> Iterator[R]:
        # copied in one step: readers in threads go through a view that the loop changes meanwhile
        return iter(list(self.rows.values()))

    def __len__(self) -> int:
        return len(self.rows)


_SQL = {"str": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN"}


def columns_of(kind: type[Record]) -> dict[str, str]:
    """The plain fields of a record and their SQL types: what plain DuckDB can filter by, beside the whole record."""
    columns: dict[str, str] = {}
    for name, (text, module) in written(kind).items():
        plain = text.removesuffix(" | None")
        if plain in _SQL:
            columns[name] = _SQL[plain]
        elif plain.startswith("Literal['") or _is_words(meant(plain, module)):
            columns[name] = "VARCHAR"
    return columns


def _is_words(found: Any) -> bool:
    return get_origin(found) is Literal and all(isinstance(value, str) for value in get_args(found))
