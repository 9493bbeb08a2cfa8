"""The first step of a pipeline: what the rows are, in words and figures, and a fault where nothing can be learnt from
them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from quarterdeckd.pipeline.files import Rows
from quarterstore.records.faults import Invalid, got
from quarterstore.records.names import drawn
from quarterstore.records.plans import FEWEST_OF_A_CLASS, FEWEST_ROWS



def validate(rows: Rows) -> tuple[str, dict[str, Any]]:
    """(words, figures) of rows that can be learnt from; a `Fault` names the column, what was got and expected.

    The plan has refused empty, constant and one-class columns already, from the table; here the frame itself is
    looked at, after rows without a target are gone: size, classes, finite numbers, leaks of the target.
    """
    frame, plan = rows.frame, rows.plan
    if frame.height < FEWEST_ROWS:
        raise got("data", f"{frame.height} rows with a target", f"at least {FEWEST_ROWS}")
    numbers = [column.name for column in plan.features if column.kind in ("number", "integer")]
    _check_finite(frame, [*numbers, *((plan.target,) if plan.task == "regression" else ())])
    figures: dict[str, Any] = {
        "rows": frame.height,
        "features": len(plan.features),
        "numbers": len(numbers),
        "categories": len(plan.features) - len(numbers),
        "missing": sum(column.missing for column in plan.features),
        "without_target": rows.dropped,
        "task": plan.task,
        "data": rows.digest,
    }
    if plan.left_out:
        figures["left_out"] = plan.left_out
    if plan.task == "classification":
        figures["classes"] = _classes(frame[plan.target])
    leaks = leaking(frame, plan.target, numbers, plan.task)
    if leaks:
        figures["leaks"] = leaks
    return _words(rows, figures, leaks), figures


def leaking(frame: pl.DataFrame, target: str, numbers: list[str], task: str) -> tuple[str, ...]:
    """The numeric features that give a numeric target away exactly (least squares, R2 > 1 - 1e-9), as `casual` and
    `registered` add up to `cnt`; empty when there is no such sum."""
    if task != "regression" or not numbers:
        return ()
    x = frame.select(numbers).head(20_000).to_numpy()
    y = frame[target].head(20_000).to_numpy()
    known = np.isfinite(x).all(axis=1)
    x, y = x[known], y[known]
    if len(y) < 5 * (len(numbers) + 1):
        return ()
    spread = x.std(axis=0)
    used = spread > 0
    z = (x[:, used] - x[:, used].mean(axis=0)) / spread[used]
    centred = y - y.mean()
    weight, *_ = np.linalg.lstsq(z, centred, rcond=None)
    if ((centred - z @ weight) ** 2).sum() > 1e-9 * (centred**2).sum():
        return ()
    names = [name for name, taken in zip(numbers, used, strict=True) if taken]
    return tuple(name for name, one in zip(names, weight, strict=True) if abs(one) > 1e-3 * centred.std())


def _check_finite(frame: pl.DataFrame, numbers: list[str]) -> None:
    for name in numbers:
        infinite = int(frame[name].is_infinite().sum())
        if infinite:
            raise got(name, f"{infinite} infinite values", "finite numbers, or blanks")
        largest = float(np.nanmax(np.abs(frame[name].to_numpy())))
        if largest > float(np.finfo(np.float32).max):
            raise got(name, f"{largest:g}", "numbers that fit single precision (models take float32)")


def _classes(target: pl.Series) -> dict[str, int]:
    counts = {str(name): int(n) for name, n in target.value_counts().sort(target.name).iter_rows()}
    if len(counts) < 2:
        raise got(target.name, f"one class ({next(iter(counts))}) in all rows", "at least two")
    rare = [name for name, n in counts.items() if n < FEWEST_OF_A_CLASS]
    if rare:
        raise Invalid(
            f"got 1 row of class {drawn(rare[0], longest=40)}, expected at least {FEWEST_OF_A_CLASS} of each class",
            field=target.name,
        )
    return counts


def _words(rows: Rows, figures: dict[str, Any], leaks: tuple[str, ...]) -> str:
    kinds = f"{figures['numbers']} numbers, {figures['categories']} categories"
    parts = [f"{figures['rows']:,} rows, {figures['features']} features ({kinds}), {rows.plan.task}"]
    if rows.dropped:
        parts.append(f"{rows.dropped} rows without {rows.plan.target} left out")
    if figures["missing"]:
        parts.append(f"{figures['missing']:,} cells missing")
    if leaks:
        flags = " ".join(f"--ignore {name}" for name in leaks)
        parts.append(f"WARNING: {rows.plan.target} follows exactly from {', '.join(leaks)} ({flags})")
    parts.extend(rows.plan.notes)
    return drawn("; ".join(parts))
