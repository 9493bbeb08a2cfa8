"""What the screen of a noun is: a filtered and sorted table, and the card of the row under the cursor."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import DataTable, Input

from quarterdeck.tui.screens.base import CardScreen
from quarterdeck.tui.widgets.card_view import CardView, Drawing
from quarterdeck.tui.widgets.drawing import safe
from quarterdeck.tui.widgets.record_table import WINDOW, Column, RecordTable, Row


class NounScreen(CardScreen):
    """A table of records with the card of one of them beside it, or below it where it is narrow."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("s", "sort(1)", "sort", show=False),
        Binding("S", "sort(-1)", "sort the other way", show=False),
    ]
    AUTO_FOCUS = "RecordTable"
    columns: tuple[Column, ...] = ()
    marks: ClassVar[bool] = False
    empty: ClassVar[str] = "nothing here yet"
    """What an empty screen says: how to get a first record."""
    _card_key: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.sorted_by = -1
        self.descending = False
        self.records: dict[str, Any] = {}

    def body(self) -> ComposeResult:
        """Filter, table, card."""
        yield Input(placeholder="filter: a row must contain this; enter keeps it, esc clears it", id="filter")
        with Container(id="body"):
            yield RecordTable()
            yield CardView(focus=False, id="card")

    async def fetch(self) -> Sequence[tuple[str, Any]]:
        """The records, by key."""
        return ()

    def cells(self, record: Any, now: float) -> tuple[Text, ...]:
        """A record as the cells of its row."""
        return ()

    async def card(self, record: Any, now: float) -> Drawing:
        """A record in full, to be drawn for a width."""
        return lambda width, height: Text()

    async def fill(self) -> None:
        """Query, filter, sort, draw; then the card of what is under the cursor."""
        self.records = dict(await self.fetch())
        now = time.time()
        rows = [Row(key, self.cells(record, now)) for key, record in self.records.items()]
        self.query_one(RecordTable).show(
            self.columns, self._titles(), self._sorted(self._filtered(rows))[:WINDOW], marks=self.marks
        )
        await self.show_card()
        if self.query_one(RecordTable).selected() != self._card_key:  # the cursor went on while the card was asked for
            await self.show_card()

    def _titles(self) -> tuple[str, ...]:
        arrow = "▼" if self.descending else "▲"
        return tuple(
            f"{column.title} {arrow}" if index == self.sorted_by else column.title
            for index, column in enumerate(self.columns)
        )

    def _filtered(self, rows: list[Row]) -> list[Row]:
        if not self.text:
            return rows
        wanted = self.text.lower()
        return [row for row in rows if any(wanted in str(cell).lower() for cell in (row.key, *row.cells))]

    def _sorted(self, rows: list[Row]) -> list[Row]:
        if self.sorted_by < 0:
            return rows
        value = self.columns[self.sorted_by].value

        def rank(row: Row) -> tuple[int, float, str]:
            if value is None:
                return _rank(row.cells[self.sorted_by].plain)
            found = value(self.records[row.key])
            return (1, 0.0, "") if found is None else (0, found, "")

        return sorted(rows, key=rank, reverse=self.descending)

    def selected(self) -> Any:
        """The record under the cursor."""
        key = self.query_one(RecordTable).selected()
        return self.records.get(key) if key is not None else None

    async def show_card(self) -> None:
        """The card of the record under the cursor; what to do, where there is none."""
        record = self.selected()
        view = self.query_one("#card", CardView)
        if record is None:
            words = f"no row has {self.text!r} in it; esc clears the filter" if self.text else self.empty
            view.show(lambda width, height: safe_block(words))
            self._card_key = None
            return
        key = self.query_one(RecordTable).selected()
        view.show(await self.card(record, time.time()))
        if key != self._card_key:
            view.scroll_home(animate=False)
        self._card_key = key

    async def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter: the card with the whole screen to itself."""
        record = self.selected()
        if record is not None:
            self.open(record)

    def open(self, record: Any) -> None:
        """Drill into a record."""
        key = self.query_one(RecordTable).selected()
        self.deck_app.open_card(self, key or "", record, self.subject() or ("", ""))

    def action_filter(self) -> None:
        """Type what a row must contain."""
        box = self.query_one("#filter", Input)
        box.add_class("shown")
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as it is typed."""
        self.text = event.value
        self.load()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the table, filtered."""
        self.query_one(RecordTable).focus()

    def action_back(self) -> None:
        """Clear the filter first, then the marks, then go back."""
        box = self.query_one("#filter", Input)
        table = self.query_one(RecordTable)
        if box.has_class("shown"):
            box.value = ""
            box.remove_class("shown")
            table.focus()
        elif table.marked:
            table.unmark()
        else:
            super().action_back()

    def action_sort(self, direction: int) -> None:
        """Sort by the next column, or the other way round."""
        if direction < 0:
            self.descending = not self.descending
        else:
            self.sorted_by = (self.sorted_by + 2) % (len(self.columns) + 1) - 1
        self.load()


def _rank(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text.split()[0].replace(",", "")), text)
    except (ValueError, IndexError):
        return (1, 0.0, text)


def safe_block(words: str) -> Text:
    """Our own words with a filter's text in them, a line each, cleaned."""
    text = Text()
    for line in words.split("\n"):
        text.append_text(safe(line, 200, "grey62"))
        text.append("\n")
    return text
