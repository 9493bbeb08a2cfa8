"""The line that says that the daemon is gone, for how long, and that it will be back by itself."""

from __future__ import annotations

import time

from textual.widgets import Static

from quarterdeck.tui.widgets.drawing import age


class ConnectionBanner(Static):
    """Hidden while connected; counts while not."""

    def __init__(self) -> None:
        super().__init__("", id="banner", markup=False)
        self._since: float | None = None
        self.display = False

    def on_mount(self) -> None:
        """Count twice a second."""
        self.set_interval(0.5, self._tick)

    def tell(self, connected: bool) -> None:
        """Show or hide."""
        self._since = None if connected else (self._since or time.monotonic())
        self.display = not connected
        self._tick()

    def _tick(self) -> None:
        if self._since is not None:
            gone = age(time.monotonic() - self._since)
            self.update(f"✗ daemon lost for {gone}: what you see is STALE; it comes back by itself")
