"""Lines in braille: two by four dots a cell, several series with marks and a legend, gaps where a value is not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from quarterdeck.tui.widgets.drawing import number
from quarterstore.records.names import drawn

COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


class Series(NamedTuple):
    """One line: its name, and points in order of x."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def plot(series: Sequence[Series], width: int, height: int, unit: str = "") -> Text:
    """A chart of `width` by `height` cells with the range at the left and a legend below; says so when there is nothing."""
    points = [(x, y) for each in series for x, y in zip(each.xs, each.ys, strict=True) if _finite(y)]
    if not points:
        return Text("nothing to draw yet\n", style="grey62")
    left = 9
    columns, rows = max(10, width - left - 1), max(3, height - 2)
    low, high = min(y for _, y in points if y is not None), max(y for _, y in points if y is not None)
    start, end = min(x for x, _ in points), max(x for x, _ in points)
    high = high if high > low else low + (abs(low) or 1.0) * 0.1
    end = end if end > start else start + 1.0
    cells = [[0] * columns for _ in range(rows)]
    owner: list[list[int]] = [[0] * columns for _ in range(rows)]
    for index, each in enumerate(series):
        _draw(each, index, cells, owner, (start, end), (low, high))
    text = Text()
    for row in range(rows):
        label = number(high, 3) if row == 0 else number(low, 3) if row == rows - 1 else ""
        text.append(f"{label:>{left - 1}}┤", style="grey62")
        for column in range(columns):
            text.append(chr(0x2800 + cells[row][column]), style=COLOURS[owner[row][column] % len(COLOURS)])
        text.append("\n")
    text.append(" " * left + f"{number(start, 5)} … {number(end, 5)} {unit}\n", style="grey62")
    for index, each in enumerate(series):
        last = next((y for y in reversed(each.ys) if _finite(y)), None)
        text.append(f"{'  ' if index else ' ' * left}━ ", style=COLOURS[index % len(COLOURS)])
        text.append(f"{drawn(each.name)} {number(last)}")
    text.append("\n")
    return text


def _draw(
    each: Series,
    index: int,
    cells: list[list[int]],
    owner: list[list[int]],
    across: tuple[float, float],
    along: tuple[float, float],
) -> None:
    rows, columns = len(cells), len(cells[0])
    before: tuple[int, int] | None = None
    for x, y in zip(each.xs, each.ys, strict=True):
        if y is None or not math.isfinite(y):
            before = None
            continue
        dot_x = round((x - across[0]) / (across[1] - across[0]) * (columns * 2 - 1))
        dot_y = round((along[1] - y) / (along[1] - along[0]) * (rows * 4 - 1))
        for at_x, at_y in _line(before, (dot_x, dot_y)):
            cells[at_y // 4][at_x // 2] |= _DOTS[at_y % 4][at_x % 2]
            owner[at_y // 4][at_x // 2] = index
        before = (dot_x, dot_y)


def _line(start: tuple[int, int] | None, end: tuple[int, int]) -> list[tuple[int, int]]:
    if start is None:
        return [end]
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (round(start[0] + (end[0] - start[0]) * step / steps), round(start[1] + (end[1] - start[1]) * step / steps))
        for step in range(1, steps + 1)
    ]
