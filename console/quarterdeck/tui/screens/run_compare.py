"""Up to 200 runs side by side: what differs, parameters and metrics in one table, and their curves in one chart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from quarterdeck.tui.messages import EntryArrived
from quarterdeck.tui.screens.looking import LOOK_KEYS
from quarterdeck.tui.screens.matrix import MatrixScreen
from quarterdeck.tui.screens.run_card import POINTS
from quarterdeck.tui.widgets.card_view import CardView
from quarterdeck.tui.widgets.drawing import ago, muted, number, right, safe, section, state
from quarterdeck.tui.widgets.plot import MARKS
from quarterdeck.tui.widgets.record_table import Column, Row
from quarterdeck.tui.widgets.run_curves import compared
from quarterdeck.wording import command_text
from quarterstore.records.base import Pulse
from quarterstore.records.faults import Fault
from quarterstore.records.runs import (
    CompareRuns,
    Comparison,
    Curve,
    CurvePoint,
    Difference,
    MetricHistory,
    Run,
    ShowRun,
    Value,
)

SIDE_BY_SIDE = 6
"""Runs up to which each is a column and what differs the rows; more are rows."""
CHARTED = len(MARKS)
"""Runs in one chart: each has a mark of its own."""


class CompareScreen(MatrixScreen):
    """The marked runs."""

    name_of_screen = "runs"
    nouns = frozenset({"runs"})
    pulses = (CurvePoint,)
    keys = (
        ("← →", "columns beyond the edge"),
        ("T", "runs as rows, or as columns"),
        ("d", "only what differs, or all"),
        ("m / M", "the next metric of the chart / the one before"),
        ("/", "find a metric by a part of its name"),
        ("n / N", f"the next {CHARTED} runs of the chart / those before"),
        *LOOK_KEYS,
        ("enter", "the run of the row"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "runs(1)", "next runs", show=False),
        Binding("N", "runs(-1)", "runs before", show=False),
        Binding("T", "turn", "turn round"),
        Binding("d", "differences", "all", show=False),
    ]

    def __init__(self, runs: tuple[str, ...], known: Mapping[str, Run] = MappingProxyType({})) -> None:
        """`known` saves asking for what the screen before has."""
        super().__init__()
        self._ids = runs
        self._runs = {id_: known[id_] for id_ in runs if id_ in known}
        self._found = Comparison((), ())
        self._all = False
        self._as_rows = len(runs) > SIDE_BY_SIDE
        self._start = 0
        self._curves: dict[tuple[str, str], Curve] = {}

    def crumbs(self) -> tuple[str, ...]:
        """How many, and which columns."""
        return ("runs", f"compare {len(self._ids)}", *self.crumbs_of_columns())

    def on_entry_arrived(self, message: EntryArrived) -> None:
        """What is over does not change: 200 runs are not compared again for what others do."""
        if all(run.state != "RUNNING" for run in self._runs.values()):
            message.prevent_default()

    def concerns(self, pulse: Pulse) -> bool:
        """Newer points of one of them."""
        return isinstance(pulse, CurvePoint) and pulse.run in self._ids

    async def fill(self) -> None:
        """The comparison and the runs that are not known or not over, all at once; then the curves of the chart."""
        ask, known = self.deck_app.deck.ask, self._runs
        moving = [id_ for id_ in self._ids if id_ not in known or known[id_].state == "RUNNING"]
        self._found, *shown = await asyncio.gather(
            ask(CompareRuns(runs=self._ids, all=self._all)), *(ask(ShowRun(run=id_)) for id_ in moving)
        )
        known.update((run.id, run) for run in shown)
        counts: dict[str, int] = {}
        for run in known.values():
            for name in run.metrics:
                counts[name] = counts.get(name, 0) + 1
        self.metrics = tuple(sorted(counts, key=lambda name: (-counts[name], name)))
        if self.metric not in counts:
            self.metric = self.metrics[0] if self.metrics else ""
        self._tabulate()
        self.deck_app.trace("compared", str(len(self._ids)))
        await self._ask_curves(anew=True)

    # the table

    def _tabulate(self) -> None:
        (self._by_runs if self._as_rows else self._by_differences)()
        self.lay_rows()

    def _by_runs(self) -> None:
        rows = self._found.rows
        states = {run.state for run in self._runs.values()}
        self.columns = (
            Column("run", 22, 1),
            *((Column("state", 10),) if len(states) > 1 else ()),
            *(Column(_title(row), 10, right=_numeric(row)) for row in rows),
        )
        found = []
        for place, id_ in enumerate(self._found.runs):
            run = self._runs.get(id_)
            values = tuple(row.values[place] for row in rows)
            name, stands = (label(run), run.state) if run else (id_, "")
            cells = (safe(name, 40), *((state(stands),) if len(states) > 1 else ()), *map(_cell, values))
            found.append(Row(id_, cells))
            self.ranks[id_] = (name, *((stands,) if len(states) > 1 else ()), *values)
        self.rows = tuple(found)

    def shown_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """A run of the chart has its mark there before its name."""
        if not self._as_rows:
            return rows
        marks = dict(zip(self._charted(), MARKS, strict=False))
        return [Row(key, (Text.assemble(f"{marks.get(key, ' ')} ", cells[0]), *cells[1:])) for key, cells in rows]

    def _by_differences(self) -> None:
        now, runs = time.time(), [self._runs.get(id_) for id_ in self._found.runs]
        names = [label(run) if run else id_ for run, id_ in zip(runs, self._found.runs, strict=True)]
        self.columns = (
            Column("what differs", 18, 1),
            *(Column(safe(name, 24).plain, 12, 1, right=True) for name in names),
        )
        states = tuple(_end(state(run.state)) if run else Text("-") for run in runs)
        started = tuple(right(ago(run.started, now)) if run else Text("-") for run in runs)
        rows = [Row("state", (muted("state"), *states)), Row("started", (muted("started"), *started))]
        self.ranks = {"state": ("",) * len(self.columns), "started": ("",) * len(self.columns)}
        for each in self._found.rows:
            key = f"{each.where} {each.name}"
            rows.append(Row(key, (safe(key, 60), *(_cell(value) for value in each.values))))
            self.ranks[key] = (key, *each.values)
        self.rows = tuple(rows)

    def run_of(self, key: str) -> str | None:
        """Rows are runs, or what differs."""
        return key if key in self._runs else None

    # the chart

    def _charted(self) -> list[str]:
        """The runs of the chart: where they are rows, in the order of the rows."""
        ids = [row.key for row in self.ordered()] if self._as_rows else list(self._found.runs)
        self._start = 0 if self._start >= len(ids) else self._start
        return ids[self._start : self._start + CHARTED]

    async def _ask_curves(self, anew: bool = False) -> None:
        charted, metric = self._charted(), self.metric
        running = {id_ for id_ in charted if (run := self._runs.get(id_)) and run.state == "RUNNING"}
        lacking = [id_ for id_ in charted if (id_, metric) not in self._curves or (anew and id_ in running)]
        asked = [MetricHistory(run=id_, keys=(metric,), points=POINTS) for id_ in lacking if metric]
        for curves in await asyncio.gather(*map(self.deck_app.deck.ask, asked)):
            for curve in curves:
                self._curves[curve.run, metric] = curve
        self.draw_card()

    def draw_card(self) -> None:
        """One metric, a run a line."""
        charted, metric, look = self._charted(), self.metric, self.look
        curves = [
            (label(self._runs[id_]), self._curves[id_, metric])
            for id_ in charted
            if id_ in self._runs and (id_, metric) in self._curves
        ]
        place = self.metrics.index(metric) + 1 if metric in self.metrics else 0
        words = ""
        if len(self._ids) > CHARTED:
            words += f" · runs {self._start + 1}-{self._start + len(charted)} of {len(self._ids)}"
        if len(self.metrics) > 1:
            words += f" · metric {place} of {len(self.metrics)}"

        def drawing(width: int, height: int) -> Text:
            if not metric:
                return section("curves", muted("none of these runs has a metric\n"), width)
            return compared(metric, curves, width, max(5, min(16, height - 7)), look, words)

        self.query_one(CardView).show(drawing)

    def redraw(self) -> None:
        """Another look at the same points."""
        self.draw_card()

    def sorted_anew(self) -> None:
        """Other runs may be the first."""
        self._load_curves()

    @work(exclusive=True, group="curves")
    async def _load_curves(self) -> None:
        self.lay_rows()
        try:
            with self.unless_left():
                await self._ask_curves()
        except Fault as fault:
            self.notify(safe(fault.line(), 200).plain, severity="warning", markup=False)

    def draw_metric(self, name: str) -> None:
        """The curves of another metric."""
        super().draw_metric(name)
        self._load_curves()

    def action_runs(self, by: int) -> None:
        """Other runs in the chart."""
        start = self._start + by * CHARTED
        if 0 <= start < len(self._ids):
            self._start = start
            self._load_curves()

    def action_turn(self) -> None:
        """Rows become columns."""
        self._as_rows = not self._as_rows
        self.first, self.sorted_by = 0, -1
        self._tabulate()
        self._load_curves()
        self.tell()

    def action_differences(self) -> None:
        """What is equal too, or not."""
        self._all = not self._all
        self.load()

    def subject(self) -> tuple[str, str] | None:
        """The run of the row, or all of them; the command that compares them."""
        here = self.here()
        one = self.run_of(here) if here else None
        return one or " ".join(self._ids), command_text(CompareRuns(runs=self._ids, all=self._all))


def label(run: Run) -> str:
    """A run in few cells: its name, and the end of its id, since names are not unique."""
    return f"{run.name[:16]} {run.id[-4:]}".strip()


def _title(row: Difference) -> str:
    name = row.name if row.where in ("param", "metric") else f"{row.where}.{row.name}"
    return safe(name, 40).plain


def _numeric(row: Difference) -> bool:
    return all(value is None or isinstance(value, int | float) for value in row.values)


def _cell(value: Value) -> Text:
    if isinstance(value, str) and "\n" in value:
        return right(f"{len(value.splitlines())} lines")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return right(number(value, 5))
    return right("-" if value is None else safe(value, 60).plain)


def _end(text: Text) -> Text:
    text.justify = "right"
    return text
