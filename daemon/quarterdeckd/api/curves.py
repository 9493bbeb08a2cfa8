"""The points of a run as curves: put together from files and batches, each point once, few enough to be drawn."""

from __future__ import annotations

import math
import operator
from array import array
from itertools import islice
from pathlib import Path

from quarterstore.records.runs import Curve, LogMetrics
from quarterstore.shelf import parquet


def _curve(run: str, key: str, found: dict[str, Curve]) -> Curve:
    if key not in found:
        found[key] = Curve(run=run, key=key, steps=[], times=[], values=[])
    return found[key]


def read_parquet(path: Path, run: str, found: dict[str, Curve]) -> None:
    """Add the points of a run that a file holds; raises `Corrupt` where it is not as it was written."""
    import polars

    parquet.checked(path)
    frame = polars.scan_parquet(path).filter(polars.col("run") == run).select("key", "step", "time", "value").collect()
    for (key,), part in frame.group_by(["key"], maintain_order=True):
        curve = _curve(run, str(key), found)
        curve.steps.extend(part["step"].to_list())
        curve.times.extend(part["time"].to_list())
        curve.values.extend(part["value"].to_list())


def read_batch(batch: LogMetrics, found: dict[str, Curve]) -> None:
    """Add the points of a batch."""
    places: dict[int, list[int]] = {}
    for place, index in enumerate(array("H", batch.key)):
        places.setdefault(index, []).append(place)
    steps, times, values = array("q", batch.step), array("d", batch.time), array("d", batch.value)
    for index, mine in places.items():  # column by column: point by point took half of a history's time
        curve = _curve(batch.run, batch.keys[index], found)
        curve.steps.extend(map(steps.__getitem__, mine))
        curve.times.extend(map(times.__getitem__, mine))
        curve.values.extend(map(values.__getitem__, mine))


def once(curve: Curve) -> Curve:
    """Without the points that are there already; NaN equals NaN here."""
    if all(map(operator.lt, curve.steps, islice(curve.steps, 1, None))):
        return curve  # steps that only rise repeat nothing
    points = dict.fromkeys(
        (step, moment, value if value == value else None)
        for step, moment, value in zip(curve.steps, curve.times, curve.values, strict=True)
    )
    if len(points) == len(curve.steps):
        return curve
    return Curve(
        run=curve.run,
        key=curve.key,
        steps=[step for step, _, _ in points],
        times=[moment for _, moment, _ in points],
        values=[math.nan if value is None else value for _, _, value in points],
    )


def thinned(curve: Curve, most: int) -> Curve:
    """At most `most` points, evenly chosen, the first and the last among them."""
    count = len(curve.steps)
    if count <= most:
        return curve
    chosen = sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})
    return Curve(
        run=curve.run,
        key=curve.key,
        steps=[curve.steps[index] for index in chosen],
        times=[curve.times[index] for index in chosen],
        values=[curve.values[index] for index in chosen],
    )
