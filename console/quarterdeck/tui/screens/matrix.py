"""A table whose columns are more than fit: those in sight begin where the arrows have gone; a card beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import DataTable

from quarterdeck.tui.screens.looking import LookingScreen
from quarterdeck.tui.widgets.card_view import CardView
from quarterdeck.tui.widgets.record_table import Column, RecordTable, Row


class MatrixScreen(LookingScreen):
    """The first column always stays: it says what a row is of."""

    AUTO_FOCUS = "RecordTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort(1)", "sort", show=False),
        Binding("S", "sort(-1)", "sort the other way", show=False),
        Binding("m", "metric(1)", "metric"),
        Binding("M", "metric(-1)", "metric before", show=False),
        Binding("slash", "choose_metric", "find a metric", show=False, key_display="/"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.first = 0
        """The first column in sight, of those after the one that stays."""
        self.sorted_by = -1
        self.descending = False
        self.columns: tuple[Column, ...] = ()
        self.rows: tuple[Row, ...] = ()
        self.ranks: dict[str, tuple[object, ...]] = {}
        """Row -> what each of its columns is sorted by; `None` comes last either way."""

    def body(self) -> ComposeResult:
        """Table and card."""
        with Container(id="body"):
            yield RecordTable()
            yield CardView(focus=False, id="card")

    def crumbs_of_columns(self) -> tuple[str, ...]:
        """Which columns are in sight, where that are not all."""
        tables = self.query(RecordTable)
        seen = len(tables.first().visible_columns) - 1 if tables else 0
        count = len(self.columns) - 1
        if seen < 1 or seen >= count:
            return ()
        return (f"columns {self.first + 1}-{self.first + seen} of {count} ←→",)

    def here(self) -> str | None:
        """The row under the cursor."""
        tables = self.query(RecordTable)
        return tables.first().selected() if tables else None

    def lay_rows(self) -> None:
        """The rows in their order, the columns from where the arrows have gone."""
        order, first = self.ordered(), min(self.first, max(0, len(self.columns) - 2))
        kept = [0, *range(first + 1, len(self.columns))]
        arrow = " ▼" if self.descending else " ▲"
        titles = [self.columns[index].title + (arrow if index == self.sorted_by else "") for index in kept]
        columns = [self.columns[index]._replace(drop=place) for place, index in enumerate(kept)]
        rows = [Row(row.key, tuple(row.cells[index] for index in kept)) for row in self.shown_rows(order)]
        self.query_one(RecordTable).show(columns, titles, rows, marks=False)

    def shown_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows as they are drawn."""
        return rows

    def ordered(self) -> Sequence[Row]:
        """The rows by the column that was chosen; numbers before texts, what is missing last."""
        if self.sorted_by < 0:
            return self.rows
        found = [(self.ranks[row.key][self.sorted_by], row) for row in self.rows]
        known = [pair for pair in found if pair[0] is not None and pair[0] == pair[0]]
        lacking = [row for value, row in found if value is None or value != value]
        known.sort(key=lambda pair: _rank(pair[0]), reverse=self.descending)
        return [*(row for _, row in known), *lacking]

    def draw_card(self) -> None:
        """The card for the row under the cursor."""

    def on_record_table_left(self, message: RecordTable.Left) -> None:
        """The arrows: columns beyond the edge."""
        if message.columns:
            beyond = len(self.columns) - 1 - (len(self.query_one(RecordTable).visible_columns) - 1)
            self.first = max(0, min(self.first + message.columns, beyond))
            self.lay_rows()
            self.tell()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Another row: its command, its place in the card."""
        self.tell()
        self.draw_card()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter: the run of the row."""
        run = self.run_of(str(event.row_key.value))
        if run:
            from quarterdeck.tui.screens.run_one import RunScreen

            self.app.push_screen(RunScreen(run))

    def run_of(self, key: str) -> str | None:
        """The run that a row is of."""
        return key

    def action_sort(self, direction: int) -> None:
        """Sort by the next column in sight, or the other way round."""
        if direction < 0:
            self.descending = not self.descending
        else:
            seen = [0, *(index + self.first for index in self.query_one(RecordTable).visible_columns if index)]
            places = [-1, *seen]
            now = places.index(self.sorted_by) if self.sorted_by in places else 0
            self.sorted_by = places[(now + 1) % len(places)]
        self.lay_rows()
        self.sorted_anew()

    def sorted_anew(self) -> None:
        """The rows have another order."""
        self.draw_card()

    metrics: tuple[str, ...] = ()
    metric = ""
    """The one that is drawn, of those there are."""

    def action_metric(self, by: int) -> None:
        """The next metric, or the one before."""
        if self.metrics:
            place = self.metrics.index(self.metric) if self.metric in self.metrics else 0
            self.draw_metric(self.metrics[(place + by) % len(self.metrics)])

    @work
    async def action_choose_metric(self) -> None:
        """`/`: one of all metrics, by a part of its name."""
        from quarterdeck.tui.widgets.name_dialog import NameDialog

        name = await self.app.push_screen_wait(NameDialog("metric", self.metrics, self.metric))
        if name is not None:
            self.draw_metric(name)

    def draw_metric(self, name: str) -> None:
        """Another metric."""
        self.metric = name

    def shown_keys(self) -> list[tuple[str, str]]:
        """How to leave, then its own."""
        return [("esc", "back"), *super().shown_keys()]


def _rank(value: object) -> tuple[int, float, str]:
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))
