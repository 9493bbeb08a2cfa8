"""What every screen of a noun shares: a filtered, sorted table, a detail beside or behind it, the keys, live
updates."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Input, Static

from quarterdeck.tui.keymap import EVERYWHERE, SCREENS
from quarterdeck.tui.messages import EntryArrived, LinkChanged, PulseArrived
from quarterdeck.tui.widgets.ask_dialog import AskDialog
from quarterdeck.tui.widgets.connection_banner import ConnectionBanner
from quarterdeck.tui.widgets.drawing import heading, safe
from quarterdeck.tui.widgets.record_table import RecordTable, Row
from quarterstore.records.faults import Fault

if TYPE_CHECKING:
    from quarterdeck.tui.app import DeckApp

QUIET = 0.25
"""Seconds between two queries of one screen, however many entries arrive (4 Hz)."""
SMALLEST = (60, 16)


class DeckScreen(Screen[None]):
    """Top line, tabs, banner, footer; and the size below which there is only a sentence."""

    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]] | None] = [(0, "-narrow"), (110, "-wide")]
    BINDINGS: ClassVar[list[BindingType]] = [
        *[Binding(key, f"app.go('{name}')", show=False) for key, name in SCREENS],
        Binding("colon", "app.palette", "go to", key_display=":"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("escape", "back", "back", show=False),
        Binding("r", "refresh_now", "refresh", show=False),
        Binding("z", "pause", "pause", show=False),
        Binding("y", "copy_id", "copy id", show=False),
        Binding("Y", "copy_command", "copy command", show=False),
        Binding("q", "app.quit", "quit"),
    ]
    name_of_screen: ClassVar[str] = ""
    nouns: ClassVar[frozenset[str]] = frozenset()
    keys: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.paused = False
        self._due: asyncio.TimerHandle | None = None

    @property
    def deck_app(self) -> DeckApp:
        """The app, by its own type."""
        return self.app  # type: ignore[return-value]

    def crumbs(self) -> str:
        """Where we are."""
        return self.name_of_screen

    def compose(self) -> ComposeResult:
        """The frame, with the body of the screen in it."""
        with Horizontal(id="top"):
            yield Static(Text(f"◢ quarterdeck › {self.crumbs()}"), id="where")
            yield Static("", id="context", markup=False)
        yield Static(self._tabs(), id="tabs")
        yield ConnectionBanner()
        yield from self.body()
        yield Static(f"too small: at least {SMALLEST[0]}x{SMALLEST[1]}", id="too-small", markup=False)
        yield Footer(show_command_palette=False)

    def body(self) -> ComposeResult:
        """What the screen is about."""
        yield Static("")

    def _tabs(self) -> Text:
        text = Text(no_wrap=True)
        for key, name in SCREENS:
            here = name == self.name_of_screen
            text.append(f"{key} {name}", style="bold reverse" if here else "grey62")
            text.append(" ")
        return text

    def on_mount(self) -> None:
        """Say what is known, then fill in."""
        self.query_one("#context", Static).update(self.deck_app.context_line)
        self.query_one(ConnectionBanner).tell(self.deck_app.connected)
        self.load()

    def on_screen_resume(self) -> None:
        """Back in sight: as fresh as can be."""
        self.query_one("#context", Static).update(self.deck_app.context_line)
        self.query_one(ConnectionBanner).tell(self.deck_app.connected)
        self.load()

    def on_resize(self, event: events.Resize) -> None:
        """Too small for a table: say so instead."""
        self.set_class(event.size.width < SMALLEST[0] or event.size.height < SMALLEST[1], "-tiny")

    def on_entry_arrived(self, message: EntryArrived) -> None:
        """Something of ours changed: query again, but not more than four times a second."""
        if not self.paused and (not self.nouns or message.nouns & self.nouns) and self._due is None:
            self._due = asyncio.get_running_loop().call_later(QUIET, self._load_due)

    def on_pulse_arrived(self, message: PulseArrived) -> None:
        """A passing reading; screens that draw some say so."""

    def on_link_changed(self, message: LinkChanged) -> None:
        """The daemon was lost, or is back."""
        self.query_one(ConnectionBanner).tell(message.connected)
        if message.connected:
            self.load()

    def _load_due(self) -> None:
        self._due = None
        self.load()

    @work(exclusive=True, group="load")
    async def load(self) -> None:
        """Query and draw; a fault is a line on the screen, never a crash."""
        try:
            await self.fill()
            self.deck_app.trace("screen_painted", self.name_of_screen)
        except Fault as fault:
            if self.deck_app.connected:
                self.notify(safe(fault.line(), 200).plain, severity="warning", markup=False)

    async def fill(self) -> None:
        """Ask the daemon and update the widgets."""

    async def act(self, message: Any, done: str) -> None:
        """Speak an act and say what came of it."""
        try:
            await self.deck_app.deck.ask(message)
        except Fault as fault:
            self.notify(safe(fault.line(), 300).plain, severity="error", markup=False)
            return
        self.notify(done, markup=False)
        self.load()

    async def asked(
        self, title: str, body: Text, prompt: str, *, expected: str | None = None, needed: bool = True
    ) -> str | None:
        """A dialog's answer."""
        return await self.app.push_screen_wait(AskDialog(title, body, prompt, expected=expected, needed=needed))

    def action_refresh_now(self) -> None:
        """Query now."""
        self.load()

    def action_pause(self) -> None:
        """Stop or resume live updates."""
        self.paused = not self.paused
        self.notify("live updates paused; z resumes" if self.paused else "live again")

    def action_back(self) -> None:
        """One step back."""
        if len(self.app.screen_stack) > 2:
            self.app.pop_screen()

    def action_help(self) -> None:
        """The keys of this screen, then those of all."""
        from quarterdeck.tui.screens.help import HelpDialog

        self.app.push_screen(HelpDialog(self.name_of_screen, (*self.keys, *EVERYWHERE)))

    def subject(self) -> tuple[str, str] | None:
        """The id under the cursor and the equivalent command."""
        return None

    def action_copy_id(self) -> None:
        """Copy the id (OSC 52)."""
        found = self.subject()
        if found:
            self.app.copy_to_clipboard(found[0])
            self.notify(f"copied {safe(found[0], 80).plain}", markup=False)

    def action_copy_command(self) -> None:
        """Copy the equivalent command (OSC 52), and show it."""
        found = self.subject()
        if found:
            self.app.copy_to_clipboard(found[1])
            self.notify(f"copied: {safe(found[1], 200).plain}", markup=False)


class NounScreen(DeckScreen):
    """A table of records; the detail is beside it when there is room, behind enter when not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("s", "sort(1)", "sort", show=False),
        Binding("S", "sort(-1)", "sort the other way", show=False),
    ]
    AUTO_FOCUS = "RecordTable"
    columns: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.sorted_by = -1
        self.descending = False
        self.records: dict[str, Any] = {}

    def body(self) -> ComposeResult:
        """Filter, table, detail."""
        yield Input(placeholder="filter", id="filter")
        with Horizontal(id="body"):
            yield RecordTable(self.columns)
            with VerticalScroll(id="detail"):
                yield Static(Text("…", style="grey62"), id="detail-text")

    async def fetch(self) -> Sequence[tuple[str, Any]]:
        """The records, by key."""
        return ()

    def cells(self, record: Any) -> tuple[Text | str, ...]:
        """A record as the cells of its row."""
        return ()

    async def detail(self, record: Any) -> Text:
        """A record in full."""
        return Text()

    async def fill(self) -> None:
        """Query, filter, sort, draw; then the detail of what is under the cursor."""
        found = dict(await self.fetch())
        self.records = found
        rows = [Row(key, self.cells(record)) for key, record in found.items()]
        self.query_one(RecordTable).show(self._sorted(self._filtered(rows)))
        await self._show_detail()

    def _filtered(self, rows: list[Row]) -> list[Row]:
        if not self.text:
            return rows
        wanted = self.text.lower()
        return [row for row in rows if any(wanted in str(cell).lower() for cell in (row.key, *row.cells))]

    def _sorted(self, rows: list[Row]) -> list[Row]:
        if self.sorted_by < 0:
            return rows
        return sorted(rows, key=lambda row: _rank(str(row.cells[self.sorted_by])), reverse=self.descending)

    def selected(self) -> Any:
        """The record under the cursor."""
        key = self.query_one(RecordTable).selected()
        return self.records.get(key) if key is not None else None

    async def _show_detail(self) -> None:
        record = self.selected()
        text = await self.detail(record) if record is not None else Text("nothing here yet", style="grey62")
        self.query_one("#detail-text", Static).update(text)

    @work(exclusive=True, group="detail")
    async def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """The cursor moved: show what it is on."""
        try:
            await self._show_detail()
        except Fault as fault:
            self.query_one("#detail-text", Static).update(safe(fault.line()))

    async def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter: the detail with the whole screen to itself."""
        record = self.selected()
        if record is not None:
            self.open(record)

    def open(self, record: Any) -> None:
        """Drill into a record."""
        found = self.subject()
        from quarterdeck.tui.screens.detail import DetailScreen

        self.app.push_screen(DetailScreen(self, record, found or ("", "")))

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
        """Clear the filter first, then go back."""
        box = self.query_one("#filter", Input)
        if box.has_class("shown"):
            box.value = ""
            box.remove_class("shown")
            self.query_one(RecordTable).focus()
        else:
            super().action_back()

    def action_sort(self, direction: int) -> None:
        """Sort by the next column, or the other way round."""
        if direction < 0:
            self.descending = not self.descending
        else:
            self.sorted_by = (self.sorted_by + 2) % (len(self.columns) + 1) - 1
        named = self.columns[self.sorted_by] if self.sorted_by >= 0 else "as they come"
        self.notify(f"sorted by {named}{', descending' if self.descending else ''}", timeout=2)
        self.load()


def _rank(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text.split()[0]), text)
    except (ValueError, IndexError):
        return (1, 0.0, text)


def section(title: str, text: Text) -> Text:
    """A heading and what is under it."""
    found = heading(title)
    found.append_text(text)
    return found
