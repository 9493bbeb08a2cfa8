"""The curves of a run, those of one kind in one chart; and one metric of several runs in one chart."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.text import Text

from quarterdeck.tui.widgets.drawing import beside, muted, section
from quarterdeck.tui.widgets.plot import MARKS, Series, plot
from quarterstore.records.runs import Curve

_part = re.compile(r"^(train|training|val|valid|validation|test|eval)[_./ ]|[_./ ](train|val|valid|test|eval)$")


def kind(key: str) -> str:
    """What is measured: `loss` of `train_loss`, `val/loss` and `loss`."""
    return _part.sub("", key)


def run_curves(curves: Sequence[Curve], width: int, height: int) -> Text:
    """A chart for each kind of metric; two beside each other when there is room."""
    kinds: dict[str, list[Curve]] = {}
    for curve in curves:
        if len(curve.steps) > 1:
            kinds.setdefault(kind(curve.key), []).append(curve)
    if not kinds:
        return muted("no curve yet: a metric needs two steps\n\n")
    wide = width >= 100 and len(kinds) > 1
    each_width = (width - 3) // 2 if wide else width
    charts = [section(name, _chart(found, each_width, height), each_width) for name, found in sorted(kinds.items())]
    text = Text()
    while charts:
        first = charts.pop(0)
        text.append_text(beside(first, charts.pop(0), width) if wide and charts else first)
    return text


def _chart(curves: Sequence[Curve], width: int, height: int) -> Text:
    series = [Series(curve.key, curve.steps, curve.values) for curve in curves]
    steps = [step for curve in curves for step in curve.steps]
    return plot(series, width, height, ends=(f"step {min(steps):,}", f"{max(steps):,}"))


def compared(key: str, curves: Sequence[tuple[str, Curve]], width: int, height: int) -> Text:
    """One metric of several runs, a run a line."""
    found = [(name, curve) for name, curve in curves if len(curve.steps) > 1][: len(MARKS)]
    if not found:
        return Text()
    steps = [step for _, curve in found for step in curve.steps]
    series = [Series(name, curve.steps, curve.values) for name, curve in found]
    return section(key, plot(series, width, height, ends=(f"step {min(steps):,}", f"{max(steps):,}")), width)
