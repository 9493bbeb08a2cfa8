"""Rows that are pushed from standard input, and the view that words are read by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from quarterdeck.cli.context import Context
from quarterdeck.entity_words import object_of
from quarterstore.records.features import FeatureView, ShowView
from quarterstore.records.online import PushedRows, PushRows

AT_ONCE = 1000
"""Rows of one message."""


def view_of(context: Context, view: str) -> FeatureView:
    """The view as it is defined."""
    found: FeatureView = context.client.ask(ShowView(view=view)).view
    return found


def pushed(context: Context, view: str, lines: Iterable[bytes]) -> Iterator[PushedRows]:
    """Rows as JSON lines, pushed a thousand at a time: each thousand is kept whole, or refused and nothing after it is
    sent."""
    rows = (object_of(line, f"line {number}") for number, line in enumerate(lines, 1) if line.strip())
    while batch := tuple(islice(rows, AT_ONCE)):
        yield context.client.ask(PushRows(view=view, rows=batch))
