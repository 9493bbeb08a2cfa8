"""A policy of continuous training as it is asked for: what of it makes no sense."""

from __future__ import annotations

import math

from quarterdeckd.rollout import canary as rollout
from quarterstore.ledger.finding import deployment_of
from quarterstore.ledger.state import State
from quarterstore.records import ct
from quarterstore.records.faults import got, missing

SHORTEST = 1.0
"""Seconds between two firings of a clock."""
LONGEST = 366 * 86400.0


def check(state: State, act: ct.SetPolicy) -> None:
    """Raise a fault on the first field that makes no sense."""
    if (act.schedule, act.drift, act.accuracy, act.rows) == (None, None, None, None):
        raise got("trigger", "none", "at least one of schedule, drift, accuracy, rows")
    if not 0 <= act.cooldown <= LONGEST:
        raise got("cooldown", act.cooldown, "seconds, 0 or more and at most a year")
    if act.schedule is not None and (act.schedule.cron is None) == (act.schedule.every is None):
        raise got("schedule", "both or neither of cron and every", "one of them")
    rollout.checked_ladder(act.ladder)
    rollout.checked(act.rule)
    if (drift := act.drift) is not None:
        if not 1 <= drift.checks <= 100:
            raise got("drift.checks", drift.checks, "1 to 100 checks in a row")
        if drift.every is not None and not SHORTEST <= drift.every <= LONGEST:
            raise got("drift.every", drift.every, f"{SHORTEST:g} seconds to a year")
        if not 0 < drift.window <= LONGEST:
            raise got("drift.window", drift.window, "seconds, above 0 and at most a year")
    if (accuracy := act.accuracy) is not None:
        if not 0 < accuracy.drop < 100:
            raise got("accuracy.drop", accuracy.drop, "points, above 0 and below 100")
        if not 1 <= accuracy.least <= 10_000_000:
            raise got("accuracy.least", accuracy.least, "1 or more labels")
        if not (math.isfinite(accuracy.window) and 0 < accuracy.window <= LONGEST):
            raise got("accuracy.window", accuracy.window, "seconds, above 0 and at most a year")
    if act.rows is not None:
        _rows(state, act, act.rows)


def _rows(state: State, act: ct.SetPolicy, rows: ct.OnRows) -> None:
    if not 1 <= rows.least <= 10**12:
        raise got("rows.least", rows.least, "1 or more rows")
    if (rows.of == "features") != (rows.view is not None):
        raise got("rows.view", rows.view or "nothing", "a feature view, and only where rows are of features")
    names = {view.name for view in state.feature_views}
    if rows.view is not None and rows.view not in names:
        raise missing("rows.view", rows.view, names)
    if rows.of == "labels":
        deployment_of(state, act.endpoint or act.model)
    data = state.pipelines[act.pipeline].definition.data
    if rows.of == "dataset" and data.dataset is None:
        raise got("rows.of", f"dataset, and {act.pipeline} reads {data.builtin}", "labels or features")
