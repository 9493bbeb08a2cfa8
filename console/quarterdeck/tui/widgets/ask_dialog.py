"""A dialog that says what will happen and asks: a reason where one is needed, the typed name where it moves traffic."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Input, Static

from quarterdeck.tui.widgets.dialog import Dialog
from quarterdeck.tui.widgets.drawing import muted, safe


class AskDialog(Dialog[str | None]):
    """Answers the typed text, or None when it was left. `expected` is what has to be typed exactly; without it `needed`
    says whether an empty answer will do; `value` is there already, to be changed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave")]

    def __init__(
        self,
        title: str,
        body: Text,
        prompt: str,
        *,
        expected: str | None = None,
        needed: bool = True,
        value: str = "",
    ) -> None:
        super().__init__()
        self._value = value
        self._title = title
        self._body = body
        self._prompt = prompt
        self._expected = expected
        self._needed = needed

    def compose(self) -> ComposeResult:
        """Title, what will happen, the question, what is wrong with the answer."""
        with Vertical(id="dialog"):
            yield Static(safe(self._title, 400, "bold"), id="dialog-title")
            with VerticalScroll(id="dialog-body"):
                yield Static(self._body)
            yield Static(safe(self._prompt, 200, "grey62"))
            yield Input(self._value, id="answer")
            yield Static("", id="dialog-fault", markup=False)
            yield Static(muted("enter does it, esc leaves everything as it is"))

    def on_mount(self) -> None:
        """Type at once."""
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Leave with the answer, or say what is missing."""
        event.stop()
        text = event.value.strip()
        fault = self.query_one("#dialog-fault", Static)
        if self._expected is not None and text != self._expected:
            fault.update(safe(f"got {text or 'nothing'}, expected {self._expected}", 300))
        elif self._needed and not text:
            fault.update("got nothing, expected a few words")
        else:
            self.dismiss(text)

    def action_leave(self) -> None:
        """Nothing happens."""
        self.dismiss(None)
