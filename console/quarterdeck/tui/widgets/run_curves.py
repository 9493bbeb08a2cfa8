"""The curves of a run, those of one kind in one chart; and one metric of several runs in one chart; smoothed, on a
logarithmic scale, by step or by time, as it is looked at."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from typing import Literal

from msgspec.structs import replace
from rich.text import Text

from quarterdeck.tui.widgets.drawing import age, beside, muted, safe, section
from quarterdeck.tui.widgets.plot import MARKS, Series, plot
from quarterstore.records.base import Record
from quarterstore.records.runs import Curve

SMOOTHINGS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
AXES: tuple[Literal["step", "since", "clock"], ...] = ("step", "since", "clock")
NAMED = {"step": "by step", "since": "by time since the start", "clock": "by wall time"}
_part = re.compile(r"^(train|training|val|valid|validation|test|eval)[_./ ]|[_./ ](train|val|valid|test|eval)$")


class Look(Record, frozen=True):
    """How curves are looked at: the weight of what came before in a moving average, the scale of y, what x is."""

    smoothing: float = 0.0
    log: bool = False
    axis: Literal["step", "since", "clock"] = "step"

    def smoother(self, by: int) -> Look:
        """The next smoothing, or the one before; round the end."""
        place = SMOOTHINGS.index(self.smoothing) if self.smoothing in SMOOTHINGS else 0
        return replace(self, smoothing=SMOOTHINGS[(place + by) % len(SMOOTHINGS)])

    def scaled(self) -> Look:
        """The other scale."""
        return replace(self, log=not self.log)

    def along(self) -> Look:
        """The next thing that x is."""
        return replace(self, axis=AXES[(AXES.index(self.axis) + 1) % len(AXES)])

    def words(self) -> str:
        """What is done to the points, said beside them."""
        found = [NAMED[self.axis]]
        if self.smoothing:
            found.append(f"EMA {self.smoothing:g}")
        if self.log:
            found.append("log scale")
        return ", ".join(found)


PLAIN = Look()


def kind(key: str) -> str:
    """What is measured: `loss` of `train_loss`, `val/loss` and `loss`."""
    return _part.sub("", key)


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """An exponential moving average that does not lean to zero at its start; NaN and infinities stay and are passed
    over."""
    if not weight:
        return list(values)
    found, mean, share = [], 0.0, 0.0
    for value in values:
        if math.isfinite(value):
            mean, share = weight * mean + (1 - weight) * value, weight * share + (1 - weight)
            found.append(mean / share)
        else:
            found.append(value)
    return found


def series_of(name: str, curve: Curve, look: Look) -> Series:
    """A curve as it is looked at, in the order of its steps or of its times."""
    points = sorted(zip(curve.steps, curve.times, curve.values, strict=True), key=lambda point: point[:2])
    if look.axis != "step":
        points.sort(key=lambda point: point[1])
    start = points[0][1] if points and look.axis == "since" else 0.0
    xs = [float(step) if look.axis == "step" else at - start for step, at, _ in points]
    return Series(name, xs, smoothed([value for *_, value in points], look.smoothing))


def _ends(series: Sequence[Series], look: Look) -> tuple[str, str]:
    xs = [x for each in series for x in each.xs]
    first, last = min(xs), max(xs)
    if look.axis == "step":
        return f"step {first:,.0f}", f"{last:,.0f}"
    if look.axis == "since":
        return age(first), f"{age(last)} after the first point"
    form = "%H:%M:%S" if last - first < 86_400 else "%d %b %H:%M"
    return time.strftime(form, time.localtime(first)), time.strftime(form, time.localtime(last))


def run_curves(curves: Sequence[Curve], width: int, height: int, look: Look = PLAIN) -> Text:
    """A chart for each kind of metric; two beside each other when there is room."""
    kinds: dict[str, list[Curve]] = {}
    for curve in curves:
        if len(curve.steps) > 1:
            kinds.setdefault(kind(curve.key), []).append(curve)
    if not kinds:
        return muted("no curve yet: a metric needs two steps\n\n")
    wide = width >= 100 and len(kinds) > 1
    each_width = (width - 3) // 2 if wide else width
    charts = [
        section(name, chart([(each.key, each) for each in found], each_width, height, look), each_width)
        for name, found in sorted(kinds.items())
    ]
    text = Text()
    while charts:
        first = charts.pop(0)
        text.append_text(beside(first, charts.pop(0), width) if wide and charts else first)
    return text


def chart(curves: Sequence[tuple[str, Curve]], width: int, height: int, look: Look, lines: int = 1) -> Text:
    """Curves in one chart, each by its name."""
    series = [series_of(name, curve, look) for name, curve in curves[: len(MARKS)]]
    return plot(series, width, height, ends=_ends(series, look), log=look.log, lines=lines)


def compared(
    key: str, curves: Sequence[tuple[str, Curve]], width: int, height: int, look: Look = PLAIN, words: str = ""
) -> Text:
    """One metric of several runs, a run a line; `words` say more above; a run with one point is named below."""
    found = [(name, curve) for name, curve in curves if len(curve.steps) > 1]
    heading = safe(f"{key}  {look.words()}{words}", width).plain
    if not found:
        return section(heading, muted("no curve: the metric needs two steps\n"), width)
    text = section(heading, chart(found, width, height, look, lines=4), width)
    lacking = [name for name, curve in curves if len(curve.steps) <= 1]
    if lacking:
        text.append_text(muted(f"without a second point: {', '.join(lacking)}\n"))
    return text
