"""The lines around every screen: where we are and whose deck it is, the tabs, the equivalent command, the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.widget import Widget

from quarterdeck.tui.keymap import SCREENS, SHORT
from quarterdeck.tui.widgets.drawing import MUTED, fit, safe


class Line(Widget):
    """One line of text, drawn for the width it has."""

    def render(self) -> Text:
        """What `line` gives, cut to the width."""
        return fit(self.line(max(1, self.content_size.width)), max(1, self.content_size.width))

    def line(self, width: int) -> Text:
        """The text for this width."""
        return Text()


class TopLine(Line):
    """Breadcrumbs at the left, whose deck it is at the right."""

    def __init__(self, crumbs: Sequence[str]) -> None:
        super().__init__()
        self._crumbs = tuple(crumbs)
        self._whose = Text()

    def tell(self, crumbs: Sequence[str], context: Text) -> None:
        """Another place, another context."""
        self._crumbs = tuple(crumbs)
        self._whose = context
        self.refresh()

    def line(self, width: int) -> Text:
        """Both, with the room between them; the context gives way first."""
        left = Text.assemble(("◢ quarterdeck", "bold cyan"))
        for index, crumb in enumerate(self._crumbs):
            left.append(" › ", style=MUTED)
            left.append_text(safe(crumb, 44, "bold" if index == len(self._crumbs) - 1 else ""))
        room = width - left.cell_len - 2
        if room < 8:
            return left
        context = fit(self._whose, room)
        left.append(" " * (width - left.cell_len - context.cell_len))
        left.append_text(context)
        return left


class TabLine(Line):
    """The screens by digit; with what waits in them where there is room."""

    def __init__(self, here: str) -> None:
        super().__init__()
        self._here = here
        self._waiting: dict[str, int] = {}

    def tell(self, waiting: dict[str, int]) -> None:
        """How many things wait behind a tab."""
        if waiting != self._waiting:
            self._waiting = waiting
            self.refresh()

    def line(self, width: int) -> Text:
        """Digit, name and badge; where there is less room shorter names, closer together. The badges stay: they are
        what somebody is called for at night."""
        text = self._tabs("   ", " {}▲", {})
        if text.cell_len > width:
            text = self._tabs(" ", "▲{}", SHORT)
        return text if text.cell_len <= width else self._tabs(" ", "▲{}", self._cut())

    def _cut(self) -> dict[str, str]:
        """Names of three letters, but for the screen in sight and those in which something waits."""
        whole = {self._here, *(name for name, waiting in self._waiting.items() if waiting)}
        names = {name: SHORT.get(name, name) for _, name in SCREENS}
        return {name: short if name in whole else short[:3] for name, short in names.items()}

    def _tabs(self, gap: str, badge: str, short: Mapping[str, str]) -> Text:
        text = Text(no_wrap=True)
        for index, (key, name) in enumerate(SCREENS):
            text.append(gap if index else "")
            text.append(key, style="bold reverse" if name == self._here else "cyan")
            text.append(f" {short.get(name, name)}", style="bold reverse" if name == self._here else MUTED)
            waiting = self._waiting.get(name, 0)
            if waiting:
                text.append(badge.format(waiting if waiting < 10 or not short else "9+"), style="bold yellow")
        return text


class CommandLine(Line):
    """The command that shows the same, so that what is seen can be scripted."""

    def __init__(self) -> None:
        super().__init__()
        self._command = ""

    def tell(self, command: str) -> None:
        """Another command."""
        if command != self._command:
            self._command = command
            self.refresh()

    def line(self, width: int) -> Text:
        """`$ qd …`, and how to take it along."""
        if not self._command:
            return Text()
        text = fit(safe(f"$ {self._command}", style=MUTED), width - 10)
        text.append(" " * (width - 8 - text.cell_len))
        text.append("Y", style="bold cyan")
        text.append(" copies", style=MUTED)
        return text


class KeyLine(Line):
    """The keys that do something here; what does not fit is behind `?`."""

    ALWAYS = (("?", "help"), ("q", "quit"))

    def __init__(self) -> None:
        super().__init__()
        self._keys: tuple[tuple[str, str], ...] = ()

    def tell(self, keys: Sequence[tuple[str, str]]) -> None:
        """Other keys, the most important first."""
        if tuple(keys) != self._keys:
            self._keys = tuple(keys)
            self.refresh()

    def line(self, width: int) -> Text:
        """As many as fit; help and quit always do."""
        last = self._said(self.ALWAYS)
        text = Text(no_wrap=True)
        for each in self._keys:
            more = self._said((each,))
            if text.cell_len + more.cell_len + last.cell_len > width:
                break
            text.append_text(more)
        text.append(" " * max(0, width - text.cell_len - last.cell_len))
        text.append_text(last)
        return text

    def _said(self, keys: Sequence[tuple[str, str]]) -> Text:
        text = Text(no_wrap=True)
        for key, words in keys:
            text.append(key, style="bold cyan")
            text.append(f" {words}  ", style="")
        return text
