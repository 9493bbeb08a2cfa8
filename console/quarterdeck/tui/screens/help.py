"""The keys of a screen, over it."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from quarterdeck.tui.widgets.dialog import Dialog


class HelpDialog(Dialog[None]):
    """Leaves with any of its keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "leave", "close")]

    def __init__(self, title: str, keys: tuple[tuple[str, str], ...]) -> None:
        super().__init__()
        self._title = title
        self._keys = keys

    def compose(self) -> ComposeResult:
        """A key and what it does on a line each."""
        text = Text()
        for key, words in self._keys:
            text.append(f"{key:<9}", style="bold cyan")
            text.append(f" {words}\n")
        with Vertical(id="dialog"):
            yield Static(Text(f"keys of {self._title}", style="bold"), id="dialog-title")
            with VerticalScroll():
                yield Static(text)

    def action_leave(self) -> None:
        """Close."""
        self.dismiss()
