"""What every dialog is: it lies over a screen and answers once."""

from __future__ import annotations

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen, ScreenResultType


class Dialog(ModalScreen[ScreenResultType]):
    """Enter twice in one go is one answer: the second took away the screen below."""

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Answer and close; nothing where that is done already."""
        return super().dismiss(result) if self.is_active else AwaitComplete()
