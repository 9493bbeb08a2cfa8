"""One record with the whole screen to itself, kept live by the screen it came from."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from quarterdeck.tui.screens.base import DeckScreen, NounScreen
from quarterdeck.tui.widgets.drawing import safe


class DetailScreen(DeckScreen):
    """The detail of `record` as its noun's screen draws it; keys of that noun go on to it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", show=False),
        Binding("k,up", "scroll_up", show=False),
    ]

    def __init__(self, origin: NounScreen, record: Any, subject: tuple[str, str]) -> None:
        super().__init__()
        self._origin = origin
        self._record = record
        self._subject = subject
        self.name_of_screen = origin.name_of_screen  # type: ignore[misc]
        self.nouns = origin.nouns  # type: ignore[misc]

    def crumbs(self) -> str:
        """The noun, then the record."""
        return f"{self._origin.name_of_screen} › {safe(self._subject[0], 40).plain}"

    def body(self) -> ComposeResult:
        """One text, scrolled."""
        with VerticalScroll(id="full"):
            yield Static(Text("…", style="grey62"), id="full-text")

    async def fill(self) -> None:
        """The record anew, if it is still listed, and its detail."""
        found = dict(await self._origin.fetch())
        self._record = found.get(self._subject[0], self._record)
        text = await self._origin.detail(self._record)
        text.append("\n")
        text.append_text(Text(f"the same by command:  {safe(self._subject[1]).plain}\n", style="grey62"))
        self.query_one("#full-text", Static).update(text)

    def subject(self) -> tuple[str, str] | None:
        """The record's own."""
        return self._subject

    def action_scroll_down(self) -> None:
        """A line down."""
        self.query_one("#full", VerticalScroll).scroll_down(animate=False)

    def action_scroll_up(self) -> None:
        """A line up."""
        self.query_one("#full", VerticalScroll).scroll_up(animate=False)
