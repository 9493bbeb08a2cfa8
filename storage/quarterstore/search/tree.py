"""What an expression means: comparisons of columns, joined by and, or, not; errors that point at the text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from quarterstore.records.faults import Invalid

Kind = Literal["metric", "param", "tag", "attribute", "dataset", "any"]
"""Where a column is looked for; `any` is a bare name: an attribute, else a metric, a parameter, a tag."""


class Column(NamedTuple):
    """A column of a run, and where in the text it stands."""

    kind: Kind
    name: str
    at: int = 0

    def words(self) -> str:
        """As it can be written."""
        return self.name if self.kind in ("any", "attribute") else f"{self.kind}s.{self.name}"


class Compare(NamedTuple):
    """One comparison; `value` is a number, a text, several of them for `in`, nothing for `is null`."""

    column: Column
    operator: str
    value: float | str | tuple[float | str, ...] | None


class Joined(NamedTuple):
    """Parts joined by `and` or `or`."""

    word: Literal["and", "or"]
    parts: tuple[Tree, ...]


class Not(NamedTuple):
    """What is not so; what is unknown stays unknown (SQL's three values)."""

    part: Tree


Tree = Compare | Joined | Not


class Order(NamedTuple):
    """One column to sort by."""

    column: Column
    down: bool
    texts: bool = False
    """Whether parameters and tags are sorted as texts, though they say numbers."""


def wrong(field: str, text: str, at: int, words: str, nearest: Iterable[str] = ()) -> Invalid:
    """A fault that points at the place in the text."""
    start = max(0, at - 60)
    shown = "".join(char if char.isprintable() else " " for char in text[start : start + 100])
    return Invalid(words, field=field, nearest=nearest, place=(shown, at - start))
