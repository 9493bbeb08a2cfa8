"""How plain values become text: every word from outside is cleaned, every state is a glyph, a word and a colour."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

from rich.text import Text

from quarterstore.records.names import drawn

MUTED = "grey62"
STATES: dict[str, tuple[str, str]] = {
    "RUNNING": ("▶", "cyan"),
    "QUEUED": ("…", MUTED),
    "WAITING": ("◌", "yellow"),
    "ASKING": ("◌", "yellow"),
    "FINISHED": ("✓", "green"),
    "SUCCEEDED": ("✓", "green"),
    "DONE": ("✓", "green"),
    "MADE": ("✓", "green"),
    "LIVE": ("●", "green"),
    "APPROVED": ("✓", "green"),
    "Production": ("●", "green"),
    "Staging": ("◐", "cyan"),
    "Archived": ("○", MUTED),
    "None": ("·", MUTED),
    "CANARY": ("◔", "yellow"),
    "ADMITTING": ("◌", "yellow"),
    "SHADOW": ("◔", "yellow"),
    "A/B": ("◔", "yellow"),
    "BANDIT": ("◔", "yellow"),
    "WIN": ("✓", "green"),
    "LOSS": ("✗", "red"),
    "NO DIFFERENCE": ("=", "cyan"),
    "NEEDS": ("◌", "yellow"),
    "GOES ON": ("▶", "cyan"),
    "PASS": ("✓", "green"),
    "HOLD": ("◌", "yellow"),
    "FAIL": ("✗", "red"),
    "FAILED": ("✗", "red"),
    "COMPLETE": ("✓", "green"),
    "PRUNED": ("○", MUTED),
    "KILLED": ("■", "red"),
    "CANCELLED": ("■", MUTED),
    "LOST": ("?", "red"),
    "REJECTED": ("✗", "red"),
    "EXPIRED": ("○", MUTED),
    "VOID": ("○", MUTED),
    "STOPPED": ("■", MUTED),
    "REFUSED": ("✗", "red"),
    "UNREACHABLE": ("?", "red"),
    "REACHABLE": ("●", "green"),
    "SUPPRESSED": ("■", "red"),
    "HELD": ("◌", "yellow"),
    "BELOW": ("✓", "green"),
    "FIRES": ("▶", "cyan"),
    "OFF": ("○", MUTED),
    "DRIFT": ("▲", "red"),
    "NEGLIGIBLE": ("△", "yellow"),
    "NONE": ("✓", "green"),
    "NOT ENOUGH DATA": ("◌", "yellow"),
    "UNDEFINED": ("?", MUTED),
    "critical": ("▲", "red"),
    "warning": ("△", "yellow"),
    "info": ("·", "cyan"),
    "SKIPPED": ("○", MUTED),
    "RAN": ("✓", "green"),
    "FRESH": ("✓", "green"),
    "LAGS": ("◌", "yellow"),
    "LATE": ("▲", "red"),
    "OFFLINE": ("○", MUTED),
    "PRESENT": ("✓", "green"),
    "NOT_FOUND": ("?", "yellow"),
    "SAME": ("✓", "green"),
    "DIFFERS": ("✗", "red"),
    "removed": ("✗", "red"),
    "paused": ("‖", "yellow"),
    "on": ("●", "green"),
    "off": ("○", MUTED),
}
"""State -> glyph and colour; the word itself is always drawn too, so that nothing hangs on colour."""
LONGEST = 2000
"""Characters of one value that are ever drawn."""


def safe(value: object, longest: int | None = None, style: str = "") -> Text:
    """A value from outside as one line of text that can neither be markup nor move the terminal."""
    return Text(drawn(str(value), longest=longest or LONGEST), style=style, no_wrap=True)


def fit(text: Text, width: int) -> Text:
    """The text in at most `width` cells, with `…` where it was cut; counts cells, not characters."""
    found = text.copy()
    found.truncate(max(1, width), overflow="ellipsis")
    return found


def pad(text: Text, width: int) -> Text:
    """The text in exactly `width` cells."""
    found = text.copy()
    found.truncate(max(1, width), overflow="ellipsis", pad=True)
    return found


def muted(words: str) -> Text:
    """Words of ours in the background, line by line; what they carry from outside is cleaned."""
    return Text("\n".join(drawn(line) for line in words.split("\n")), style=MUTED)


def faded(cells: Sequence[Text]) -> tuple[Text, ...]:
    """A row that is no longer in use, in the background but for what says why: a state keeps its colour."""
    for cell in cells:
        if not cell.style:
            cell.stylize(MUTED)
    return tuple(cells)


def state(word: str) -> Text:
    """A state as glyph and word, in its colour."""
    glyph, colour = STATES.get(word, ("·", ""))
    return Text(f"{glyph} {drawn(word, longest=20)}", style=colour, no_wrap=True)


def glyph(word: str) -> Text:
    """The glyph of a state alone; only where the word stands beside it."""
    found, colour = STATES.get(word, ("·", ""))
    return Text(found, style=colour, no_wrap=True)


def clock(at: float | None, now: float) -> str:
    """A moment as people read it: the time today, else the day too."""
    if at is None or not math.isfinite(at):
        return "-"
    moment, today = time.localtime(at), time.localtime(now)
    same = (moment.tm_year, moment.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M:%S" if same else "%d %b %H:%M", moment)


def age(seconds: float) -> str:
    """`12 s`, `4 min`, `3 h`, `2 d`."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def ago(at: float | None, now: float) -> str:
    """How long ago, or in how long."""
    if at is None:
        return "-"
    return f"in {age(at - now)}" if at > now else f"{age(now - at)} ago"


def number(value: float | None, digits: int = 4) -> str:
    """A figure, with NaN and infinities named and a missing one as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.{digits}g}"


def right(words: str, style: str = "") -> Text:
    """A figure, to stand at the right of its column."""
    return Text(words, style=style, justify="right", no_wrap=True)


def facts(rows: Iterable[tuple[str, object]], width: int = 12, room: int = 0) -> Text:
    """Name and value on a line each; values that are Text keep their style. Within `room` cells a longer value goes on
    below its own beginning."""
    text = Text()
    for name, value in rows:
        found = value if isinstance(value, Text) else safe(value)
        lines = folded(found, room - width - 1) if room > 2 * width else [found]
        for index, line in enumerate(lines):
            text.append_text(pad(safe("" if index else name, style=MUTED), width))
            text.append(" ")
            text.append_text(line)
            text.append("\n")
    return text


def folded(text: Text, width: int) -> list[Text]:
    """A line as several of at most `width` cells, broken between words where there are such."""
    found: list[Text] = []
    while text.cell_len > width:
        fits = len(fit(text, width).plain.removesuffix("…"))
        at = text.plain.rfind(" ", 1, fits + 1)
        found.append(text[: at if at > 0 else fits])
        text = text[at + 1 if at > 0 else fits :]
    return [*found, text]


def section(words: str, body: Text, width: int = 0) -> Text:
    """A heading with a rule to the right of it, the body, and a blank line."""
    text = Text()
    text.append(drawn(words), style="bold")
    if width:
        text.append(" " + "─" * max(0, width - len(words) - 1), style=MUTED)
    text.append("\n")
    text.append_text(body)
    if not text.plain.endswith("\n"):
        text.append("\n")
    text.append("\n")
    return text


def title(name: str, states: Sequence[Text], words: str, width: int) -> Text:
    """What a card is about: the name and its state, then a line of context and a blank one."""
    text = Text.assemble(safe(name, 120, "bold"))
    for each in states:
        text.append("   ")
        text.append_text(each)
    text = fit(text, width)
    text.append("\n")
    text.append_text(fit(safe(words, style=MUTED), width))
    text.append("\n\n")
    return text


def beside(left: Text, other: Text, width: int, gap: int = 3) -> Text:
    """Two blocks side by side, each in half the width; cut, never wrapped."""
    half = (width - gap) // 2
    text = Text()
    lines, others = left.split("\n", allow_blank=False), other.split("\n", allow_blank=False)
    for index in range(max(len(lines), len(others))):
        text.append_text(pad(lines[index], half) if index < len(lines) else Text(" " * half))
        text.append(" " * gap)
        if index < len(others):
            text.append_text(fit(others[index], half))
        text.append("\n")
    return text


def grid(rows: Sequence[Sequence[Text]], widths: Sequence[int], gap: int = 2) -> Text:
    """Lines of cells in columns of the given widths; a cell justified to the right stands at the right."""
    text = Text()
    for row in rows:
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            cut = fit(cell, width)
            room = " " * max(0, width - cut.cell_len)
            if cell.justify == "right":
                text.append(room)
            text.append_text(cut)
            if cell.justify != "right" and index < len(row) - 1:
                text.append(room)
            text.append(" " * gap if index < len(row) - 1 else "\n")
    return text


def bar(fraction: float, width: int, style: str = "cyan") -> Text:
    """A thin bar that can be read without colour."""
    fraction = 0.0 if not math.isfinite(fraction) else max(0.0, min(1.0, fraction))
    filled = round(fraction * width)
    text = Text("━" * filled, style=style, no_wrap=True)
    text.append("─" * (width - filled), style=MUTED)
    return text


def spark(values: Sequence[float | None], width: int) -> str:
    """The last `width` values as blocks from the floor 0; a gap where there is none."""
    kept = list(values)[-width:]
    top = max((value for value in kept if value is not None and math.isfinite(value)), default=0.0) or 1.0
    blocks = "▁▂▃▄▅▆▇█"
    return "".join(
        " " if value is None or not math.isfinite(value) else blocks[min(7, int(value / top * 7.99))] for value in kept
    )
