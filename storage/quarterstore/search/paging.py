"""Rows in an order that never moves, and pages of it by the key of the last row, not by an offset."""

from __future__ import annotations

import base64
import hashlib
import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from quarterstore.records.faults import got
from quarterstore.search.matching import Row, reader
from quarterstore.search.tree import Order

Key = tuple[Any, ...]
"""A (rank, number, text) per order, then the start turned round, then the id."""
NUMBER, TEXT, NAN, MISSING = 0, 1, 2, 3
"""Numbers first, then texts, then NaN, then nothing, whichever way the values are sorted (as MLflow does)."""


class Down:
    """A text that sorts the other way round."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: Down) -> bool:
        return other.text < self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Down) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def _part(order: Order) -> Callable[[Row], tuple[int, float, str | Down]]:
    read, sign, turned = reader(order.column), -1.0 if order.down else 1.0, Down if order.down else str
    blank = turned("")

    def part(row: Row) -> tuple[int, float, str | Down]:
        cell = read(row)
        if cell is None:
            return (MISSING, 0.0, blank)
        if cell.number is None or (order.texts and cell.text is not None):
            return (TEXT, 0.0, turned(cell.text or ""))
        return (NAN, 0.0, blank) if math.isnan(cell.number) else (NUMBER, sign * cell.number, blank)

    return part


def key_of(orders: Sequence[Order]) -> Callable[[Row], Key]:
    """What a row is sorted by: each order, then the newest, then the id; no two rows have the same."""
    parts = [_part(order) for order in orders]
    return lambda row: (*(part(row) for part in parts), -row.run.started, row.run.id)


class Page(NamedTuple):
    """Rows in their order; the keys to ask for the page after them and the one before, where there are such."""

    rows: list[Row]
    next: Key | None
    previous: Key | None


def page(rows: Iterable[Row], orders: Sequence[Order], limit: int, after: Key | None, backward: bool = False) -> Page:
    """The first `limit` rows beyond a key; backward the last before it."""
    key = key_of(orders)
    keyed = ((key(row), row) for row in rows)
    if after is not None:
        keyed = (pair for pair in keyed if (pair[0] < after if backward else after < pair[0]))
    nearest = heapq.nlargest if backward else heapq.nsmallest
    found = nearest(limit + 1, keyed, key=lambda pair: pair[0])
    more, found = len(found) > limit, found[:limit]
    if backward:
        found.reverse()
    first, last = (found[0][0], found[-1][0]) if found else (None, None)
    there = after is not None  # the row of that key, and what lies beyond it
    return Page(
        [row for _, row in found],
        last if (there if backward else more) else None,
        first if (more if backward else there) else None,
    )


def fingerprint(*parts: object) -> bytes:
    """What tells one search from another, so that the key of one is not used for another."""
    return hashlib.sha256(msgspec.msgpack.encode(parts)).digest()[:8]


def written(key: Key, search: bytes) -> str:
    """A key as an opaque text."""
    *parts, started, id_ = key
    plain = [
        (rank, number, text.text if isinstance(text, Down) else text, isinstance(text, Down))
        for rank, number, text in parts
    ]
    return base64.urlsafe_b64encode(msgspec.msgpack.encode((search, plain, started, id_))).decode()


def key_from(text: str, search: bytes, orders: Sequence[Order]) -> Key:
    """The key of a text; raises `Invalid` for one that is not of this search."""
    try:
        kind = tuple[bytes, list[tuple[int, float, str, bool]], float, str]
        found, parts, started, id_ = msgspec.msgpack.decode(base64.urlsafe_b64decode(text), type=kind)
    except (ValueError, msgspec.DecodeError) as error:
        raise got("after", text, "the key that the page before gave") from error
    if found != search or [down for *_, down in parts] != [order.down for order in orders]:
        raise got("after", text, "the key that a page of this search gave")
    return (*((rank, number, Down(value) if down else value) for rank, number, value, down in parts), started, id_)
