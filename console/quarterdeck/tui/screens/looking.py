"""What screens with curves share: how the curves are looked at, by keys, the same on all of them and kept."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from quarterdeck.tui.screens.base import DeckScreen
from quarterdeck.tui.widgets.drawing import safe
from quarterdeck.tui.widgets.run_curves import Look

KEPT = "runs.look"
LOOK_KEYS = (
    ("e / E", "smooth the curves more / less (moving average; said above them)"),
    ("o", "logarithmic scale, or not"),
    ("t", "x by step, by time since the first point, by wall time"),
)


class LookingScreen(DeckScreen):
    """Curves that were asked for are drawn anew for another look; nothing is asked for again."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "smooth(1)", "smooth"),
        Binding("E", "smooth(-1)", "smooth less", show=False),
        Binding("o", "scale", "log scale"),
        Binding("t", "axis", "x axis"),
    ]

    @property
    def look(self) -> Look:
        """How curves are looked at now."""
        return self.deck_app.kept.get(KEPT, Look) or Look()

    def redraw(self) -> None:
        """Draw what is known once more."""

    def action_smooth(self, by: int) -> None:
        """More, or less."""
        self._looked(self.look.smoother(by))

    def action_scale(self) -> None:
        """Logarithmic, or not."""
        self._looked(self.look.scaled())

    def action_axis(self) -> None:
        """What x is."""
        self._looked(self.look.along())

    def _looked(self, look: Look) -> None:
        try:
            self.deck_app.kept.put(KEPT, look)
        except OSError as error:
            self.notify(safe(f"this is not kept: {error}", 200).plain, severity="warning", markup=False)
        self.redraw()
