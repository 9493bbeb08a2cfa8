"""Runs: browse, live curves, compare the marked ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.base import DeckScreen, NounScreen
from quarterdeck.tui.widgets.card_view import CardView, Drawing
from quarterdeck.tui.widgets.drawing import (
    age,
    ago,
    beside,
    facts,
    grid,
    number,
    right,
    safe,
    section,
    size,
    state,
    title,
)
from quarterdeck.tui.widgets.record_table import WINDOW, Column, RecordTable, Row
from quarterdeck.tui.widgets.run_curves import compared, run_curves
from quarterdeck.wording import command_text
from quarterstore.records.base import Pulse
from quarterstore.records.runs import CompareRuns, Comparison, Curve, CurvePoint, ListRuns, MetricHistory, Run, ShowRun

POINTS = 400
"""Points of a curve that are asked for; a chart of 150 columns has 300 dots across."""
COMPARED = 6
"""Runs in one comparison: a chart has six colours and marks."""


class RunsScreen(NounScreen):
    """A window of 200 runs, filtered and sorted by the daemon."""

    name_of_screen = "runs"
    nouns = frozenset({"runs"})
    pulses = (CurvePoint,)
    marks = True
    empty = 'no run yet\n\nwith quarterdeck.connect() as deck, deck.run("churn") as run:\n    run.log(loss=0.1)'
    columns = (
        Column("run", 8, drop=2, sort="id"),
        Column("experiment", 10, flex=2, sort="experiment"),
        Column("name", 10, flex=3, sort="name"),
        Column("state", 10, sort="state"),
        Column("metric", 14, flex=2, drop=1),
        Column("started", 10, right=True, sort="started"),
    )
    keys = (("space", "mark a run"), ("c", "compare the marked runs"), ("u", "forget the marks"))
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark"),
        Binding("c", "compare", "compare"),
        Binding("u", "unmark", "unmark", show=False),
    ]

    async def fetch(self) -> Sequence[tuple[str, Run]]:
        """One page; text and order are the daemon's work."""
        sort = self.columns[self.sorted_by].sort if self.sorted_by >= 0 else None
        sign = "" if sort and not self.descending else "-"
        page = await self.deck_app.deck.ask(ListRuns(text=self.text, sort=sign + (sort or "started"), limit=WINDOW))
        return [(run.id, run) for run in page.runs]

    def _filtered(self, rows: list[Row]) -> list[Row]:
        return rows

    def _sorted(self, rows: list[Row]) -> list[Row]:
        return rows

    def action_sort(self, direction: int) -> None:
        """Sort by the next column that the daemon sorts by."""
        super().action_sort(direction)
        while self.sorted_by >= 0 and self.columns[self.sorted_by].sort is None:
            super().action_sort(direction)

    def cells(self, record: Run, now: float) -> tuple[Text, ...]:
        """One metric stands for all; the card has the others."""
        name, value = next(iter(sorted(record.metrics.items())), ("", None))
        return (
            safe(record.id[-8:]),
            safe(record.experiment, 60),
            safe(record.name, 60),
            state(record.state),
            safe(f"{name} {number(value)}" if name else "-", 40),
            right(ago(record.started, now)),
        )

    async def card(self, record: Run, now: float) -> Drawing:
        """Curves first: they are what one looks for."""
        curves = await self.deck_app.deck.ask(MetricHistory(run=record.id, points=POINTS))
        return lambda width, height: run_card(record, curves, now, width, height)

    def concerns(self, pulse: Pulse) -> bool:
        """New points of the run that is looked at."""
        run = self.selected()
        return isinstance(pulse, CurvePoint) and run is not None and pulse.run == run.id

    def subject(self) -> tuple[str, str] | None:
        """The run under the cursor."""
        run = self.selected()
        return (run.id, command_text(ShowRun(run=run.id))) if run else None

    def action_mark(self) -> None:
        """Mark or unmark."""
        self.query_one(RecordTable).mark()

    def action_unmark(self) -> None:
        """Forget every mark."""
        self.query_one(RecordTable).unmark()

    def action_compare(self) -> None:
        """What differs between the marked runs; marks are kept while other runs are looked for."""
        marked = sorted(self.query_one(RecordTable).marked)
        if not 2 <= len(marked) <= COMPARED:
            self.notify(
                f"{len(marked)} runs are marked, expected 2 to {COMPARED}; space marks the run under the cursor"
            )
            return
        self.app.push_screen(CompareScreen(tuple(marked)))


def run_card(run: Run, curves: Sequence[Curve], now: float, width: int, height: int) -> Text:
    """A run in full."""
    took = age((run.ended or now) - run.started)
    words = f"{run.experiment} · {run.id} · by {run.actor} · took {took}"
    text = title(run.name or run.id, [state(run.state)], words, width)
    text.append_text(run_curves(curves, width, max(5, min(12, height // 3))))
    if run.error:
        lines = Text("\n").join(safe(line) for line in run.error[-1500:].splitlines())
        text.append_text(section("error", lines, width))
    half = (width - 3) // 2
    figures = facts([(key, number(value, 6)) for key, value in sorted(run.metrics.items())] or [("none", "")], 16)
    given = facts([(key, value) for key, value in sorted(run.params.items())] or [("none", "")], 16)
    text.append_text(beside(section("metrics", figures, half), section("params", given, half), width))
    origin: list[tuple[str, object]] = [("commit", run.source.commit or "-"), ("job", run.job or "-")]
    origin += [("dataset", each) for each in run.datasets]
    origin += [(f"tag {key}", value) for key, value in sorted(run.tags.items())]
    origin += [("artefact", f"{each.path}  {size(each.size)}") for each in run.artefacts]
    text.append_text(section("where it comes from, what it left", facts(origin), width))
    return text


class CompareScreen(DeckScreen):
    """Marked runs side by side: their curves in one chart a metric, and only what differs."""

    AUTO_FOCUS = "CardView"
    name_of_screen = "runs"
    nouns = frozenset({"runs"})

    def __init__(self, runs: tuple[str, ...]) -> None:
        super().__init__()
        self._runs = runs

    def crumbs(self) -> tuple[str, ...]:
        """The runs that are compared."""
        return ("runs", f"compare {len(self._runs)}")

    def body(self) -> ComposeResult:
        """One card."""
        yield CardView(focus=True, id="full")

    async def fill(self) -> None:
        """Ask for the comparison and the curves."""
        ask = self.deck_app.deck.ask
        found = await ask(CompareRuns(runs=self._runs))
        runs = [await ask(ShowRun(run=run)) for run in found.runs]
        curves = [(_label(run), each) for run in runs for each in await ask(MetricHistory(run=run.id, points=POINTS))]
        now = time.time()
        self.query_one(CardView).show(lambda width, height: comparison_card(runs, found, curves, now, width, height))

    def subject(self) -> tuple[str, str] | None:
        """The runs, and the command that compares them."""
        return " ".join(self._runs), command_text(CompareRuns(runs=self._runs))


def _label(run: Run) -> str:
    return f"{run.name[:12]} {run.id[-4:]}".strip()


def comparison_card(
    runs: Sequence[Run],
    found: Comparison,
    curves: Sequence[tuple[str, Curve]],
    now: float,
    width: int,
    height: int,
) -> Text:
    """Runs in columns, what differs in rows; below it a chart for each metric that two of them have."""
    each = max(10, min(20, (width - 30) // max(1, len(runs)) - 2))
    widths = (8, max(10, min(26, width - 12 - (each + 2) * len(runs))), *[each] * len(runs))
    rows: list[tuple[Text, ...]] = [(Text(), Text(), *[right(safe(_label(run)).plain, "bold") for run in runs])]
    rows.append((Text(), safe("state", style="grey62"), *[_end(state(run.state)) for run in runs]))
    rows.append((Text(), safe("started", style="grey62"), *[right(ago(run.started, now)) for run in runs]))
    for row in found.rows:
        values = [number(value, 6) if isinstance(value, float) else str(value) for value in row.values]
        named = ["-" if value == "None" else safe(value, 60).plain for value in values]
        rows.append((safe(row.where, style="grey62"), safe(row.name, 60), *[right(value) for value in named]))
    text = section("what differs", grid(rows, widths), width)
    keys = sorted({curve.key for _, curve in curves})
    for key in [key for key in keys if sum(curve.key == key for _, curve in curves) > 1][:6]:
        chosen = [(name, curve) for name, curve in curves if curve.key == key]
        text.append_text(compared(key, chosen, width, max(5, min(12, height // 3))))
    return text


def _end(text: Text) -> Text:
    text.justify = "right"
    return text
