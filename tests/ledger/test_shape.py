"""What a projection is known by: the shape of every record that is in it."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from quarterstore.ledger import shape
from quarterstore.ledger.shape import shape_of
from quarterstore.ledger.state import State
from quarterstore.records.base import Record

Colour = Literal["red", "green"]
Other = Literal["red", "blue"]


class Part(Record, frozen=True):
    """Something inside another record."""

    size: int


class Pair(Record, frozen=True):
    """Another one, met through an alias."""

    weight: float


Either = Part | Pair


class Plain(Record, frozen=True):
    """The record that the others differ from in one thing."""

    name: str
    colour: Colour = "red"
    words: dict[str, str] = msgspec.field(default_factory=dict)


class OtherType(Record, frozen=True):
    name: str | None
    colour: Colour = "red"
    words: dict[str, str] = msgspec.field(default_factory=dict)


class OtherName(Record, frozen=True):
    title: str
    colour: Colour = "red"
    words: dict[str, str] = msgspec.field(default_factory=dict)


class OtherWords(Record, frozen=True):
    name: str
    colour: Other = "red"
    words: dict[str, str] = msgspec.field(default_factory=dict)


class OtherDefault(Record, frozen=True):
    name: str
    colour: Colour = "green"
    words: dict[str, str] = msgspec.field(default_factory=dict)


class OtherMaker(Record, frozen=True):
    name: str
    colour: Colour = "red"
    words: dict[str, str] = msgspec.field(default_factory=lambda: {"a": "b"})


Weight = int


class Named(Record, frozen=True):
    weight: Weight


class More(Plain, frozen=True):
    extra: int = 0


def _own(kind: type[Record]) -> dict[str, str]:
    return shape_of([kind])[f"{kind.__module__}.{kind.__qualname__}"]


@pytest.mark.parametrize("other", [OtherType, OtherName, OtherWords, OtherDefault, OtherMaker, More])
def test_a_record_with_another_field_type_word_or_default_has_another_shape(other: type[Record]) -> None:
    assert _own(other) != {**_own(Plain), "tag": _own(other)["tag"]}


def test_a_name_for_a_plain_type_that_comes_to_mean_another_one_changes_the_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = _own(Named)
    shape.meant.cache_clear()
    monkeypatch.setitem(globals(), "Weight", float)
    assert _own(Named) != before
    shape.meant.cache_clear()


def test_what_is_in_a_record_is_in_its_shape_whatever_lies_between() -> None:
    class Whole(Record, frozen=True):
        parts: dict[str, tuple[Part, ...] | None]

    class Alias(Record, frozen=True):
        either: Either

    names = {name.rpartition(".")[2] for name in shape_of([Whole])}
    assert names == {"Whole", "Part"}
    assert {name.rpartition(".")[2] for name in shape_of([Alias])} == {"Alias", "Part", "Pair"}


def test_the_shape_of_the_books_has_every_record_that_msgspec_finds_in_them_and_no_address() -> None:
    kinds = [book.kind for book in State().books().values()]
    made = shape_of(kinds)
    assert not [each for fields in made.values() for each in fields.values() if " at 0x" in each]
    _, found = msgspec.json.schema_components(kinds)
    assert {name.rpartition(".")[2] for name in found} <= {name.rpartition(".")[2] for name in made}
