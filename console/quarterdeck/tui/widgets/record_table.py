"""A table of at most 200 records that fits its width: rows are patched in place, the cursor stays on its record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable
from textual.widgets.data_table import RowKey

from quarterdeck.tui.widgets.drawing import fit

WINDOW = 200
"""Rows of one page; adding 10,000 to a DataTable takes 0.2 s and settles after 1.4 s."""


class Column(NamedTuple):
    """A column: `width` is its least; `flex` shares what is left over; when narrow the largest `drop` goes first."""

    title: str
    width: int
    flex: int = 0
    drop: int = 0
    right: bool = False
    sort: str | None = None
    """What the daemon calls it, where the daemon sorts."""
    value: Callable[[Any], float | None] | None = None
    """What a record is sorted by here, where the words that are drawn ("3 min ago", "1.2 MB") do not sort."""


class Row(NamedTuple):
    """A record as it is drawn: its key, a cell for every column."""

    key: str
    cells: tuple[Text, ...]


def fitted(columns: Sequence[Column], room: int, longest: Mapping[int, int] | None = None) -> dict[int, int]:
    """Index -> width of the columns that fit in `room` cells, each with a cell of air on both sides. With the `longest`
    cell of each, columns that share what is left lend what they do not need to those whose words are cut."""
    kept = list(range(len(columns)))
    while len(kept) > 1 and sum(columns[index].width + 2 for index in kept) > room:
        kept.remove(max(kept, key=lambda index: (columns[index].drop, index)))
    widths = {index: columns[index].width for index in kept}
    spare = room - sum(width + 2 for width in widths.values())
    if longest is not None:
        spare = _lent(columns, widths, longest, spare)
    shares = sum(columns[index].flex for index in kept)
    for index in kept:
        if columns[index].flex and spare > 0:
            widths[index] += spare * columns[index].flex // shares
    return widths


def _lent(columns: Sequence[Column], widths: dict[int, int], longest: Mapping[int, int], spare: int) -> int:
    """Give columns of words what they lack, the one that lacks least first, of what is left and what others do not
    need; answers what is left then."""
    sharing = [index for index in widths if columns[index].flex]
    for index in sharing:
        unneeded = max(0, widths[index] - max(longest.get(index, 0), len(columns[index].title)))
        widths[index] -= unneeded
        spare += unneeded
    for index in sorted(sharing, key=lambda index: longest.get(index, 0) - widths[index]):
        lacking = min(max(0, longest.get(index, 0) - widths[index]), max(0, spare))
        widths[index] += lacking
        spare -= lacking
    return spare


class RecordTable(DataTable[Text]):
    """A DataTable with vim's keys, marks, and an update that touches only what changed."""

    class Left(Message):
        """The cursor was sent beyond an edge: `rows` is 1 below the last row, -1 above the first, `columns` likewise;
        `end` asks for the very last row or the very first."""

        def __init__(self, rows: int = 0, columns: int = 0, end: bool = False) -> None:
            super().__init__()
            self.rows = rows
            self.columns = columns
            self.end = end

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("g", "scroll_top", show=False),
        Binding("G", "scroll_bottom", show=False),
        Binding("ctrl+d", "page_down", show=False),
        Binding("ctrl+u", "page_up", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(cursor_type="row", zebra_stripes=True)
        self.marked: set[str] = set()
        self.further: set[int] = set()
        """On which sides there are more rows than these: 1 below, -1 above. Their end is not reached by way of ours."""
        self._columns: tuple[Column, ...] = ()
        self._titles: tuple[str, ...] = ()
        self._rows: list[Row] = []
        self._keys: list[str] = []
        self._marks = False
        self._widths: dict[int, int] = {}
        self._longest: dict[int, int] = {}
        """Column -> its longest cell so far: it only grows, so that columns do not move to and fro."""

    def on_resize(self, event: events.Resize) -> None:
        """Another width: other columns fit."""
        if self._columns:
            self._lay_out()

    def show(
        self,
        columns: Sequence[Column],
        titles: Sequence[str],
        rows: Sequence[Row],
        *,
        marks: bool,
        cursor: str | None = None,
    ) -> None:
        """Draw these rows; only what differs from before is touched unless the order did. `cursor` is gone to."""
        rows = rows[:WINDOW]
        keys = [row.key for row in rows]
        here = cursor or self.selected()
        anew = (tuple(columns), tuple(titles), marks) != (self._columns, self._titles, self._marks)
        before, self._rows = self._rows, list(rows)
        longer = self._measure(titles, tuple(columns) != self._columns)
        self._columns, self._titles, self._marks = tuple(columns), tuple(titles), marks
        if anew or (longer and fitted(self._columns, self._room(), self._longest) != self._widths):
            self._keys = keys
            self._lay_out(force=True, here=here)
        elif keys == self._keys:
            self._patch(before)
        else:
            self._keys = keys
            self._fill(here)

    def _measure(self, titles: Sequence[str], anew: bool) -> bool:
        """Take note of the longest cell of each column, its title too; whether one was longer than any before."""
        before = {} if anew else self._longest
        found = {index: max(len(title), before.get(index, 0)) for index, title in enumerate(titles)}
        for row in self._rows:
            for index, cell in enumerate(row.cells):
                found[index] = max(found[index], cell.cell_len)
        self._longest = found
        return found != before

    def _room(self) -> int:
        return max(20, self.size.width - 1 - (3 if self._marks else 0))

    def _lay_out(self, force: bool = False, here: str | None = None) -> None:
        widths = fitted(self._columns, self._room(), self._longest)
        if widths == self._widths and not force:
            return
        here = here or self.selected()
        self._widths = widths
        self.clear(columns=True)
        if self._marks:
            self.add_column(Text(" "), width=1, key="mark")
        for index, width in widths.items():
            self.add_column(self._set(Text(self._titles[index], no_wrap=True), index), width=width, key=str(index))
        self._fill(here)

    def _fill(self, here: str | None) -> None:
        """Every row anew; the cursor goes to its record, else stays at its place; what is in sight stays unless the
        cursor would be out of it."""
        place = self.cursor_row
        top = round(self.scroll_y)
        self.clear()
        for row in self._rows:
            cells = [self._cell(row, index) for index in self._widths]
            self.add_row(*([self._mark_of(row.key)] if self._marks else []), *cells, key=row.key)
        place = self._keys.index(here) if here in self._keys else min(place, len(self._keys) - 1)
        if place > 0:
            seen = max(1, self.scrollable_content_region.height - self.header_height)
            self.move_cursor(row=place, animate=False)
            self.scroll_to(y=min(place, max(top, place - seen + 1)), animate=False, immediate=True)

    def _patch(self, before: Sequence[Row]) -> None:
        for old, new in zip(before, self._rows, strict=True):
            for index in self._widths:
                if old.cells[index] != new.cells[index]:
                    self.update_cell(new.key, str(index), self._cell(new, index))

    def _cell(self, row: Row, index: int) -> Text:
        return self._set(row.cells[index], index)

    def _set(self, text: Text, index: int) -> Text:
        """In the width of its column; figures at its right, which a DataTable does not do."""
        text = fit(text, self._widths[index])
        if self._columns[index].right:
            text.pad_left(self._widths[index] - text.cell_len)
        return text

    def _update_dimensions(self, new_rows: Iterable[RowKey]) -> None:
        """No cell is measured: widths are given, rows are one line high. A tenth of a second for 200 rows."""
        super()._update_dimensions(())

    def selected(self) -> str | None:
        """The key under the cursor."""
        return self._keys[self.cursor_row] if 0 <= self.cursor_row < len(self._keys) else None

    @property
    def visible_columns(self) -> tuple[int, ...]:
        """Indices of the columns that there is room for."""
        return tuple(self._widths)

    def action_cursor_down(self) -> None:
        """Down; beyond the last row it is the screen's to say what comes."""
        self._step(1, super().action_cursor_down)

    def action_cursor_up(self) -> None:
        """Up, likewise."""
        self._step(-1, super().action_cursor_up)

    def action_page_down(self) -> None:
        """A page down, likewise."""
        self._step(1, super().action_page_down)

    def action_page_up(self) -> None:
        """A page up, likewise."""
        self._step(-1, super().action_page_up)

    def action_scroll_bottom(self) -> None:
        """To the last row of all."""
        if 1 in self.further:
            self.post_message(self.Left(rows=1, end=True))
        else:
            super().action_scroll_bottom()

    def action_scroll_top(self) -> None:
        """To the first row, likewise."""
        if -1 in self.further:
            self.post_message(self.Left(rows=-1, end=True))
        else:
            super().action_scroll_top()

    def action_cursor_left(self) -> None:
        """Rows are chosen, not cells: columns beyond the edge are the screen's to show."""
        self.post_message(self.Left(columns=-1))

    def action_cursor_right(self) -> None:
        """Likewise."""
        self.post_message(self.Left(columns=1))

    def _step(self, rows: int, move: Callable[[], None]) -> None:
        edge = len(self._keys) - 1 if rows > 0 else 0
        if self.cursor_row == edge:
            self.post_message(self.Left(rows=rows))
        else:
            move()

    def _mark_of(self, key: str) -> Text:
        return Text("◆", style="bold yellow") if key in self.marked else Text(" ")

    def mark(self) -> None:
        """Mark or unmark the row under the cursor, and go on to the next."""
        key = self.selected()
        if key is None or not self._marks:
            return
        self.marked ^= {key}
        self.update_cell(key, "mark", self._mark_of(key))
        self.action_cursor_down()

    def mark_all(self) -> None:
        """Mark every row of the window; marks of other rows stay."""
        for key in self._keys:
            if self._marks and key not in self.marked:
                self.marked.add(key)
                self.update_cell(key, "mark", self._mark_of(key))

    def unmark(self) -> None:
        """Forget every mark."""
        marked, self.marked = self.marked, set()
        for key in marked & set(self._keys):
            self.update_cell(key, "mark", self._mark_of(key))
