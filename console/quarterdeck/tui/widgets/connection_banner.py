"""The line that says that the daemon is gone, for how long, and that it will be back by itself."""

from __future__ import annotations

from textual.widgets import Static

from quarterdeck.tui.widgets.drawing import age


class ConnectionBanner(Static):
    """Hidden while connected."""

    def __init__(self) -> None:
        super().__init__("", id="banner", markup=False)
        self.display = False

    def tell(self, lost_for: float | None) -> None:
        """Show for how many seconds the daemon was not heard; `None` hides the line."""
        self.display = lost_for is not None
        if lost_for is not None:
            words = f"✗ daemon lost · STALE for {age(lost_for)} · looking for it, it comes back by itself"
            self.update(words)
