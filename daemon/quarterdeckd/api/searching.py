"""The answer to a search: by the index for the runs that rest, by the test of one run for those that just changed."""

from __future__ import annotations

import difflib
import heapq
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from quarterdeckd.services.runs import with_metrics
from quarterstore.ledger.book import Changes
from quarterstore.ledger.finding import experiment_of
from quarterstore.ledger.state import State
from quarterstore.records.faults import got
from quarterstore.records.runs import Run, RunPage
from quarterstore.records.search import ListColumns, RunColumns, SearchRuns
from quarterstore.search.index import RunIndex, Wanted
from quarterstore.search.matching import ATTRIBUTES, Row, columns_of, reader, test_of
from quarterstore.search.paging import fingerprint, key_from, page, written
from quarterstore.search.parsing import ordered, parsed
from quarterstore.search.tree import Column, wrong

log = logging.getLogger(__name__)
MOST = 50_000
MOST_ORDERS = 20
SMALL = 500
"""Runs up to which no index is worth its making: testing one takes 5 us."""
RESTS_AFTER = 2.0
"""Seconds without a change after which a run goes into the index."""
AT_ONCE = 1_000
"""Runs put into the index at a time: 40 ms of making rows, 5 ms in which a search waits."""
STANDS_ASIDE = 0.5
"""Seconds that the making of the index lets searches go before it at most: both want the interpreter."""
_TABLES = {"metric": ("metrics",), "param": ("params",), "tag": ("tags",), "any": ("metrics", "params", "tags")}

Latest = Callable[[str], Mapping[str, float]]
Known = Mapping[str, set[str]]
"""Table -> the names that a run in the index has there."""


class Searching:
    """Which runs are in the index and which are beside it. Before the first search there is neither, and nothing is
    noted; `touch` and `follow` are called on the loop, `search` in the readers' threads."""

    def __init__(self, view: State, latest: Latest, pause: float = 0.0) -> None:
        """`pause` is how long the making of the index waits after a search."""
        self._view = view
        self._latest = latest
        self._index: RunIndex | None = None
        self._beside: dict[str, float] | None = None
        """Runs that the index has not, or not as they are: when each last changed."""
        self._asking = threading.Lock()
        self._moved: set[str] = set()
        self._moving = threading.Lock()
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._making: Future[None] | None = None
        self._pause = pause
        self._closing = threading.Event()
        self._going_on = 0
        self._quiet = threading.Condition()

    def touch(self, run: str) -> None:
        """A run has other metrics."""
        if self._beside is not None:
            with self._moving:
                self._moved.add(run)

    def follow(self, changes: Changes) -> None:
        """Records changed."""
        if self._beside is not None:
            ids = [key for book, key in changes if book == "runs"]
            if ids:
                with self._moving:
                    self._moved.update(ids)

    def search(self, query: SearchRuns) -> RunPage:
        """One page. Raises `Invalid` that points at what is wrong, with the nearest columns where one is unknown to
        every run."""
        with self._quiet:
            self._going_on += 1
        try:
            return self._search(query)
        finally:
            with self._quiet:
                self._going_on -= 1
                self._quiet.notify_all()

    def _search(self, query: SearchRuns) -> RunPage:
        if not 0 < query.limit <= MOST:
            raise got("limit", query.limit, f"1 to {MOST}")
        if len(query.order) > MOST_ORDERS:
            raise got("order", f"{len(query.order)} columns", f"at most {MOST_ORDERS}")
        tree = parsed(query.where, query.vocabulary)
        orders = [ordered(text, query.vocabulary) for text in query.order]
        names = sorted({experiment_of(self._view, text, removed=True).name for text in query.experiments})
        name = fingerprint(query.where, query.order, query.vocabulary, query.view, names)
        after = key_from(query.after, name, orders) if query.after else None
        removed = None if query.view == "all" else query.view == "removed"
        rows, total = self._found(Wanted(tree, orders, names, removed, query.limit, after, query.backward), query)
        found = page(rows, orders, query.limit, after, query.backward)
        return RunPage(
            runs=[with_metrics(row.run, dict(row.metrics)) for row in found.rows],
            total=total,
            next=written(found.next, name) if found.next is not None else None,
            previous=written(found.previous, name) if found.previous is not None else None,
        )

    def columns(self, query: ListColumns) -> RunColumns:
        """The names that runs have; looked for in all of them, 0.2 s for 100,000."""
        if not 0 < query.limit <= MOST:
            raise got("limit", query.limit, f"1 to {MOST}")
        names = {experiment_of(self._view, text, removed=True).name for text in query.experiments}
        metrics, params, tags = Counter[str](), Counter[str](), Counter[str]()
        for run in list(self._view.runs):
            if run.removed is None and (not names or run.experiment in names):
                metrics.update(self._row(run).metrics.keys())
                params.update(run.params.keys())
                tags.update(run.tags.keys())
        return RunColumns(*(_commonest(count, query.limit) for count in (metrics, params, tags)))

    def _row(self, run: Run) -> Row:
        return Row(run, self._latest(run.id) or run.metrics)

    def _found(self, wanted: Wanted, query: SearchRuns) -> tuple[list[Row], int]:
        """Rows of which the page is the first ones, and how many match in all."""
        columns = columns_of(wanted.tree)
        with self._asking:
            beside = self._gather()
            index = self._index
            if index is not None and not index.fits(wanted, len(columns)):
                index, beside = None, list(self._view.runs.rows)
            known = {} if index is None else {table: set(names) for table, names in index.names.items()}
            ids = index.page(wanted) if index else []
            total = index.count(wanted) if index else 0
        runs = _in_view([run for run in map(self._view.runs.get, beside) if run is not None], wanted)
        if wanted.tree is None and not wanted.orders and len(runs) > SMALL:
            # in the order they came, as a screen opens with: rows of 100,000 runs take half a second
            self._make_soon()
            return self._nearest(runs, ids, wanted), total + len(runs)
        rows = [self._row(run) for run in runs]
        if query.vocabulary == "deck":
            if rows or index:
                _all_known("where", query.where, columns, known, rows)
            for text, order in zip(query.order, wanted.orders, strict=True):
                self._sortable(text, order.column, known, rows)
        if wanted.tree is not None:
            test = test_of(wanted.tree)
            rows = [row for row in rows if test(row)]
        self._make_soon()
        known_runs = (self._view.runs.get(id_) for id_ in ids)
        return [*(self._row(run) for run in known_runs if run is not None), *rows], total + len(rows)

    def _nearest(self, runs: list[Run], ids: list[str], wanted: Wanted) -> list[Row]:
        """The rows of a page of the newest, backward of the oldest, of the runs beside the index and of those that it
        has found."""
        known = (self._view.runs.get(id_) for id_ in ids)
        return [self._row(run) for run in (*nearest(runs, wanted), *known) if run is not None]

    def _sortable(self, text: str, column: Column, known: Known, rows: list[Row]) -> None:
        """A screen keeps its order while it shows other runs, so any run may have the column; before the first run no
        name can be told from a mistake. Raises `Invalid`."""
        if self._view.runs.rows and not _is_known(column, known, rows):
            _all_known("order", text.lstrip("-"), [column], known, [self._row(run) for run in list(self._view.runs)])

    def _gather(self) -> list[str]:
        """The runs beside the index, with those that moved since the last time."""
        if self._beside is None:
            self._beside = {}  # from here on what moves is noted
            self._beside.update(dict.fromkeys(self._view.runs.rows, 0.0))
        with self._moving:
            moved, self._moved = self._moved, set()
        if moved:
            if self._index is not None:
                self._index.forget(moved)
            self._beside.update(dict.fromkeys(moved, time.monotonic()))
        return list(self._beside)

    def _resting(self) -> dict[str, float]:
        until = time.monotonic() - RESTS_AFTER
        with self._asking:
            return {id_: at for id_, at in (self._beside or {}).items() if at < until}

    def _make_soon(self) -> None:
        if len(self._beside or ()) > SMALL and (self._making is None or self._making.done()):
            self._making = self._maker.submit(self._make)

    def _make(self) -> None:
        """Put the runs that rest into the index, some at a time, while searches go on."""
        if self._closing.wait(self._pause):
            return
        try:
            self._sweep()
            resting = self._resting()
            if len(resting) > SMALL:
                for ids in _parts(list(resting), AT_ONCE):
                    with self._quiet:
                        self._quiet.wait_for(lambda: not self._going_on, STANDS_ASIDE)
                    self._put({id_: resting[id_] for id_ in ids})
        except Exception:
            log.exception("the index of runs could not be made; searches test each run")

    def _sweep(self) -> None:
        """Begin again where more was left behind than is in use."""
        with self._asking:
            if self._index is not None and self._index.dead > len(self._index) + SMALL:
                self._index.clear()
                self._beside = dict.fromkeys(self._view.runs.rows, 0.0)

    def _put(self, resting: dict[str, float]) -> None:
        if self._index is None:
            self._index = RunIndex()
        runs = (self._view.runs.get(id_) for id_ in resting)
        prepared = self._index.prepare([self._row(run) for run in runs if run is not None])
        with self._asking:
            self._gather()
            beside = self._beside or {}
            changed = {id_ for id_, at in resting.items() if beside.get(id_) != at}
            self._index.add(prepared, changed)
            for id_ in resting.keys() - changed:
                del beside[id_]

    def made(self, seconds: float) -> bool:
        """Wait for the index that is being made; whether it is done."""
        if self._making is not None:
            self._making.result(seconds)
        return self._making is not None

    def close(self) -> None:
        """Wait for what is being made, and drop the index."""
        self._closing.set()
        self._maker.shutdown(cancel_futures=True)
        with self._asking:
            if self._index is not None:
                self._index.close()
                self._index = None


def _parts(ids: list[str], size: int) -> Iterable[list[str]]:
    return (ids[at : at + size] for at in range(0, len(ids), size))


def _commonest(count: Counter[str], limit: int) -> tuple[str, ...]:
    """Names by how many runs have them, as many as may be, sorted by name."""
    return tuple(sorted(sorted(count, key=lambda name: (-count[name], name))[:limit]))


def _in_view(runs: list[Run], wanted: Wanted) -> list[Run]:
    if wanted.experiments:
        runs = [run for run in runs if run.experiment in wanted.experiments]
    if wanted.removed is not None:
        runs = [run for run in runs if (run.removed is not None) is wanted.removed]
    return runs


def nearest(runs: list[Run], wanted: Wanted) -> list[Run]:
    """The newest runs of a page that is in no other order, backward the oldest, and one more, in no order. A column of
    times is sorted in a fifth of the time that 100,000 keys take."""
    after, backward, count = wanted.after, wanted.backward, wanted.limit + 1
    if after is not None:
        runs = [run for run in runs if (_newest(run) < after if backward else after < _newest(run))]
    times = sorted([run.started for run in runs])
    if len(times) > count:
        edge = times[count - 1] if backward else times[-count]
        runs = [run for run in runs if (run.started <= edge if backward else run.started >= edge)]
    first = heapq.nlargest if backward else heapq.nsmallest
    return first(count, runs, key=_newest)  # many may be of one instant


def _newest(run: Run) -> tuple[float, str]:
    return -run.started, run.id


def _is_known(column: Column, known: Known, rows: list[Row]) -> bool:
    """Whether a run has the column, or every one."""
    if column.kind in ("attribute", "dataset") or (column.kind == "any" and column.name in ATTRIBUTES):
        return True
    read = reader(column)
    return any(column.name in known.get(table, ()) for table in _TABLES[column.kind]) or any(map(read, rows))


def _all_known(field: str, text: str, columns: list[Column], known: Known, rows: list[Row]) -> None:
    """A column that no run has is a mistake in writing, not an empty answer. Raises `Invalid`."""
    for column in columns:
        if _is_known(column, known, rows):
            continue
        tables = _TABLES[column.kind]
        names = {name for table in tables for name in known.get(table, ())}
        for row in rows:
            for table in tables:
                names.update(row.metrics if table == "metrics" else getattr(row.run, table))
        near = difflib.get_close_matches(column.name, names | set(ATTRIBUTES if column.kind == "any" else ()), 3, 0.3)
        raise wrong(field, text, column.at, f"got {column.words()}, expected a column that a run has", near)
