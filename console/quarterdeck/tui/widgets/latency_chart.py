"""Latency, rate and errors of the versions of an endpoint over time: a chart of one measure, a line a version."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from quarterdeck.tui.widgets.drawing import MUTED, age, grid, number, right, safe
from quarterdeck.tui.widgets.plot import COLOURS, MARKS, Series, plot
from quarterstore.records.histories import ArmHistory, TrafficHistory

UNITS = {"P50": "ms", "P95": "ms", "P99": "ms", "rate": "/s", "errors": "%"}
"""What can be drawn, and in what."""
WINDOWS = (120.0, 600.0, 3600.0, 21_600.0, 86_400.0)
"""Seconds that a chart may reach back."""
GAP = 2.5
"""Lengths of a reading between two of them from which on the line is broken: nobody served, or nothing was heard."""


class Look(NamedTuple):
    """What is drawn, and how far back."""

    measure: str = "P95"
    window: float = 600.0

    def next_measure(self) -> Look:
        """The measure after this one."""
        known = tuple(UNITS)
        return self._replace(measure=known[(known.index(self.measure) + 1) % len(known)])

    def next_window(self) -> Look:
        """The window after this one; after the longest the shortest."""
        return self._replace(window=WINDOWS[(WINDOWS.index(self.window) + 1) % len(WINDOWS)])


def measure_chart(history: TrafficHistory, measure: str, width: int, height: int) -> Text:
    """One measure of every version over the whole window; a stretch in which nobody served, or nobody asked where a
    latency is drawn, is a gap."""
    series = [_series(arm, measure, history) for arm in history.arms]
    ends = (f"{age(history.window)} ago", "now")
    unit = UNITS[measure]
    return plot(series, width, height, ends=ends, unit=unit, floor=0.0, across=(-history.window, 0.0), lines=2)


def _series(arm: ArmHistory, measure: str, history: TrafficHistory) -> Series:
    xs: list[float] = []
    ys: list[float | None] = []
    before: float | None = None
    for at, value in zip(arm.at, _values(arm, measure), strict=True):
        if before is not None and at - before > GAP * history.step:
            xs.append((before + at) / 2 - history.until)
            ys.append(None)
        xs.append(min(0.0, max(-history.window, at + history.step / 2 - history.until)))
        ys.append(value)
        before = at
    return Series(arm.version, xs, ys)


def _values(arm: ArmHistory, measure: str) -> Sequence[float | None]:
    if measure == "rate":
        return [requests / heard for requests, heard in zip(arm.requests, arm.heard, strict=True)]
    if measure == "errors":
        return [100 * wrong / n if n else None for wrong, n in zip(arm.errors, arm.requests, strict=True)]
    columns: dict[str, tuple[float | None, ...]] = {"P50": arm.p50, "P95": arm.p95, "P99": arm.p99}
    return columns[measure]


def figures(history: TrafficHistory, width: int) -> Text:
    """A line a version: what it answered in the window, and the latencies of its last reading, in milliseconds."""
    heads = ("version", "asked", "failed", "/s", "P50", "P95", "P99")
    rows = [tuple(right(head, MUTED) if index else safe(head, style=MUTED) for index, head in enumerate(heads))]
    for index, arm in enumerate(history.arms):
        asked, failed = sum(arm.requests), sum(arm.errors)
        mark = f"{MARKS[index % len(MARKS)]} " if len(history.arms) > 1 else ""
        last = [
            next((each for each in reversed(column) if each is not None), None)
            for column in (arm.p50, arm.p95, arm.p99)
        ]
        rows.append(
            (
                Text.assemble((mark, COLOURS[index % len(COLOURS)]), safe(arm.version, 60)),
                right(f"{asked:,}"),
                right(f"{failed:,}", "bold red" if failed else ""),
                right(number(asked / math.fsum(arm.heard), 3)),
                *(right(number(each, 3)) for each in last),
            )
        )
    widths = (7, 6, 5, 5, 5, 5)
    gap = 2 if width >= 70 else 1
    return grid(rows, (max(8, min(28, width - sum(widths) - gap * len(widths))), *widths), gap)


def pace(history: TrafficHistory | None, version: str, since: float) -> float | None:
    """Requests a second that a version had since then, in the window; `None` where nobody was heard of. What it had
    before, with another share, says nothing of what comes."""
    for arm in history.arms if history else ():
        readings = zip(arm.at, arm.requests, arm.heard, strict=True)
        later = [(requests, heard) for at, requests, heard in readings if at >= since]
        if arm.version == version and later:
            return sum(requests for requests, _ in later) / math.fsum(heard for _, heard in later)
    return None
