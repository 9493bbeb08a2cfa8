"""What every screen shares: the frame, the keys, live updates, what is said of an act; and a card beside its table."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import DataTable, Static

from quarterdeck.tui.keymap import EVERYWHERE, SCREENS
from quarterdeck.tui.messages import Console, EntryArrived, LinkChanged, PulseArrived
from quarterdeck.tui.widgets.ask_dialog import AskDialog
from quarterdeck.tui.widgets.card_view import CardView
from quarterdeck.tui.widgets.connection_banner import ConnectionBanner
from quarterdeck.tui.widgets.drawing import safe
from quarterdeck.tui.widgets.frame import CommandLine, KeyLine, TabLine, TopLine
from quarterdeck.tui.widgets.maintenance_banner import MaintenanceBanner
from quarterdeck.tui.widgets.notice_line import NoticeLine
from quarterdeck.wording import placed
from quarterstore.records.base import Pulse
from quarterstore.records.faults import Fault, TimedOut

QUIET = 0.25
"""Seconds between two queries of one screen, however many entries arrive (4 Hz)."""
SMALLEST = (60, 16)
WIDE = 110
"""Columns from which on the card stands beside the table, not below it."""
BROAD = 140
"""Columns from which on the table has more of the width than the card."""


class DeckScreen(Screen[None]):
    """Top line, tabs, banner, command, footer; and the size below which there is only a sentence."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE, "-wide")]
    BINDINGS: ClassVar[list[BindingType]] = [
        *[Binding(key, f"app.go('{name}')", show=False) for key, name in SCREENS],
        Binding("colon", "app.palette", "go to", key_display=":"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("f1", "help", show=False),
        Binding("escape", "back", "back", show=False),
        Binding("r", "refresh_now", "refresh", show=False),
        Binding("z", "pause", "pause", show=False),
        Binding("y", "copy_id", "copy id", show=False),
        Binding("Y", "copy_command", "copy command", show=False),
        Binding("q", "app.quit", "quit"),
    ]
    name_of_screen: ClassVar[str] = ""
    nouns: ClassVar[frozenset[str]] = frozenset()
    """Nouns whose events make this screen query again; none is all of them."""
    pulses: ClassVar[tuple[type[Pulse], ...]] = ()
    """Readings that make it query again."""
    keys: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.paused = False
        self._due: asyncio.TimerHandle | None = None
        self._filling = False

    @property
    def deck_app(self) -> Console:
        """The app, as far as screens need it."""
        return self.app  # type: ignore[return-value]

    def crumbs(self) -> tuple[str, ...]:
        """Where we are."""
        return (self.name_of_screen,)

    def compose(self) -> ComposeResult:
        """The frame, with the body of the screen in it."""
        yield TopLine(self.crumbs())
        yield TabLine(self.name_of_screen)
        yield ConnectionBanner()
        yield MaintenanceBanner()
        yield from self.body()
        yield NoticeLine()
        yield CommandLine()
        yield Static(f"too small: at least {SMALLEST[0]}x{SMALLEST[1]}", id="too-small", markup=False)
        yield KeyLine()

    def body(self) -> ComposeResult:
        """What the screen is about."""
        yield Static("")

    def on_screen_resume(self) -> None:
        """In sight: as fresh as can be."""
        if self.is_left():
            return  # gone through on the way to another: it is being taken down
        self.tell()
        self.query_one(ConnectionBanner).tell(self.deck_app.connected)
        self.load()

    def tell(self) -> None:
        """The lines of the frame, as the app knows them now."""
        self.query_one(TopLine).tell(self.crumbs(), safe(self.deck_app.context_line, 80, "grey62"))
        self.query_one(TabLine).tell(self.deck_app.waiting)
        self.query_one(MaintenanceBanner).tell(self.deck_app.maintenance)
        found = self.subject()
        self.query_one(CommandLine).tell(found[1] if found else "")
        self.query_one(KeyLine).tell(self.shown_keys())

    def bound(self) -> list[Binding]:
        """The keys of this screen, then those of all screens."""
        kinds = [kind for kind in type(self).__mro__ if issubclass(kind, DeckScreen)]
        found = [each for kind in kinds for each in kind.__dict__.get("BINDINGS", ())]
        return [each for each in found if isinstance(each, Binding)]

    def shown_keys(self) -> list[tuple[str, str]]:
        """Keys for the last line, those of this screen first; help and quit are there anyway. One widget draws them: a
        Footer makes one for each, which was a fifth of the time to a new screen."""
        shown = [each for each in self.bound() if each.show and each.key not in ("question_mark", "q")]
        return [(each.key_display or each.key, each.description) for each in shown]

    def notice(self, words: str, severity: str) -> None:
        """Say what came of a key; a screen that is not drawn yet says nothing."""
        for line in self.query(NoticeLine):
            line.tell(words, severity)

    def on_resize(self, event: events.Resize) -> None:
        """Too small for a table: say so instead; large enough for all columns: give them the room."""
        self.set_class(event.size.width >= BROAD, "-broad")
        self.set_class(event.size.width < SMALLEST[0] or event.size.height < SMALLEST[1], "-tiny")

    def on_entry_arrived(self, message: EntryArrived) -> None:
        """Something of ours changed: query again, but not more than four times a second."""
        if not self.nouns or message.nouns & self.nouns:
            self.soon()

    def on_pulse_arrived(self, message: PulseArrived) -> None:
        """A passing reading."""
        if isinstance(message.pulse, self.pulses) and self.concerns(message.pulse):
            self.soon()

    def concerns(self, pulse: Pulse) -> bool:
        """Whether a reading of ours is about what is in sight."""
        return True

    def on_link_changed(self, message: LinkChanged) -> None:
        """The daemon was lost, or is back."""
        if self.is_left():
            return  # it hears of it when it is in sight again
        self.query_one(ConnectionBanner).tell(message.connected)
        if message.connected:
            self.load()

    def soon(self) -> None:
        """Query again in a moment, once, unless paused."""
        if not self.paused and self._due is None:
            self._due = asyncio.get_running_loop().call_later(QUIET, self._load_due)

    def _load_due(self) -> None:
        self._due = None
        if self._filling:  # an answer on its way is not thrown away for the next: a slow query would never be drawn
            self.soon()
        elif self.is_attached and self.is_current:
            self.load()

    @work(exclusive=True, group="load")
    async def load(self) -> None:
        """Query and draw; a fault is a line on the screen, never a crash."""
        self._filling = True
        try:
            with self.unless_left():
                await self.fill()
                self.tell()
            self.call_after_refresh(self.deck_app.trace, "screen_painted", self.name_of_screen)
        except Fault as fault:
            if self.deck_app.connected:
                self.notify(safe(fault.line(), 200).plain, severity="warning", markup=False)
            if isinstance(fault, TimedOut):  # what took too long is not the last word of a screen
                self.soon()
        finally:
            self._filling = False

    def is_left(self) -> bool:
        """Whether it lost its widgets while an answer was on the way."""
        return not (self.is_current and self.app.is_running)

    @contextmanager
    def unless_left(self) -> Iterator[None]:
        """Draw what was waited for: where the screen was left meanwhile, widgets that are no more are no fault."""
        try:
            yield
        except NoMatches:
            if not self.is_left():
                raise

    async def fill(self) -> None:
        """Ask the daemon and update the widgets."""

    async def act(self, message: Any, done: str) -> None:
        """Speak an act and say what came of it."""
        if await self.answered(message) is not None:
            self.notify(safe(done, 300).plain, markup=False)
            self.load()

    async def answered(self, message: Any) -> Any:
        """An answer; `None` when there was a fault, which is then said."""
        try:
            return await self.deck_app.deck.ask(message)
        except Fault as fault:
            self.notify(safe(fault.line(), 300).plain, severity="error", markup=False)
            return None

    async def asked(self, title: str, body: Text, prompt: str, **how: Any) -> str | None:
        """The answer of an `AskDialog`, which `how` is for."""
        return await self.app.push_screen_wait(AskDialog(title, body, prompt, **how))

    def action_refresh_now(self) -> None:
        """Query now."""
        self.load()

    def action_pause(self) -> None:
        """Stop or resume live updates."""
        self.paused = not self.paused
        self.notify("live updates paused; z resumes" if self.paused else "live again")
        if not self.paused:
            self.load()

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
        self._copy(0)

    def action_copy_command(self) -> None:
        """Copy the equivalent command (OSC 52), as it runs in any shell, and show it."""
        self._copy(1)

    def _copy(self, which: int) -> None:
        found = self.subject()
        if found:
            # what is pasted into a shell must be what is seen
            words = safe(found[which], 2000).plain
            if which:
                words = placed(words, self.deck_app.deck.home.root, self.deck_app.deck.caller)
            self.app.copy_to_clipboard(words)
            self.notify(f"copied: {safe(words, 200).plain}", markup=False)


class CardScreen(DeckScreen):
    """A table with the card of the row under the cursor."""

    @work(exclusive=True, group="card")
    async def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """The cursor moved: show what it is on."""
        if event.row_key is None:  # `G` where there is no row: Textual tells of one all the same
            return
        self.call_after_refresh(self.deck_app.trace, "row_painted", str(event.row_key.value))
        if self._filling:
            return  # it does so when it has its rows
        with self.unless_left():
            try:
                self.tell()
                await self.show_card()
            except Fault as fault:
                words = fault.line()
                self.query_one("#card", CardView).show(lambda width, height: safe(words, 400))

    async def show_card(self) -> None:
        """The card of what is under the cursor now."""
