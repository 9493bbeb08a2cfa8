"""The console's app: one deck, one screen a noun, the feed told to whichever screen is in sight."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
from textual import events, work
from textual.app import App
from textual.filter import Monochrome
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.theme import Theme
from textual.widgets import Input

from quarterdeck.tui.kept import Kept, state_file
from quarterdeck.tui.keymap import SCREENS
from quarterdeck.tui.messages import Deck, EntryArrived, LinkChanged, PulseArrived
from quarterdeck.tui.screens.base import DeckScreen
from quarterdeck.tui.snapshot import Snapshot, fold
from quarterdeck.tui.widgets.colourless import Colourless
from quarterdeck.tui.widgets.go_dialog import GoDialog
from quarterstore.records.base import Pulse, tag_of
from quarterstore.records.faults import Fault
from quarterstore.records.governance import ListApprovals
from quarterstore.records.hooks import ListDeliveries
from quarterstore.records.monitoring import ListAlerts
from quarterstore.records.names import drawn
from quarterstore.records.people import WhoAmI
from quarterstore.records.pipelines import ListPipelineRuns, PipelineAsked, PipelineEnded, PipelineResumed
from quarterstore.records.places import Home
from quarterstore.records.schedules import Maintenance, MaintenanceBegan, MaintenanceEnded, ShowMaintenance

COUNTED = {tag_of(each) for each in (MaintenanceBegan, MaintenanceEnded, PipelineAsked, PipelineResumed, PipelineEnded)}
"""Events after which what waits is counted anew, beside those of whole nouns."""
DECK = Theme(
    name="deck",
    primary="#4ea1d3",
    secondary="#7a8b99",
    accent="#e0a458",
    success="#6fbf73",
    warning="#e0a458",
    error="#d1605e",
    background="#0f1519",
    surface="#151d23",
    panel="#22303a",
    dark=True,
)
CONTRAST = Theme(
    name="contrast",
    primary="#ffffff",
    accent="#ffff00",
    error="#ff8800",
    background="#000000",
    surface="#000000",
    panel="#444444",
    dark=True,
)


class DeckApp(App[int]):
    """Opens on the bridge; nothing here knows a noun beyond its name."""

    CSS_PATH = "deck.tcss"
    TITLE = "quarterdeck"
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, deck: Deck, home: str, started: float | None = None, kept: Kept | None = None) -> None:
        super().__init__()
        self.animation_level = "none"
        if self.no_color:
            self._filters = [Colourless() if isinstance(each, Monochrome) else each for each in self._filters]
        self.deck = deck
        self.connected = True
        self.snapshot = Snapshot()
        self.home = home
        self.context_line = drawn(home)
        self.waiting: dict[str, int] = {}
        self.maintenance: Maintenance | None = None
        self.kept = kept or Kept()
        self._trace = os.environ.get("QUARTERDECK_TRACE")
        self._made: dict[str, Any] = {}
        self.trace("start", "process", started)

    def on_mount(self) -> None:
        """The bridge first, then the feed."""
        self.register_theme(DECK)
        self.register_theme(CONTRAST)
        self.theme = "contrast" if os.environ.get("QUARTERDECK_THEME") == "contrast" else "deck"
        self.deck.on_state(self._link)
        self.action_go(SCREENS[0][1])
        self.call_after_refresh(self.trace, "first_paint", "bridge")
        self._introduce()
        self._count()
        self._listen()
        self._get_ready()

    def action_go(self, name: str) -> None:
        """Go to a screen by its name; it is made when it is first gone to."""
        self.trace("key", name)
        if name not in self._made:
            module = importlib.import_module(f"quarterdeck.tui.screens.{name}")
            self._made[name] = getattr(module, f"{name.capitalize()}Screen")
            self.install_screen(self._made[name](), name)
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.push_screen(name)

    async def action_palette(self) -> None:
        """`:`; returns when it is there to be typed into."""
        screen = self.screen
        if not isinstance(screen, DeckScreen):
            return
        places = {name: (key, f"app.go('{name}')") for key, name in SCREENS}
        for each in screen.bound():
            if each.description and each.key != "colon":
                places.setdefault(each.description, (each.key_display or each.key, each.action))

        async def chosen(name: str | None) -> None:
            if name is not None:
                await screen.run_action(places[name][1])

        await self.push_screen(GoDialog({name: key for name, (key, _) in places.items()}), chosen)

    @work
    async def _introduce(self) -> None:
        try:
            caller = await self.deck.ask(WhoAmI())
        except Fault:
            return
        self.context_line = drawn(f"{caller.person} · {caller.profile} · {self.home}", longest=60)
        self._tell()

    @work
    async def _get_ready(self) -> None:
        """Read the other screens' code while nobody presses a key: the first visit then takes no longer than others."""
        for _, name in SCREENS:
            await asyncio.sleep(0.1)
            importlib.import_module(f"quarterdeck.tui.screens.{name}")
        importlib.import_module("quarterdeck.tui.screens.detail")

    @work(exclusive=True, group="count")
    async def _count(self) -> None:
        """What waits behind the tabs, and whether maintenance is on."""
        try:
            alerts, approvals = await self.deck.ask(ListAlerts()), await self.deck.ask(ListApprovals())
            dead = await self.deck.ask(ListDeliveries(state="FAILED", limit=1000))
            flows = await self.deck.ask(ListPipelineRuns())
            self.maintenance = await self.deck.ask(ShowMaintenance())
        except Fault:
            return  # the screen in sight asks too and says it
        self.waiting = {"monitoring": len(alerts), "governance": len(approvals), "hooks": len(dead)}
        self.waiting["pipelines"] = sum(each.state == "WAITING" for each in flows)
        self._tell()

    def _tell(self) -> None:
        for screen in self.screen_stack:
            # one that was gone to just now has no widgets yet, and tells by itself once it has
            if isinstance(screen, DeckScreen) and screen.is_mounted and not screen.is_left():
                screen.tell()

    @work(exclusive=True, group="feed")
    async def _listen(self) -> None:
        async for item in self.deck.follow():
            if isinstance(item, Pulse):
                self.snapshot = fold(self.snapshot, item)
                self._pass(PulseArrived(item))
            else:
                tags = [str(event.get("type")) for event in msgspec.msgpack.decode(item.events)]
                nouns = frozenset(tag.partition(".")[0] for tag in tags)
                self._pass(EntryArrived(item.seq, nouns))
                if nouns & {"monitoring", "governance", "hooks"} or COUNTED & set(tags):
                    self._count()

    def _link(self, connected: bool) -> None:
        self.connected = connected
        if connected:
            self._introduce()  # it may have been started under another profile
            self._count()
        self._pass(LinkChanged(connected))

    def _pass(self, message: Message) -> None:
        """To the screen in sight; there is none while the console is being closed."""
        if self.screen_stack:
            self.screen_stack[-1].post_message(message)

    def open_card(self, origin: Any, key: str, record: Any, subject: tuple[str, str]) -> None:
        """One record of a screen with the whole terminal to itself."""
        from quarterdeck.tui.screens.detail import DetailScreen

        self.push_screen(DetailScreen(origin, key, record, subject))

    async def on_event(self, event: events.Event) -> None:
        """For the benchmarks: when a key came in, before anything is done about it. `:` is answered here, so that the
        keys behind it are typed into the palette, not at the screen that is left."""
        if isinstance(event, events.InputEvent) and not self.screen_stack:
            return  # pressed while the console is being closed
        if isinstance(event, events.Key) and event.is_forwarded and not self.screen.is_mounted:
            # it comes back from a screen that was left; the new one answers it once it has widgets
            self.screen._forward_event(events.Key(event.key, event.character))
            return
        if isinstance(event, events.Key) and not event.is_forwarded:
            self.trace("press", event.key)
            if event.key == "colon" and isinstance(self.screen, DeckScreen) and not isinstance(self.focused, Input):
                await self.action_palette()
                return
        await super().on_event(event)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        """On a line of the screens that lie here, not on a toast above them: that covered the last rows."""
        for screen in self.screen_stack:
            if isinstance(screen, DeckScreen):
                screen.notice(message, severity)

    def trace(self, what: str, which: str, at: float | None = None) -> None:
        """A line for the benchmarks, when `QUARTERDECK_TRACE` names a file."""
        if self._trace:
            with Path(self._trace).open("a") as file:
                file.write(json.dumps({"what": what, "which": which, "at": at or time.time()}) + "\n")

    async def on_unmount(self) -> None:
        """Let go of the sockets."""
        await self.deck.close()


def _born() -> float:
    """When this process was started, in seconds of the epoch: reading the code is part of the wait."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return time.time()
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


def open_console(home: Home, caller: str) -> int:
    """Run the console on a daemon; says how to start one when there is none."""
    from quarterdeck.async_client import AsyncClient

    started = _born()

    async def run() -> int:
        app = DeckApp(AsyncClient(home, caller), str(home.root), started, Kept(state_file(home)))
        return await app.run_async(mouse=os.environ.get("QUARTERDECK_MOUSE", "1") != "0") or 0

    if not home.ask_socket.exists():
        from quarterdeck.transport import unreachable

        raise unreachable(home)
    return asyncio.run(run())
