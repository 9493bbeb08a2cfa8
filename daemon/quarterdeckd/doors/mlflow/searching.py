"""Experiments, models, versions and logged models found by MLflow's filter strings: each is a row with a run's columns,
so that one language serves all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from quarterdeckd.doors.mlflow.caller import listed, number, text
from quarterdeckd.doors.mlflow.errors import invalid
from quarterstore.records.runs import Run
from quarterstore.search.matching import Row, test_of
from quarterstore.search.paging import fingerprint, key_from, page, written
from quarterstore.search.parsing import Theirs, ordered, parsed
from quarterstore.search.tree import Order


class Noun(NamedTuple):
    """What is searched: its name, MLflow's words for it, how many are answered at most, and unasked."""

    name: str
    words: Theirs
    most: int
    unasked: int


def as_run(id_: str, name: str, created: float, updated: float | None, tags: dict[str, str], **more: Any) -> Run:
    """A record in the columns of a run; its times are whole milliseconds, as they are shown."""
    told: dict[str, Any] = {
        "id": id_,
        "experiment": "",
        "name": name,
        "state": "FINISHED",
        "started": round(created * 1000) / 1000,
        "ended": round((updated or created) * 1000) / 1000,
        "actor": "",
        "tags": tags,
    }
    return Run(**{**told, **more})


def limit_of(given: dict[str, Any], noun: Noun) -> int:
    """How many are asked for."""
    limit = number(given, "max_results", noun.unasked)
    if not 1 <= limit <= noun.most:
        raise invalid(
            f"Invalid value {limit} for parameter 'max_results' supplied. It must be at least 1 and at most "
            f"{noun.most}, but got value {limit}"
        )
    return limit


def order_of(noun: Noun, expression: str) -> Order:
    """One column to sort by."""
    return ordered(expression, "mlflow", "order_by", noun.words)


def found(
    given: dict[str, Any], noun: Noun, rows: list[Row], orders: Sequence[Order], within: object = None
) -> tuple[list[Row], dict[str, str]]:
    """The page of a request, and the token of the next where there is one; `within` tells one search from another."""
    filter_, token = text(given, "filter", ""), text(given, "page_token", "")
    tree = parsed(filter_, "mlflow", "filter", noun.words)
    if tree is not None:
        test = test_of(tree)
        rows = [row for row in rows if test(row)]
    name = fingerprint(noun.name, filter_, [(each.column.words(), each.down) for each in orders], within)
    after = key_from(token, name, orders) if token else None
    found = page(rows, orders, limit_of(given, noun), after)
    return found.rows, {} if found.next is None else {"next_page_token": written(found.next, name)}


def orders_of(given: dict[str, Any], noun: Noun, unasked: Sequence[str], then: Sequence[str] = ()) -> list[Order]:
    """What a request sorts by; `then` sorts what is equal."""
    asked = [str(each) for each in listed(given, "order_by")] or [*unasked]
    return [order_of(noun, each) for each in (*asked, *then)]
