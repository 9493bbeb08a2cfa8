"""A dialog that asks for one of many names: all of them in a list, narrowed as one types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from quarterdeck.tui.widgets.dialog import Dialog
from quarterdeck.tui.widgets.drawing import muted, safe

MOST = 300
"""Names in the list at once; more are found by typing."""


class NameDialog(Dialog[Any]):
    """Answers a name, or None when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave"),
        Binding("slash", "narrow", "find"),
        Binding("j", "step(1)", show=False),
        Binding("k", "step(-1)", show=False),
    ]
    hint: ClassVar[str] = "/ find  enter take  esc leave"
    placeholder: ClassVar[str] = "/ finds a name"
    begins_in: ClassVar[type[Widget]] = OptionList
    """Where the first key goes."""

    def __init__(self, title: str, names: Sequence[str], here: str | None = None) -> None:
        super().__init__()
        self._heading = title
        self._all = list(names)
        self._listed: list[str] = []
        self._first = here

    def compose(self) -> ComposeResult:
        """What is typed, the names, the keys."""
        with Vertical(id="dialog"):
            yield Static(safe(self._heading, 200, "bold"), id="dialog-title")
            yield Input(placeholder=self.placeholder, id="names")
            yield OptionList(id="columns", markup=False)
            yield Static(muted(self.hint))

    def on_mount(self) -> None:
        """Ready for a key at once: `focus()` would wait behind those that are here already."""
        self.narrowed("", self._first)
        self.set_focus(self.query_one(self.begins_in))

    def ordered(self) -> Sequence[str]:
        """Every name, in the order of the list."""
        return self._all

    def line_of(self, name: str) -> str:
        """A name as it stands in the list."""
        return name

    def answer(self, name: str) -> Any:
        """What enter on a name answers."""
        return name

    def found(self, text: str) -> Sequence[str]:
        """The names that hold the text."""
        wanted = text.strip().lower()
        return [name for name in self.ordered() if wanted in name.lower()]

    def narrowed(self, text: str, here: str | None = None) -> None:
        """The names that were found; the cursor on `here`."""
        self._listed = list(self.found(text)[:MOST])
        names = self.query_one(OptionList)
        names.clear_options()
        names.add_options([Option(safe(self.line_of(name), 66)) for name in self._listed])
        if self._listed:
            names.highlighted = self._listed.index(here) if here in self._listed else 0

    def here(self) -> str | None:
        """The name under the cursor."""
        place = self.query_one(OptionList).highlighted
        return self._listed[place] if place is not None and place < len(self._listed) else None

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow as it is typed."""
        event.stop()
        self.narrowed(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """To the list."""
        event.stop()
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter."""
        event.stop()
        name = self.here()
        if name is not None:
            self.dismiss(self.answer(name))

    def action_narrow(self) -> None:
        """Type a part of a name."""
        self.query_one(Input).focus()

    def action_step(self, by: int) -> None:
        """Down and up."""
        names = self.query_one(OptionList)
        (names.action_cursor_down if by > 0 else names.action_cursor_up)()

    def action_leave(self) -> None:
        """Everything as it was."""
        self.dismiss(None)
