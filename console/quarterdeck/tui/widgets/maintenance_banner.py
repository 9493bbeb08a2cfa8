"""The line that says that maintenance is on: until when and why, on every screen."""

from __future__ import annotations

import time

from textual.widgets import Static

from quarterdeck.tui.widgets.drawing import ago, clock, fit, safe
from quarterstore.records.schedules import Maintenance


class MaintenanceBanner(Static):
    """Hidden unless maintenance is on."""

    def __init__(self) -> None:
        super().__init__("", id="maintenance", markup=False)
        self._found: Maintenance | None = None
        self.display = False

    def on_mount(self) -> None:
        """Say anew how long it still lasts."""
        self.set_interval(1.0, self._draw)

    def tell(self, found: Maintenance | None) -> None:
        """Show or hide."""
        self._found = found
        self.display = found is not None
        self._draw()

    def _draw(self) -> None:
        found, now = self._found, time.time()
        if found is not None:
            words = f"‖ maintenance until {clock(found.until, now)} ({ago(found.until, now)}): {found.reason}"
            said = safe(f"{words} · nothing fires or reacts · qd resume --all", 400)
            self.update(fit(said, max(1, self.content_size.width)))
