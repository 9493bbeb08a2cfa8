"""What the console hears, and the one way it speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from textual.message import Message

from quarterdeck.tui.kept import Kept
from quarterdeck.tui.snapshot import Snapshot
from quarterstore.records.base import Pulse
from quarterstore.records.places import Home
from quarterstore.records.schedules import Maintenance
from quarterstore.records.wire import Published


class Deck(Protocol):
    """The daemon as the console needs it; `quarterdeck.async_client.AsyncClient` is one."""

    home: Home
    caller: str

    async def ask(self, message: Any) -> Any:
        """The answer to a message; raises its fault."""

    def follow(self) -> AsyncIterator[Published | Pulse]:
        """Kept entries without a gap, and pulses."""

    def on_state(self, callback: Callable[[bool], None]) -> None:
        """Call with False when the daemon is lost, with True when it is back."""

    async def close(self) -> None:
        """Let go of the sockets."""


class Console(Protocol):
    """The app as its screens need it; `tui.app.DeckApp` is the one there is."""

    deck: Deck
    connected: bool
    context_line: str
    snapshot: Snapshot
    waiting: dict[str, int]
    maintenance: Maintenance | None
    kept: Kept

    def trace(self, what: str, which: str, at: float | None = None) -> None:
        """A line for the benchmarks, when they ask for it."""

    def open_card(self, origin: Any, key: str, record: Any, subject: tuple[str, str]) -> None:
        """One record of a screen with the whole terminal to itself."""


class EntryArrived(Message):
    """A journal entry was published; `nouns` are those its events speak of."""

    def __init__(self, seq: int, nouns: frozenset[str]) -> None:
        super().__init__()
        self.seq = seq
        self.nouns = nouns


class PulseArrived(Message):
    """A passing reading came in."""

    def __init__(self, pulse: Pulse) -> None:
        super().__init__()
        self.pulse = pulse


class LinkChanged(Message):
    """The daemon was lost, or is back."""

    def __init__(self, connected: bool) -> None:
        super().__init__()
        self.connected = connected
