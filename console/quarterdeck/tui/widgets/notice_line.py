"""What came of a key, said for some seconds in the place of the equivalent command: it covers no row of a table."""

from __future__ import annotations

from rich.text import Text
from textual.timer import Timer
from textual.widgets import Static

from quarterdeck.tui.widgets.drawing import safe

SIGNS = {"information": ("·", "cyan", 5.0), "warning": ("△", "yellow", 10.0), "error": ("✗", "bold red", 15.0)}
"""How grave -> sign, colour, seconds that it stands."""


class NoticeLine(Static):
    """One line where it fits, three at most."""

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self._until: Timer | None = None

    def tell(self, words: str, severity: str) -> None:
        """Say this, and no longer what was said before."""
        sign, colour, seconds = SIGNS[severity]
        text = safe(words, style=colour if severity == "error" else "")
        text.no_wrap = False
        self.update(Text.assemble((f"{sign} ", colour), text))
        self.screen.add_class("-noticed")
        if self._until is not None:
            self._until.stop()
        self._until = self.set_timer(seconds, self._over)

    def _over(self) -> None:
        self.screen.remove_class("-noticed")
