"""How plain values become text: every word from outside is cleaned, every state is a glyph, a word and a colour."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from rich.text import Text

from quarterstore.records.names import drawn

STATES: dict[str, tuple[str, str]] = {
    "RUNNING": ("▶", "cyan"),
    "QUEUED": ("…", "grey62"),
    "WAITING": ("…", "yellow"),
    "FINISHED": ("✓", "green"),
    "SUCCEEDED": ("✓", "green"),
    "DONE": ("✓", "green"),
    "LIVE": ("●", "green"),
    "APPROVED": ("✓", "green"),
    "Production": ("●", "green"),
    "Staging": ("◐", "cyan"),
    "Archived": ("○", "grey62"),
    "None": ("·", "grey62"),
    "CANARY": ("◔", "yellow"),
    "ADMITTING": ("◌", "yellow"),
    "PASS": ("✓", "green"),
    "HOLD": ("◌", "yellow"),
    "FAIL": ("✗", "red"),
    "FAILED": ("✗", "red"),
    "KILLED": ("■", "red"),
    "CANCELLED": ("■", "grey62"),
    "LOST": ("?", "red"),
    "REJECTED": ("✗", "red"),
    "VOID": ("○", "grey62"),
    "STOPPED": ("■", "grey62"),
    "REFUSED": ("✗", "red"),
    "DRIFT": ("▲", "red"),
    "NEGLIGIBLE": ("△", "yellow"),
    "NONE": ("✓", "green"),
    "critical": ("▲", "red"),
    "warning": ("△", "yellow"),
    "info": ("·", "cyan"),
    "SKIPPED": ("○", "grey62"),
}


def safe(value: object, longest: int | None = None) -> Text:
    """A value from outside as text that can neither be markup nor move the terminal; a newline at its end is ours."""
    text = str(value)
    end = "\n" if text.endswith("\n") else ""
    return Text(drawn(text.removesuffix("\n"), longest=longest) + end)


def safe_lines(lines: Sequence[str]) -> Text:
    """Lines from outside, each cleaned on its own."""
    return Text("\n".join(drawn(line) for line in lines) + "\n")


def state(word: str) -> Text:
    """A state as glyph and word, in its colour."""
    glyph, colour = STATES.get(word, ("·", ""))
    return Text(f"{glyph} {drawn(word)}", style=colour, no_wrap=True)


def clock(at: float | None) -> str:
    """A moment as people read it: the time today, else the day too."""
    if at is None:
        return "-"
    moment = time.localtime(at)
    today = time.localtime()
    same = (moment.tm_year, moment.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M:%S" if same else "%d %b %H:%M", moment)


def age(seconds: float) -> str:
    """`12 s`, `4 min`, `3 h`, `2 d`."""
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def number(value: float | None, digits: int = 4) -> str:
    """A figure, with NaN and infinities named and a missing one as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return f"{value:.{digits}g}"


def size(count: int) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count = count / 1000  # type: ignore[assignment]
    return ""


def facts(rows: Sequence[tuple[str, object]], width: int = 14) -> Text:
    """Name and value on a line each; values that are Text keep their style."""
    text = Text()
    for name, value in rows:
        text.append(f"{name:<{width}} ", style="grey62")
        text.append_text(value if isinstance(value, Text) else safe(value))
        text.append("\n")
    return text


def heading(words: str) -> Text:
    """A line that opens a part."""
    text = Text("\n")
    text.append(f"{words}\n", style="bold")
    return text


def bar(fraction: float, width: int, full: str = "█", empty: str = "░") -> str:
    """A bar that can be read without colour."""
    filled = round(max(0.0, min(1.0, fraction)) * width)
    return full * filled + empty * (width - filled)
