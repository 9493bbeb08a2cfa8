"""Runs in parallel: an axis for each parameter and for a metric, and where on it a run stands; readable without
colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from quarterdeck.tui.widgets.drawing import MUTED, fit, muted, number, pad, right, safe
from quarterstore.records.runs import Value

WIDE_RANGE = 100.0
"""A range of positive numbers from whose ends' ratio on the axis is logarithmic."""
HERE, OTHERS = "◆", "•"


class Axis(NamedTuple):
    """One axis: a range of numbers, or texts in their order."""

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    words: tuple[str, ...] = ()

    def place(self, value: Value) -> float | None:
        """Where a value stands, 0 to 1; `None` where it has no place."""
        if self.words:
            text = _word(value)
            return None if value is None or text not in self.words else _share(self.words.index(text), self.words)
        found = _number(value)
        if found is None:
            return None
        low, high, at = (math.log10(each) if self.log else each for each in (self.low, self.high, found))
        return 0.5 if high == low else (at - low) / (high - low)

    def ends(self) -> tuple[str, str]:
        """What its ends are called."""
        if self.words:
            return self.words[0], self.words[-1]
        return number(self.low, 3), number(self.high, 3)


def _share(index: int, words: Sequence[str]) -> float:
    return 0.5 if len(words) == 1 else index / (len(words) - 1)


def _word(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: Value) -> float | None:
    """A finite number that a value is or says."""
    try:
        found = math.nan if value is None or isinstance(value, bool) else float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def axis_of(name: str, values: Sequence[Value]) -> Axis:
    """The axis that has a place for all of these; of texts where one of them is no number."""
    given = [value for value in values if value is not None]
    numbers = [found for value in given if (found := _number(value)) is not None]
    said = [value for value in given if not isinstance(value, float) or math.isfinite(value)]
    if not numbers or len(numbers) < len(said):
        return Axis(name, words=tuple(sorted({_word(value) for value in given})))
    low, high = min(numbers), max(numbers)
    return Axis(name, low, high, log=low > 0 and high / low >= WIDE_RANGE)


def position(place: float | None, width: int) -> Text:
    """A bar with a mark at the place; empty where there is none."""
    if place is None:
        return Text(" " * width, no_wrap=True)
    at = max(0, min(width - 1, round(place * (width - 1))))
    text = Text("─" * at, style=MUTED, no_wrap=True)
    text.append("●", style="bold cyan")
    text.append("─" * (width - at - 1), style=MUTED)
    return text


def valued(axis: Axis, value: Value, width: int, bar: int) -> Text:
    """A value and its place on the axis, in `width` cells."""
    words = "-" if value is None else number(value, 4) if isinstance(value, int | float) else value
    text = pad(safe(words, 40), max(1, width - bar - 1))
    text.append(" ")
    text.append_text(position(axis.place(value), bar))
    return text


def parallel(axes: Sequence[Axis], rows: Sequence[Sequence[Value]], here: int | None, width: int) -> Text:
    """Every run on every axis, one line an axis; the run under the cursor is marked apart. More than one run at one
    place are their number."""
    if not axes:
        return muted("nothing to draw yet\n")
    name, end = max(8, min(20, width // 4)), 9
    room = max(10, width - name - 2 * end - 9)
    text = Text()
    for index, axis in enumerate(axes):
        places = [axis.place(row[index]) for row in rows]
        low, high = axis.ends()
        text.append_text(pad(safe(axis.name, 60), name))
        text.append(" ")
        start = fit(right(safe(low, 40).plain, MUTED), end)
        text.append(" " * (end - start.cell_len))
        text.append_text(start)
        text.append(" ├", style=MUTED)
        text.append_text(_line(places, here, room))
        text.append("┤ ", style=MUTED)
        text.append_text(pad(safe(high, 40, MUTED), end))
        text.append(" log" if axis.log else "", style=MUTED)
        text.append("\n")
    return text


def _line(places: Sequence[float | None], here: int | None, room: int) -> Text:
    counts: dict[int, int] = {}
    for place in places:
        if place is not None:
            at = round(place * (room - 1))
            counts[at] = counts.get(at, 0) + 1
    mine = None if here is None or (found := places[here]) is None else round(found * (room - 1))
    text = Text("─" * room, style=MUTED, no_wrap=True)
    for at, count in counts.items():
        word = HERE if at == mine else OTHERS if count == 1 else str(min(9, count))
        text = Text.assemble(text[:at], (word, "bold yellow" if at == mine else "cyan"), text[at + 1 :], no_wrap=True)
    return text
