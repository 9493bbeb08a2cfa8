"""Lines in braille, two by four dots a cell: round axis labels, a mark and a legend for each series, gaps at NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from quarterdeck.tui.widgets.drawing import MUTED, fit, number
from quarterstore.records.names import drawn

COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")
MARKS = "●▲■◆▼★○△□◇▽☆"
"""One for each line; the second six are drawn as dashes, in the colours of the first."""
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


class Series(NamedTuple):
    """One line: its name, and points in order of x; `None` or NaN is a gap."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]


class Frame(NamedTuple):
    """The part of the plane that is drawn, and the y values that are named at the left."""

    start: float
    end: float
    low: float
    high: float
    ticks: tuple[float, ...]


def finite(value: float | None) -> bool:
    """Whether there is something to draw."""
    return value is not None and math.isfinite(value)


def framed(series: Sequence[Series], rows: int, floor: float | None) -> Frame | None:
    """The frame around every finite point, widened to round numbers; `None` when there is no point."""
    points = [(x, y) for each in series for x, y in zip(each.xs, each.ys, strict=True) if y is not None and finite(y)]
    if not points:
        return None
    low, high = min(y for _, y in points), max(y for _, y in points)
    low = low if floor is None else min(low, floor)
    if high <= low:
        high, low = (low + 1.0, low) if low == 0 else (low + abs(low) * 0.1, low - abs(low) * 0.1)
    step = _round_step((high - low) / max(1, min(5, rows // 2)))
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    ticks = tuple(low + index * step for index in range(round((high - low) / step) + 1))
    start, end = min(x for x, _ in points), max(x for x, _ in points)
    return Frame(start, end if end > start else start + 1.0, low, high, ticks)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step for step in _STEPS if step * power >= rough * 0.999) * power


def plot(
    series: Sequence[Series],
    width: int,
    height: int,
    *,
    ends: tuple[str, str] | None = None,
    unit: str = "",
    floor: float | None = None,
    log: bool = False,
    lines: int = 1,
    across: tuple[float, float] | None = None,
) -> Text:
    """A chart of `width` cells and `height` rows of canvas, a legend of up to `lines` above and the ends of x below.

    `ends` names the first and the last x: those of the points, unless `across` says others; `floor` is a y that is
    always in sight; with `log` y is drawn by its logarithm, and what has none is a gap. Says so when there is nothing.
    """
    series = said = series[: len(MARKS)]
    if log:
        series = [Series(each.name, each.xs, [logarithm(y) for y in each.ys]) for each in series]
    frame = framed(series, height, floor)
    if frame is None:
        return Text("nothing to draw yet\n", style=MUTED)
    if across is not None:
        frame = frame._replace(start=across[0], end=across[1])
    labels = _labels(frame, height, log)
    left = max(len(label) for label in labels.values())
    canvas = _Canvas(max(8, width - left - 1), height, frame)
    for index, each in enumerate(series):
        canvas.line(each, index)
    if len(series) > 1:
        for index in range(len(series)):
            canvas.mark(index, len(series))
    text = legend(said, width, unit, lines)
    for row in range(height):
        text.append(f"{labels.get(row, ''):>{left}}{'┤' if row in labels else '│'}", style=MUTED)
        text.append_text(canvas.row(row))
        text.append("\n")
    first, last = ends or (number(frame.start, 6), number(frame.end, 6))
    text.append(" " * left + "└" + "─" * canvas.columns + "\n", style=MUTED)
    text.append(
        " " * (left + 1) + first + " " * max(1, canvas.columns - len(first) - len(last)) + last + "\n", style=MUTED
    )
    return text


def logarithm(value: float | None) -> float | None:
    """Of base 10; `None` where there is none."""
    return math.log10(value) if value is not None and value > 0 and math.isfinite(value) else None


def _labels(frame: Frame, rows: int, log: bool) -> dict[int, str]:
    """Row of the canvas -> the y value named there."""
    span = frame.high - frame.low
    if log:
        return {round((frame.high - tick) / span * (rows - 1)): number(10.0**tick, 2) for tick in frame.ticks}
    step = frame.ticks[1] - frame.ticks[0]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    places += 1 if abs(step * 10**places - round(step * 10**places)) > 1e-6 else 0
    plain = places <= 4 and max(abs(frame.low), abs(frame.high)) < 1e6
    return {
        round((frame.high - tick) / span * (rows - 1)): f"{tick:,.{places}f}" if plain else f"{tick:.3g}"
        for tick in frame.ticks
    }


def legend(series: Sequence[Series], width: int, unit: str, lines: int = 1) -> Text:
    """Mark, name and last value of each series, on as many lines as it takes and may take."""
    found = [Text(no_wrap=True)]
    for index, each in enumerate(series):
        last = next((y for y in reversed(each.ys) if finite(y)), None)
        mark = MARKS[index] if len(series) > 1 else "━"
        one = Text(f"{mark} {drawn(each.name, longest=24)} ", style=COLOURS[index % len(COLOURS)], no_wrap=True)
        one.append(number(last, 3), style="default")
        one.append(f" {unit}" if unit else "", style=MUTED)
        if found[-1].cell_len and found[-1].cell_len + 3 + one.cell_len > width and len(found) < lines:
            found.append(Text(no_wrap=True))
        found[-1].append("   " if found[-1].cell_len else "")
        found[-1].append_text(one)
    text = Text(no_wrap=True)
    for line in found:
        text.append_text(fit(line, width))
        text.append("\n")
    return text


class _Canvas:
    """Dots in cells; the cell belongs to the series that drew there last."""

    def __init__(self, columns: int, rows: int, frame: Frame) -> None:
        self.columns = columns
        self.rows = rows
        self._frame = frame
        self._dots = [[0] * columns for _ in range(rows)]
        self._owner = [[0] * columns for _ in range(rows)]
        self._marks: dict[tuple[int, int], int] = {}
        self._paths: dict[int, list[tuple[int, int]]] = {}
        """Series -> the cells (row, column) that its line goes through, in order."""

    def _at(self, x: float, y: float) -> tuple[int, int]:
        frame = self._frame
        across = (x - frame.start) / (frame.end - frame.start) * (self.columns * 2 - 1)
        down = (frame.high - y) / (frame.high - frame.low) * (self.rows * 4 - 1)
        return round(across), round(down)

    def line(self, each: Series, index: int) -> None:
        """Join the points of a series; a gap breaks the line."""
        before: tuple[int, int] | None = None
        path = self._paths.setdefault(index, [])
        dashed, drawn_dots = index >= len(COLOURS), 0
        for x, y in zip(each.xs, each.ys, strict=True):
            if y is None or not math.isfinite(y):
                before = None
                continue
            here = self._at(x, y)
            for dot_x, dot_y in _between(before, here):
                drawn_dots += 1
                path.append((dot_y // 4, dot_x // 2))
                if dashed and drawn_dots % 6 > 3:
                    continue
                self._dots[dot_y // 4][dot_x // 2] |= _DOTS[dot_y % 4][dot_x % 2]
                self._owner[dot_y // 4][dot_x // 2] = index
            before = here

    def mark(self, index: int, count: int) -> None:
        """Set the mark of a series on its line now and then, apart from the other series' marks."""
        every = max(12, self.columns // 8)
        wanted = every * (index + 1) // (count + 1)
        for row, column in self._paths.get(index, ()):
            if column >= wanted:
                self._marks[(row, column)] = index
                wanted = column + every

    def row(self, row: int) -> Text:
        """One row of the canvas; cells of one colour are put on together, one by one they took 1 ms a row."""
        text, cells, style = Text(no_wrap=True), "", ""
        for column, dots in enumerate(self._dots[row]):
            index = self._marks.get((row, column))
            if index is None and not dots:
                cells += " "  # a blank has every colour
                continue
            colour = COLOURS[(self._owner[row][column] if index is None else index) % len(COLOURS)]
            if colour != style:
                text.append(cells, style=style)
                cells, style = "", colour
            cells += chr(0x2800 + dots) if index is None else MARKS[index]
        text.append(cells, style=style)
        return text


def _between(start: tuple[int, int] | None, end: tuple[int, int]) -> list[tuple[int, int]]:
    if start is None:
        return [end]
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (round(start[0] + (end[0] - start[0]) * step / steps), round(start[1] + (end[1] - start[1]) * step / steps))
        for step in range(1, steps + 1)
    ]
