"""A dialog that asks which columns a table has, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

from quarterdeck.tui.widgets.name_dialog import NameDialog


class ColumnDialog(NameDialog):
    """Answers the chosen names in their order, an empty list for those nobody chose, None when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "choose", "choose"),
        Binding("J", "move(1)", "later"),
        Binding("K", "move(-1)", "sooner"),
        Binding("0", "none", "the default"),
    ]
    hint = "space choose  J K move  / find  0 default  enter keep  esc leave"

    def __init__(self, names: Sequence[str], chosen: Sequence[str]) -> None:
        super().__init__("columns of runs", names)
        self._chosen = list(chosen)

    def ordered(self) -> Sequence[str]:
        """The chosen first, in their order."""
        return [*self._chosen, *(name for name in self._all if name not in self._chosen)]

    def line_of(self, name: str) -> str:
        """A chosen one with its place."""
        return f"{self._chosen.index(name) + 1:>2} ◆ {name}" if name in self._chosen else f"     {name}"

    def answer(self, name: str) -> Any:
        """Enter keeps what is chosen, wherever the cursor is."""
        return self._chosen

    def action_choose(self) -> None:
        """Choose, as the last; or no longer."""
        name = self.here()
        if name is None:
            return
        following = self._listed[min(self._listed.index(name) + 1, len(self._listed) - 1)]
        if name in self._chosen:
            self._chosen.remove(name)
        else:
            self._chosen.append(name)
        self.narrowed(self.query_one(Input).value, following)

    def action_move(self, by: int) -> None:
        """Sooner or later in the table."""
        name = self.here()
        if name in self._chosen:
            place = self._chosen.index(name)
            self._chosen.insert(max(0, min(len(self._chosen) - 1, place + by)), self._chosen.pop(place))
            self.narrowed(self.query_one(Input).value, name)

    def action_none(self) -> None:
        """Nothing chosen: what most runs have, as before anybody chose."""
        self.dismiss([])
