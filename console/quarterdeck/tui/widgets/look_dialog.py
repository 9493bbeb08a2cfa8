"""A dialog that stays: a question is typed, its answer stands below, and the next one can be typed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Input, Static

from quarterdeck.tui.widgets.dialog import Dialog
from quarterdeck.tui.widgets.drawing import muted, safe
from quarterstore.records.faults import Fault


class LookDialog(Dialog[None]):
    """`look` answers a text for a width; a fault of it is said in the place of the answer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave"),
        Binding("pagedown", "page(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
    ]

    def __init__(self, title: str, prompt: str, look: Callable[[str, int], Awaitable[Text]]) -> None:
        super().__init__()
        self._title = title
        self._prompt = prompt
        self._look = look

    def compose(self) -> ComposeResult:
        """The question above, so that it stays where it is however long the answer is."""
        with Vertical(id="dialog"):
            yield Static(safe(self._title, 400, "bold"), id="dialog-title")
            yield Static(safe(self._prompt, 200, "grey62"))
            yield Input(id="answer")
            yield Static("", id="dialog-fault", markup=False)
            with VerticalScroll(id="dialog-body"):
                yield Static(muted("nothing was read yet"), id="found")
            yield Static(muted("enter looks it up, esc leaves"))

    def on_mount(self) -> None:
        """Type at once."""
        self.query_one(Input).focus()

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask, and show."""
        event.stop()
        fault, found = self.query_one("#dialog-fault", Static), self.query_one("#found", Static)
        try:
            answer = await self._look(event.value.strip(), max(20, found.size.width))
        except Fault as error:
            fault.update(safe(error.line(), 400))
            return
        fault.update("")
        found.update(answer)

    def action_page(self, by: int) -> None:
        """Scroll an answer that is longer than its room."""
        self.query_one("#dialog-body").scroll_relative(y=8 * by, animate=False)

    def action_leave(self) -> None:
        """Back."""
        self.dismiss(None)
