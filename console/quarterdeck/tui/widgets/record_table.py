"""A table of at most 200 records: rows are kept by key, changed in place, and the cursor stays where it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

WINDOW = 200


class Row(NamedTuple):
    """A record as it is drawn: its key, its cells."""

    key: str
    cells: tuple[Text | str, ...]


class RecordTable(DataTable[Text | str]):
    """A DataTable with vim's keys, marks, and an update that touches only what changed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("g", "scroll_top", show=False),
        Binding("G", "scroll_bottom", show=False),
        Binding("ctrl+d", "page_down", show=False),
        Binding("ctrl+u", "page_up", show=False),
    ]

    def __init__(self, columns: Sequence[str], id: str | None = None) -> None:
        super().__init__(cursor_type="row", zebra_stripes=True, id=id)
        self._names = tuple(columns)
        self._drawn: dict[str, tuple[Text | str, ...]] = {}
        self.marked: set[str] = set()

    def on_mount(self) -> None:
        """Make the columns."""
        for name in ("", *self._names):
            self.add_column(name, key=name or "mark")

    def show(self, rows: Sequence[Row]) -> None:
        """Draw these rows; only what differs from before is touched unless the order did."""
        rows = rows[:WINDOW]
        keys = [row.key for row in rows]
        self.marked &= set(keys)
        if keys == list(self._drawn):
            self._patch(rows)
        else:
            self._replace(rows)
        self._drawn = {row.key: row.cells for row in rows}

    def _patch(self, rows: Sequence[Row]) -> None:
        for row in rows:
            before = self._drawn[row.key]
            for name, old, new in zip(self._names, before, row.cells, strict=True):
                if old != new:
                    self.update_cell(row.key, name, new, update_width=True)

    def _replace(self, rows: Sequence[Row]) -> None:
        here = self.selected()
        self.clear()
        for row in rows:
            self.add_row("●" if row.key in self.marked else " ", *row.cells, key=row.key)
        keys = [row.key for row in rows]
        if here in keys:
            self.move_cursor(row=keys.index(here), animate=False)

    def selected(self) -> str | None:
        """The key under the cursor."""
        if not self._drawn or not 0 <= self.cursor_row < len(self._drawn):
            return None
        return list(self._drawn)[self.cursor_row]

    def mark(self) -> None:
        """Mark or unmark the row under the cursor."""
        key = self.selected()
        if key is None:
            return
        self.marked ^= {key}
        self.update_cell(key, "mark", "●" if key in self.marked else " ")
