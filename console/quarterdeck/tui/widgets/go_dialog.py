"""The palette behind `:`: screens, and what the keys of this one do, by a part of their name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input, OptionList

from quarterdeck.tui.widgets.name_dialog import NameDialog


class GoDialog(NameDialog):
    """Answers what was chosen. Narrowed in the very moment a letter comes: what is typed ahead of the screen, or pasted
    with its enter, finds the same as what is typed slowly."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "step(1)", show=False),
        Binding("up", "step(-1)", show=False),
    ]
    placeholder = "a screen, or what a key does"
    begins_in = Input
    hint = "type a part of a name  ↑ ↓ choose  enter goes  esc leaves"

    def __init__(self, places: Mapping[str, str]) -> None:
        """`places` are the names, each with the key that does the same."""
        super().__init__("go to", tuple(places))
        self._keys = places

    def line_of(self, name: str) -> str:
        """The name and its key."""
        return f"{name:<40} {self._keys[name]}"

    def found(self, text: str) -> Sequence[str]:
        """Names that begin so before those that hold it, before those that hold its letters in this order."""
        wanted = text.strip().lstrip(":").lower()
        tests = (
            lambda name: name.startswith(wanted),
            lambda name: wanted in name,
            lambda name: _in_order(wanted, name),
        )
        return tuple(dict.fromkeys(name for test in tests for name in self._keys if test(name.lower())))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter takes what is under the cursor of the list: the best unless the arrows chose."""
        event.stop()
        self.query_one(OptionList).action_select()


def _in_order(letters: str, name: str) -> bool:
    rest = iter(name)
    return all(letter in rest for letter in letters)
