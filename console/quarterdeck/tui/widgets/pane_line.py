"""The panes of one record, by name, with the one that is in view."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from quarterdeck.tui.widgets.drawing import MUTED
from quarterdeck.tui.widgets.frame import Line


class PaneLine(Line):
    """`[` and `]` go from one to the next."""

    def __init__(self, panes: Sequence[str], here: str) -> None:
        super().__init__()
        self._panes = tuple(panes)
        self.here = here

    def tell(self, here: str) -> None:
        """Another pane is in view."""
        self.here = here
        self.refresh()

    def turn(self, by: int) -> str:
        """The pane that lies `by` further, round the end."""
        return self._panes[(self._panes.index(self.here) + by) % len(self._panes)]

    def line(self, width: int) -> Text:
        """The names, closer together where there is less room."""
        for gap in ("   ", " "):
            text = Text(no_wrap=True)
            text.append("[", style="bold cyan")
            for pane in self._panes:
                text.append(gap)
                # without colour the one in view is told by its marks
                text.append(f"▸{pane}◂" if pane == self.here else pane, style="bold" if pane == self.here else MUTED)
            text.append(f"{gap}]", style="bold cyan")
            if text.cell_len <= width:
                break
        return text
