"""One record in full, scrolled; drawn anew for the width it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from quarterdeck.tui.widgets.drawing import muted

Drawing = Callable[[int, int], Text]
"""Width and height in cells -> the text of a card."""


class CardView(VerticalScroll):
    """Holds how to draw, not what was drawn."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
        Binding("g", "scroll_home", show=False),
        Binding("G", "scroll_end", show=False),
        Binding("ctrl+d", "page_down", show=False),
        Binding("ctrl+u", "page_up", show=False),
    ]

    def __init__(self, *, focus: bool, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(can_focus=focus, id=id, classes=classes)
        self._drawing: Drawing | None = None

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static(muted("…"))

    def show(self, drawing: Drawing) -> None:
        """Draw this from now on."""
        self._drawing = drawing
        self._draw()

    def on_resize(self, event: events.Resize) -> None:
        """Charts and rules are as wide as the card."""
        self._draw()

    def reveal(self, words: str) -> None:
        """Scroll to the first line with these words, unless as much as half a card is in sight from there on."""
        if self._drawing is None:
            return
        width, height = max(20, self.size.width - 1), max(4, self.size.height)
        lines = self._drawing(width, height).plain.split("\n")
        at = next((index for index, line in enumerate(lines) if words in line), None)
        if at is not None and not self.scroll_y <= at <= self.scroll_y + height // 2:
            self.scroll_to(y=at, animate=False)

    def _draw(self) -> None:
        if self._drawing is not None and self.size.width > 2:
            for text in self.query(Static):  # a screen that is being left has none any more
                text.update(self._drawing(max(20, self.size.width - 1), max(4, self.size.height)))
