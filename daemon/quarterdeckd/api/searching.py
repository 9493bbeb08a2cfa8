"""The answer to a search: parsed, tested on every run in memory, one page of it sorted."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from quarterdeckd.services.runs import with_metrics
from quarterstore.ledger.finding import experiment_of
from quarterstore.ledger.state import State
from quarterstore.records.faults import got
from quarterstore.records.runs import Run, RunPage
from quarterstore.records.search import SearchRuns
from quarterstore.search.matching import ATTRIBUTES, Row, columns_of, reader, test_of
from quarterstore.search.paging import fingerprint, key_from, page, written
from quarterstore.search.parsing import ordered, parsed
from quarterstore.search.tree import Column, wrong

MOST = 50_000
MOST_ORDERS = 20

Latest = Callable[[Run], Mapping[str, float]]


def search(state: State, query: SearchRuns, latest: Latest) -> RunPage:
    """One page; `latest(run)` gives the last metrics. Raises `Invalid` that points at what is wrong, with the nearest
    columns where one is unknown to every run."""
    if not 0 < query.limit <= MOST:
        raise got("limit", query.limit, f"1 to {MOST}")
    if len(query.order) > MOST_ORDERS:
        raise got("order", f"{len(query.order)} columns", f"at most {MOST_ORDERS}")
    tree = parsed(query.where, query.vocabulary)
    orders = [ordered(text, query.vocabulary) for text in query.order]
    names = {experiment_of(state, text, removed=True).name for text in query.experiments}
    rows = [Row(run, latest(run)) for run in list(state.runs) if _in_view(run, query.view, names)]
    if query.vocabulary == "deck" and rows:
        for column in columns_of(tree):
            _known(column, rows, query.where)
    if tree is not None:
        test = test_of(tree)
        rows = [row for row in rows if test(row)]
    name = fingerprint(query.where, query.order, query.vocabulary, query.view, sorted(names))
    after = key_from(query.after, name) if query.after else None
    found, following = page(rows, orders, query.limit, after)
    return RunPage(
        runs=[with_metrics(row.run, dict(row.metrics)) for row in found],
        total=len(rows),
        next=written(following, name) if following is not None else None,
    )


def _in_view(run: Run, view: str, names: set[str]) -> bool:
    return (not names or run.experiment in names) and (
        view == "all" or (run.removed is not None) == (view == "removed")
    )


def _known(column: Column, rows: list[Row], where: str) -> None:
    """A column that no run has is a mistake in writing, not an empty answer."""
    read = reader(column)
    if (
        column.kind in ("attribute", "dataset")
        or column.name in ATTRIBUTES
        or any(read(row) is not None for row in rows)
    ):
        return
    tables = {"metric": ("metrics",), "param": ("params",), "tag": ("tags",), "any": ("metrics", "params", "tags")}
    names = {
        name
        for row in rows
        for table in tables[column.kind]
        for name in (row.metrics if table == "metrics" else getattr(row.run, table))
    }
    near = difflib.get_close_matches(column.name, names | set(ATTRIBUTES if column.kind == "any" else ()), 3, 0.3)
    raise wrong("where", where, column.at, f"got {column.words()}, expected a column that a run has", near)
