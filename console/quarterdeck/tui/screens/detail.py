"""One record with the whole screen to itself, kept live by the screen it came from."""

from __future__ import annotations

import time
from typing import Any

from textual import events
from textual.app import ComposeResult

from quarterdeck.tui.screens.base import DeckScreen
from quarterdeck.tui.screens.noun import NounScreen
from quarterdeck.tui.widgets.card_view import CardView
from quarterstore.records.base import Pulse

SHARED = (*DeckScreen.BINDINGS, *NounScreen.BINDINGS)
"""Keys that are not of one noun."""


class DetailScreen(DeckScreen):
    """The card of `record` as its noun's screen draws it; keys of that noun do here what they do there."""

    AUTO_FOCUS = "CardView"

    def __init__(self, origin: NounScreen, key: str, record: Any, subject: tuple[str, str]) -> None:
        super().__init__()
        self.origin = origin
        self._key = key
        self._record = record
        self._subject = subject
        self.name_of_screen = origin.name_of_screen  # type: ignore[misc]
        self.nouns = origin.nouns  # type: ignore[misc]
        self.pulses = origin.pulses  # type: ignore[misc]
        self.keys = origin.keys  # type: ignore[misc]

    def crumbs(self) -> tuple[str, ...]:
        """The noun, then the record."""
        return (self.origin.name_of_screen, self._subject[0])

    def body(self) -> ComposeResult:
        """One card, scrolled."""
        yield CardView(focus=True, id="full")

    def concerns(self, pulse: Pulse) -> bool:
        """What concerns the row it was opened from."""
        return self.origin.concerns(pulse)

    async def fill(self) -> None:
        """The record anew, if it is still listed, and its card."""
        found = dict(await self.origin.fetch())
        self._record = found.get(self._key, self._record)
        self.query_one(CardView).show(await self.origin.card(self._record, time.time()))

    def shown_keys(self) -> list[tuple[str, str]]:
        """Those of the noun; its table is not here to be filtered."""
        kept = [each for each in self.origin.shown_keys() if each[0] != "/"]
        return [("esc", "back"), *kept]

    def subject(self) -> tuple[str, str] | None:
        """The record's own."""
        return self._subject

    async def on_key(self, event: events.Key) -> None:
        """A key of the noun: its screen acts on the row that this card is of."""
        for each in self.origin.bound():
            if each.key == event.key and each not in SHARED:
                event.stop()
                await self.origin.run_action(each.action)
                self.load()
