"""Nulls that were read by keys: where the rows of a request have one, and whether they are what a model failed on."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from quarterdeckd.serving.tensors import Feed

Nulls = Mapping[int, Sequence[str]]
"""Of the rows that have one, the features that are null and that the signature does not call optional."""
NONE: Nulls = {}


def nulls_in(rows: Sequence[Mapping[str, Any]], read: Sequence[Mapping[str, Any]], maybe: Container[str]) -> Nulls:
    """Of rows as they are given to a model the features among `maybe` that are null and were `read` by keys."""
    found = {
        number: [name for name, value in row.items() if value is None and name in those and name in maybe]
        for number, (row, those) in enumerate(zip(rows, read, strict=True))
    }
    return {number: names for number, names in found.items() if names}


def blamed(nulls: Nulls, feed: Feed, rows: int, fails: Callable[[Feed], bool]) -> bool:
    """Whether a model that failed on so many rows `fails` no more where each row with a null is another one without: as
    many rows as before, because a file may take no other number. Where every row has a null, that is what it failed
    on: of a version that fails on everything the requests without one tell."""
    whole = next((number for number in range(rows) if number not in nulls), None)
    if whole is None:
        return True
    taken = [whole if number in nulls else number for number in range(rows)]
    return not fails({name: array[taken] for name, array in feed.items()})
