"""Curves at the MLflow door: one metric of a run, of several runs, or thinned out to be drawn."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from quarterdeckd.doors.mlflow import shapes
from quarterdeckd.doors.mlflow.caller import Caller, missing, number, text
from quarterdeckd.doors.mlflow.errors import invalid
from quarterstore.records import runs

MOST_RUNS = 100
MOST_POINTS, MOST_DRAWN = 25_000, 2_500
"""mlflow.server.handlers, 3.17."""
Point = dict[str, Any]


async def of_run(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`metrics/get-history`: by time, step and value, in pages where `max_results` is given."""
    run, key = caller.run(given), text(given, "metric_key")
    points = await _sorted(caller, run.id, key)
    limit = number(given, "max_results", len(points) or 1)
    if limit < 1:
        raise invalid(f"Invalid value {limit} for parameter 'max_results' supplied. It must be a positive integer.")
    start = max(0, number({"page_token": text(given, "page_token", "0")}, "page_token"))
    page = points[start : start + limit]
    told: dict[str, Any] = {"metrics": [shapes.metric(key, value, at, step) for at, step, value in page]}
    return {**told, "next_page_token": str(start + limit)} if start + limit < len(points) else told


async def of_many(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`metrics/get-history-bulk`: one metric of several runs."""
    asked = given.get("run_id") or []
    names = [asked] if isinstance(asked, str) else list(asked)
    if not names:
        raise invalid("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(names) > MOST_RUNS:
        raise invalid(
            f"GetMetricHistoryBulk request cannot specify more than {MOST_RUNS} run_ids. Received {len(names)} run_ids."
        )
    if not given.get("metric_key"):
        raise invalid("GetMetricHistoryBulk request must specify a metric_key.")
    found = []
    for name in sorted(names):
        run = caller.run({"run_id": name})
        found += [{**point, "run_id": run.id} for point in await _points(caller, run.id, text(given, "metric_key"))]
    return {"metrics": found[: min(number(given, "max_results", MOST_POINTS), MOST_POINTS)]}


async def drawn(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """`metrics/get-history-bulk-interval`: about `max_results` steps over all the runs, the ends of each run
    among them; every run tells the same steps, so that they can be drawn side by side."""
    names = [name for name in given.get("run_ids") or [] if name]
    if not names:
        raise missing("run_ids")
    if len(names) > MOST_RUNS:
        raise invalid(f"GetMetricHistoryBulkInterval request must specify at most {MOST_RUNS} run_ids.")
    key, limit = text(given, "metric_key"), number(given, "max_results", MOST_DRAWN)
    if not 1 <= limit <= MOST_DRAWN:
        raise invalid(f"max_results must be between 1 and {MOST_DRAWN}.")
    low, high = _interval(given)
    curves = []
    for name in names:
        run = caller.run({"run_id": name})
        points = [{**point, "run_id": run.id} for point in await _points(caller, run.id, key)]
        points.sort(key=lambda point: (point["step"], point["timestamp"]))
        curves.append([point for point in points if low <= point["step"] <= high])
    steps = thinned(sorted({point["step"] for curve in curves for point in curve}), limit)
    steps |= {step for curve in curves if curve for step in (curve[0]["step"], curve[-1]["step"])}
    return {"metrics": [point for curve in curves for point in curve if point["step"] in steps]}


def _interval(given: dict[str, Any]) -> tuple[int, int]:
    if ("start_step" in given) != ("end_step" in given):
        raise invalid("If either start step or end step are specified, both must be specified.")
    if "start_step" not in given:
        return -(2**63), 2**63
    low, high = number(given, "start_step"), number(given, "end_step")
    if low > high:
        raise invalid(f"end_step must be greater than start_step. Found start_step={low} and end_step={high}.")
    return low, high


def thinned(steps: list[int], most: int) -> set[int]:
    """About `most` of the sorted steps, evenly by their place, the first and the last among them."""
    if len(steps) <= most:
        return set(steps)
    return {*(steps[n * len(steps) // most] for n in range(most)), steps[-1]}


async def _points(caller: Caller, run: str, key: str) -> list[Point]:
    return [shapes.metric(key, value, at, step) for at, step, value in await _sorted(caller, run, key)]


async def _sorted(caller: Caller, run: str, key: str) -> list[tuple[float, int, float]]:
    """Time, step and value of each point, by time and step."""
    curves = await caller.ask(runs.MetricHistory(run=run, keys=(key,), points=0))
    points = [each for curve in curves for each in zip(curve.times, curve.steps, curve.values, strict=True)]
    points.sort(key=itemgetter(0, 1))
    return points
