"""Runs: a window of 200 of however many there are, found, sorted and paged by the daemon; marked, compared, opened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Input, Static

from quarterdeck import finding
from quarterdeck.tui.messages import PulseArrived
from quarterdeck.tui.screens import run_columns
from quarterdeck.tui.screens.base import QUIET
from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.screens.paging import Pages
from quarterdeck.tui.screens.run_card import POINTS, run_card
from quarterdeck.tui.screens.run_columns import RunColumn
from quarterdeck.tui.widgets.card_view import CardView, Drawing
from quarterdeck.tui.widgets.drawing import safe
from quarterdeck.tui.widgets.record_table import RecordTable, Row
from quarterdeck.wording import command_text
from quarterstore.records.faults import Fault, Invalid
from quarterstore.records.runs import CurvePoint, MetricHistory, Run, RunPage, ShowRun
from quarterstore.records.search import ListColumns, SearchRuns

COMPARED = 200
"""Runs in one comparison: what the daemon compares."""
CHARTED = 6
"""Metrics of which the card beside the table draws curves; the run's own screen has all."""
KEPT = "runs.columns"


class RunsScreen(NounScreen):
    """A window of 200 runs; only what is in it is asked for, drawn and kept up to date."""

    name_of_screen = "runs"
    nouns = frozenset({"runs"})
    pulses = (CurvePoint,)
    marks = True
    empty = 'no run yet\n\nwith quarterdeck.connect() as deck, deck.run("churn") as run:\n    run.log(loss=0.1)'
    keys = (
        ("/", "a text, or an expression: acc > 0.9 and params.lr < 0.1"),
        ("G g", "the last run of all, the first"),
        ("> <", "the next 200 runs, the former; j and k go on to them too"),
        ("enter", "the run: curves, artefacts, environment, family, log"),
        ("|", "choose the columns; they are kept"),
        ("space", "mark a run; * marks the page, u forgets the marks"),
        ("c", "compare the marked runs"),
        ("b", "the best runs of what is found, or of the marked"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark"),
        Binding("c", "compare", "compare"),
        Binding("vertical_line", "choose_columns", "columns", key_display="|"),
        Binding("b", "best", "best"),
        Binding("asterisk", "mark_all", "mark all", key_display="*", show=False),
        Binding("u", "unmark", "unmark", show=False),
        Binding("greater_than_sign", "page(1)", "next page", key_display=">", show=False),
        Binding("less_than_sign", "page(-1)", "page before", key_display="<", show=False),
        Binding("l", "log", "log", show=False),
        Binding("v", "family", "family", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._pages = Pages()
        self._searched = ""
        """What was typed when these rows were found."""
        self._chosen: tuple[RunColumn, ...] | None = None
        self._shown: tuple[RunColumn, ...] = ()
        self._sort: RunColumn | None = None
        self._goto: str | None = None
        """`first` or `last`: where the cursor goes in the page that was turned to."""
        self._moved: set[str] = set()
        self._patching: asyncio.TimerHandle | None = None

    def body(self) -> ComposeResult:
        """Filter, what is wrong with it, table, card."""
        yield Input(placeholder="a text, or an expression: acc > 0.9 and params.lr < 0.1", id="filter")
        yield Static("", id="filter-fault", markup=False)
        with Container(id="body"):
            yield RecordTable()
            yield CardView(focus=False, id="card")

    def on_mount(self) -> None:
        """The columns that were chosen last time."""
        kept = self.deck_app.kept
        words = kept.get(KEPT, tuple[str, ...])
        self._chosen = run_columns.read(words) or None if words else None
        if kept.trouble:
            # on this screen itself: while it is mounted it may not be among those of the app yet
            self.notice(safe(f"the columns begin anew: {kept.trouble}", 200).plain, "warning")

    def crumbs(self) -> tuple[str, ...]:
        """What is looked for, and which part of what was found is in sight."""
        found = ["runs"]
        if self._searched:
            found.append(self._searched)
        if self._pages.total:
            first = self._pages.start + 1
            found.append(f"{first:,}-{first + len(self.records) - 1:,} of {self._pages.total:,}")
        tables = self.query(RecordTable)
        marked = len(tables.first().marked) if tables else 0
        return (*found, *((f"◆ {marked} marked",) if marked else ()))

    def query_of(self, text: str) -> SearchRuns:
        """The search for what was typed, in the order of now, for the page of now."""
        sign = "-" if self.descending else ""
        return self._pages.query(where(text), (sign + self._sort.sort(),) if self._sort else ())

    async def fetch(self) -> Sequence[tuple[str, Run]]:
        """One page by its key."""
        page: RunPage = await self.deck_app.deck.ask(self.query_of(self.text))
        if not page.runs and self._pages.first():  # what the page had is gone, or is found no more
            page = await self.deck_app.deck.ask(self.query_of(self.text))
        self._pages.took(page)
        return [(run.id, run) for run in page.runs]

    async def fill(self) -> None:
        """Query, draw, show the card; a mistake in the expression is pointed at, and the rows stay as they are."""
        try:
            self.records = dict(await self.fetch())
        except Invalid as fault:
            if fault.place is None:
                raise
            self._point_at(fault)
            return
        self._point_at(None)
        self._searched = self.text.strip()
        self._draw()
        self.call_after_refresh(self.deck_app.trace, "page_painted", self.name_of_screen)
        await self.show_card()
        if self.query_one(RecordTable).selected() != self._card_key:  # the cursor went on while the card was asked for
            await self.show_card()

    def _draw(self) -> None:
        """The rows as they are known now; only what differs from what is drawn is touched."""
        self._moved.clear()
        if self._chosen or self.records or not self._shown:  # where nothing is found the headings stay
            self._shown = self._chosen or run_columns.automatic(list(self.records.values()))
        self.columns = tuple(each.column(place, self._chosen is not None) for place, each in enumerate(self._shown))
        now, keys = time.time(), list(self.records)
        rows = [Row(key, self.cells(run, now)) for key, run in self.records.items()]
        goto, self._goto = self._goto, None
        cursor = None if goto is None or not keys else keys[0 if goto == "first" else -1]
        table = self.query_one(RecordTable)
        table.further = self._pages.further()
        table.show(self.columns, self._titles(), rows, marks=True, cursor=cursor)

    def _titles(self) -> tuple[str, ...]:
        arrow = "▼" if self.descending else "▲"
        return tuple(
            f"{column.title} {arrow}" if each == self._sort else column.title
            for each, column in zip(self._shown, self.columns, strict=True)
        )

    def cells(self, record: Run, now: float) -> tuple[Text, ...]:
        """A run in the columns of now."""
        return tuple(each.cell(record, now) for each in self._shown)

    def _point_at(self, fault: Fault | None) -> None:
        place = self.query_one("#filter-fault", Static)
        place.set_class(fault is not None, "shown")
        place.update(pointed(fault, max(20, self.size.width - 2)) if fault else "")

    async def card(self, record: Run, now: float) -> Drawing:
        """Curves first: they are what one looks for."""
        metrics = [each.name for each in self._shown if each.kind == "metrics" and each.name in record.metrics]
        keys = tuple(dict.fromkeys([*metrics, *sorted(record.metrics)]))[:CHARTED]
        asked = MetricHistory(run=record.id, keys=keys, points=POINTS)
        curves = await self.deck_app.deck.ask(asked) if keys else []
        return lambda width, height: run_card(record, curves, now, width, height)

    def subject(self) -> tuple[str, str] | None:
        """The run under the cursor; the search that found these rows, where there is one."""
        run = self.selected()
        if self._searched or self._sort:
            return (run.id if run else "", command_text(self.query_of(self._searched)))
        return (run.id, command_text(ShowRun(run=run.id))) if run else None

    # live: a pulse patches its row, an entry asks for the page again

    def on_pulse_arrived(self, message: PulseArrived) -> None:
        """Newer points of a run in sight, four times a second at most."""
        message.prevent_default()  # else the handler of the class below is called as well
        pulse = message.pulse
        if not isinstance(pulse, CurvePoint) or self.paused or pulse.run not in self.records:
            return
        run: Run = self.records[pulse.run]
        newest = {name: value for name, (_, value) in pulse.points.items()}
        self.records[pulse.run] = msgspec.structs.replace(run, metrics={**run.metrics, **newest})
        self._moved.add(pulse.run)
        if self._sort is not None and self._sort.kind == "metrics":
            self.soon()  # its place may be another
        elif self._patching is None:
            self._patching = asyncio.get_running_loop().call_later(QUIET, self._patch)

    @work(exclusive=True, group="card")
    async def _patch(self) -> None:
        self._patching = None
        if not self.is_current or self._filling:
            return
        moved = self.query_one(RecordTable).selected() in self._moved
        self._draw()
        if moved:
            try:
                with self.unless_left():
                    await self.show_card()
            except Fault as fault:
                self.notify(safe(fault.line(), 200).plain, severity="warning", markup=False)

    # finding

    def on_input_changed(self, event: Input.Changed) -> None:
        """Another search, from its first page."""
        event.prevent_default()
        self.text = event.value
        self._pages.first()
        self._goto = "first"
        self.load()

    def action_back(self) -> None:
        """Clear the filter first, then the marks, then go back."""
        self._point_at(None)
        super().action_back()
        self.tell()

    def action_sort(self, direction: int) -> None:
        """Sort by the next column in sight, or the other way round; from the first page."""
        if direction < 0:
            self.descending = not self.descending
        else:
            seen = [self._shown[index] for index in self.query_one(RecordTable).visible_columns]
            places: list[RunColumn | None] = [None, *seen]
            now = places.index(self._sort) if self._sort in places else 0
            self._sort = places[(now + 1) % len(places)]
        self._pages.first()
        self._goto = "first"
        self.load()

    def on_record_table_left(self, message: RecordTable.Left) -> None:
        """Beyond the last row the next page begins, above the first the former ends; the ends are those of all runs."""
        if not message.rows or self._filling:
            return
        if message.end:
            turned, place = (self._pages.last(), "last") if message.rows > 0 else (self._pages.first(), "first")
        else:
            turned, place = self._pages.turn(message.rows), "first" if message.rows > 0 else "last"
        if turned:
            self._goto = place
            self.load()

    def action_page(self, by: int) -> None:
        """The next 200 runs, or the former, from their first on."""
        if not self._filling and self._pages.turn(by):
            self._goto = "first"
            self.load()

    # columns

    @work
    async def action_choose_columns(self) -> None:
        """`|`: which columns, in which order; kept for the next time."""
        from quarterdeck.tui.widgets.column_dialog import ColumnDialog

        experiments = tuple(sorted({run.experiment for run in self.records.values()}))
        known = await self.answered(ListColumns(experiments=experiments))
        if known is None:
            return
        offered = run_columns.offered(known, self._shown)
        names = [each.words() for each in offered]
        chosen = await self.app.push_screen_wait(ColumnDialog(names, [each.words() for each in self._shown]))
        if chosen is None:
            return
        self._chosen = run_columns.read(chosen) or None
        try:
            self.deck_app.kept.put(KEPT, chosen)
        except OSError as error:
            self.notify(safe(f"the columns are not kept: {error}", 200).plain, severity="warning", markup=False)
        if self._sort not in (self._chosen or ()):
            self._sort = None
        self._pages.first()
        self.load()

    # marks, and what is done with them

    def action_mark(self) -> None:
        """Mark or unmark."""
        self.query_one(RecordTable).mark()
        self.tell()

    def action_mark_all(self) -> None:
        """Mark the page."""
        self.query_one(RecordTable).mark_all()
        self.tell()

    def action_unmark(self) -> None:
        """Forget every mark."""
        self.query_one(RecordTable).unmark()
        self.tell()

    def action_compare(self) -> None:
        """What differs between the marked runs; marks are kept while other runs are looked for."""
        marked = tuple(sorted(self.query_one(RecordTable).marked))
        if not 2 <= len(marked) <= COMPARED:
            words = f"{len(marked)} runs are marked, expected 2 to {COMPARED}; space marks the run under the cursor"
            self.notify(words)
            return
        from quarterdeck.tui.screens.run_compare import CompareScreen

        self.app.push_screen(CompareScreen(marked, self.records))

    def action_best(self) -> None:
        """The best runs by a metric: of the marked, else of all that the filter finds."""
        marked = sorted(self.query_one(RecordTable).marked)
        found = f"id in ({', '.join(map(finding.quoted, marked))})" if marked else where(self._searched)
        metrics = [each.name for each in (self._sort, *self._shown) if each and each.kind == "metrics"]
        metrics += sorted({name for run in self.records.values() for name in run.metrics})
        if not metrics:
            self.notify("no run here has a metric")
            return
        from quarterdeck.tui.screens.run_best import BestScreen

        self.app.push_screen(BestScreen(found, tuple(dict.fromkeys(metrics))))

    def open(self, record: Any) -> None:
        """The run with the whole terminal to itself."""
        self._open(record, "curves")

    def action_log(self) -> None:
        """The log of the job that the run belongs to."""
        self._open(self.selected(), "log")

    def action_family(self) -> None:
        """Its parent and its children."""
        self._open(self.selected(), "family")

    def _open(self, run: Run | None, pane: str) -> None:
        if run is not None and self.is_current:
            from quarterdeck.tui.screens.run_one import RunScreen

            self.app.push_screen(RunScreen(run.id, pane))


def where(text: str) -> str:
    """What was typed, as an expression."""
    text = text.strip()
    return text if finding.is_expression(text) else finding.expression("", text=text)


def pointed(fault: Fault, width: int) -> Text:
    """The part of the line around what is wrong, a caret below it, and what was expected."""
    line, at = fault.place or ("", 0)
    start = max(0, min(at - width + 12, len(line) - width + 1)) if len(line) >= width else 0
    text = Text.assemble(safe(line[start : start + width]), "\n", " " * (at - start), ("^", "bold"), "\n")
    words = safe(fault.line(), 400)
    words.no_wrap = False
    text.append_text(words)
    return text
