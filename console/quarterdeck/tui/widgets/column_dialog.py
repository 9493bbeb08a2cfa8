"""A dialog that asks which columns a table has: all there are in a list, narrowed as one types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from quarterdeck.tui.widgets.drawing import muted, safe

MOST = 300
"""Names in the list at once; more are found by typing."""


class ColumnDialog(ModalScreen[list[str] | None]):
    """Answers the chosen names in their order, or None when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave"),
        Binding("slash", "narrow", "find"),
        Binding("space", "choose", "choose"),
        Binding("J", "move(1)", "later"),
        Binding("K", "move(-1)", "sooner"),
        Binding("j", "step(1)", show=False),
        Binding("k", "step(-1)", show=False),
        Binding("0", "none", "the default"),
    ]

    def __init__(self, names: Sequence[str], chosen: Sequence[str]) -> None:
        super().__init__()
        self._names = list(names)
        self._chosen = list(chosen)
        self._listed: list[str] = []

    def compose(self) -> ComposeResult:
        """What is typed, the names, the keys."""
        with Vertical(id="dialog"):
            yield Static("columns of runs", id="dialog-title", markup=False)
            yield Input(placeholder="/ finds a name", id="names")
            yield OptionList(id="columns", markup=False)
            yield Static(muted("space choose  J K move  / find  0 default  enter keep  esc leave"))

    def on_mount(self) -> None:
        """The list first."""
        self._list("")
        self.query_one(OptionList).focus()

    def _list(self, text: str, here: str | None = None) -> None:
        rest = [name for name in self._names if name not in self._chosen]
        wanted = text.strip().lower()
        self._listed = [name for name in (*self._chosen, *rest) if wanted in name.lower()][:MOST]
        names = self.query_one(OptionList)
        names.clear_options()
        for name in self._listed:
            place = self._chosen.index(name) + 1 if name in self._chosen else 0
            names.add_option(Option(safe(f"{f'{place:>2} ◆' if place else '    '} {name}", 66)))
        if self._listed:
            names.highlighted = self._listed.index(here) if here in self._listed else 0

    def _here(self) -> str | None:
        place = self.query_one(OptionList).highlighted
        return self._listed[place] if place is not None and place < len(self._listed) else None

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow as it is typed."""
        event.stop()
        self._list(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """To the list."""
        event.stop()
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter: keep it so."""
        event.stop()
        self.dismiss(self._chosen)

    def action_narrow(self) -> None:
        """Type a part of a name."""
        self.query_one(Input).focus()

    def action_choose(self) -> None:
        """Choose, as the last; or no longer."""
        name = self._here()
        if name is not None:
            place = self._listed.index(name)
            if name in self._chosen:
                self._chosen.remove(name)
            else:
                self._chosen.append(name)
            following = self._listed[min(place + 1, len(self._listed) - 1)]
            self._list(self.query_one(Input).value, following)

    def action_move(self, by: int) -> None:
        """Sooner or later in the table."""
        name = self._here()
        if name in self._chosen:
            place = self._chosen.index(name)
            self._chosen.insert(max(0, min(len(self._chosen) - 1, place + by)), self._chosen.pop(place))
            self._list(self.query_one(Input).value, name)

    def action_step(self, by: int) -> None:
        """Down and up."""
        names = self.query_one(OptionList)
        (names.action_cursor_down if by > 0 else names.action_cursor_up)()

    def action_none(self) -> None:
        """Nothing chosen: what most runs have, as before anybody chose."""
        self.dismiss([])

    def action_leave(self) -> None:
        """Everything as it was."""
        self.dismiss(None)
