"""Runs: browse, live curves, compare two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from quarterdeck.tui.messages import PulseArrived
from quarterdeck.tui.screens.base import DeckScreen, NounScreen, section
from quarterdeck.tui.widgets.drawing import age, clock, facts, number, safe, safe_lines, size, state
from quarterdeck.tui.widgets.plot import Series, plot
from quarterdeck.tui.widgets.record_table import WINDOW, RecordTable
from quarterstore.records.runs import CompareRuns, CurvePoint, ListRuns, MetricHistory, Run


class RunsScreen(NounScreen):
    """A window of 200 runs, filtered and sorted by the daemon."""

    name_of_screen = "runs"
    nouns = frozenset({"runs"})
    columns = ("run", "experiment", "name", "state", "started", "metric")
    keys = (("space", "mark a run"), ("c", "compare the marked runs"))
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark"),
        Binding("c", "compare", "compare"),
    ]
    SORTS: ClassVar[tuple[str, ...]] = ("id", "experiment", "name", "state", "started", "started")

    async def fetch(self) -> Sequence[tuple[str, Run]]:
        """One page; text and order are the daemon's work."""
        sort = self.SORTS[self.sorted_by] if self.sorted_by >= 0 else "started"
        sign = "" if self.sorted_by >= 0 and not self.descending else "-"
        page = await self.deck_app.deck.ask(ListRuns(text=self.text, sort=sign + sort, limit=WINDOW))
        return [(run.id, run) for run in page.runs]

    def _filtered(self, rows: list[Any]) -> list[Any]:
        return rows

    def _sorted(self, rows: list[Any]) -> list[Any]:
        return rows

    def cells(self, record: Run) -> tuple[Text | str, ...]:
        """One metric stands for all; the detail has the others."""
        name, value = next(iter(sorted(record.metrics.items())), ("", None))
        shown = f"{name} {number(value)}" if name else "-"
        return (
            safe(record.id[-8:]),
            safe(record.experiment, 18),
            safe(record.name, 18),
            state(record.state),
            clock(record.started),
            safe(shown, 22),
        )

    async def detail(self, record: Run) -> Text:
        """Curves first: they are what one looks for."""
        curves = await self.deck_app.deck.ask(MetricHistory(run=record.id, points=400))
        width = max(40, self.size.width // (2 if self.size.width >= 110 else 1) - 6)
        text = facts(
            (
                ("run", record.id),
                ("state", state(record.state)),
                ("experiment", record.experiment),
                ("took", age((record.ended or record.started) - record.started)),
                ("by", record.actor),
                ("commit", record.source.commit or "-"),
            )
        )
        lines = [Series(curve.key, curve.steps, curve.values) for curve in curves if len(curve.steps) > 1][:4]
        if lines:
            text.append_text(section("curves by step", plot(lines, width, 10)))
        text.append_text(
            section("metrics", facts([(key, number(value, 6)) for key, value in sorted(record.metrics.items())], 18))
        )
        text.append_text(section("params", facts([(key, value) for key, value in sorted(record.params.items())], 18)))
        if record.artefacts:
            text.append_text(
                section("artefacts", facts([(each.path, size(each.size)) for each in record.artefacts], 24))
            )
        if record.error:
            text.append_text(section("error", safe_lines(record.error[-1500:].splitlines())))
        return text

    def subject(self) -> tuple[str, str] | None:
        """The run under the cursor."""
        run = self.selected()
        return (run.id, f"qd run show {run.id}") if run else None

    def on_pulse_arrived(self, message: PulseArrived) -> None:
        """New points of the run that is looked at: draw them."""
        run = self.selected()
        if (
            isinstance(message.pulse, CurvePoint)
            and run is not None
            and message.pulse.run == run.id
            and self._due is None
        ):
            import asyncio

            self._due = asyncio.get_running_loop().call_later(0.25, self._load_due)

    def action_mark(self) -> None:
        """Mark or unmark."""
        self.query_one(RecordTable).mark()

    def action_compare(self) -> None:
        """What differs between the marked runs."""
        marked = [run.id for key, run in self.records.items() if key in self.query_one(RecordTable).marked]
        if len(marked) < 2:
            self.notify("mark two or more runs with space first")
            return
        self.app.push_screen(CompareScreen(tuple(marked)))


class CompareScreen(DeckScreen):
    """Marked runs side by side: only what differs."""

    name_of_screen = "runs"

    def __init__(self, runs: tuple[str, ...]) -> None:
        super().__init__()
        self._runs = runs

    def crumbs(self) -> str:
        """The runs that are compared."""
        return f"runs › compare {len(self._runs)}"

    def body(self) -> Any:
        """One text."""
        from textual.containers import VerticalScroll
        from textual.widgets import Static

        with VerticalScroll(id="full"):
            yield Static(Text("…", style="grey62"), id="full-text")

    async def fill(self) -> None:
        """Ask for the comparison and set it in columns."""
        from textual.widgets import Static

        found = await self.deck_app.deck.ask(CompareRuns(runs=self._runs))
        text = Text("what differs\n\n", style="bold")
        text.append(f"{'':<8} {'':<18} " + " ".join(f"{run[-8:]:>14}" for run in found.runs) + "\n", style="grey62")
        for row in found.rows:
            values = " ".join(f"{safe(number(v) if isinstance(v, float) else v, 14).plain:>14}" for v in row.values)
            text.append(f"{row.where:<8} ", style="grey62")
            text.append(f"{safe(row.name, 18).plain:<18} {values}\n")
        if not found.rows:
            text.append("no difference\n")
        self.query_one("#full-text", Static).update(text)

    def subject(self) -> tuple[str, str] | None:
        """The runs, and the command that compares them."""
        return " ".join(self._runs), "qd compare " + " ".join(self._runs)
