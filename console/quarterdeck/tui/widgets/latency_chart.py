"""Latency and errors of an endpoint's arms over the last two minutes, one reading a second."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from quarterdeck.tui.widgets.plot import Series, plot
from quarterstore.records.deployments import LatencySummary

QUANTILES = ("p50", "p95", "p99")
GAP = 2.5
"""Seconds between two readings from which on the line is broken: nobody asked, or nothing was heard."""


def latency_chart(readings: Sequence[LatencySummary], width: int, height: int) -> Text:
    """P50, P95 and P99 in milliseconds; seconds without a request are gaps."""
    kept = _gapped(readings)
    seconds = [at for at, _ in kept]
    series = [
        Series(name.upper(), seconds, [getattr(each, name) if each else None for _, each in kept]) for name in QUANTILES
    ]
    return plot(series, width, height, ends=_ends(seconds), unit="ms", floor=0.0)


def error_chart(arms: Sequence[tuple[str, Sequence[LatencySummary]]], width: int, height: int) -> Text:
    """Percent of the requests of each second that failed, an arm a line."""
    series = []
    newest = max((each.at for _, readings in arms for each in readings), default=0.0)
    for name, readings in arms:
        kept = _gapped(readings, newest)
        rates = [100 * each.errors / each.requests if each and each.requests else None for _, each in kept]
        series.append(Series(name, [at for at, _ in kept], rates))
    seconds = [x for each in series for x in each.xs]
    return plot(series, width, height, ends=_ends(seconds), unit="%", floor=0.0)


def _gapped(
    readings: Sequence[LatencySummary], newest: float | None = None
) -> list[tuple[float, LatencySummary | None]]:
    """Seconds before the newest reading, with a hole where the readings are apart."""
    if not readings:
        return []
    end = readings[-1].at if newest is None else newest
    found: list[tuple[float, LatencySummary | None]] = []
    before: float | None = None
    for each in readings:
        if before is not None and each.at - before > GAP:
            found.append(((before + each.at) / 2 - end, None))
        found.append((each.at - end, each))
        before = each.at
    return found


def _ends(seconds: Sequence[float]) -> tuple[str, str]:
    return (f"{min(seconds, default=0):.0f} s", "now")
