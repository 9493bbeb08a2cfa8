"""The first step of a pipeline: what the rows are, in words and figures, and a fault where they are not what they
have to be or nothing can be learnt from them."""

from __future__ import annotations

from time import time as clock
from typing import Any

import msgspec
import numpy as np
import polars as pl

from quarterdeckd.learning import schema
from quarterdeckd.pipeline import checking, files, leakage
from quarterdeckd.pipeline.files import Raw, Rows
from quarterdeckd.pipeline.splitting import instants
from quarterdeckd.pipeline.step import At
from quarterstore.records.faults import Failed, Invalid, got
from quarterstore.records.names import drawn
from quarterstore.records.plans import FEWEST_OF_A_CLASS, FEWEST_ROWS


def checks(at: At) -> tuple[Raw, tuple[str, dict[str, Any]]]:
    """The rows of a definition, and (words, figures) of what its checks and its schema find in them. Raises `Failed`
    with the findings where a check of severity `fail` does not hold; warnings are told."""
    data, section = at.definition.data, at.definition.validate
    raw = files.read(data, str(at.data) if at.data else None)
    reference = files.read(data, str(at.artefact(section.reference))) if section.reference else None
    found = checking.checked(raw, section.checks, reference)
    if section.pandera is not None:
        found += schema.findings(section.pandera, at.code, raw.frame, raw.table)
    if not found:
        return raw, ("", {})
    figures = {"checks": msgspec.to_builtins(tuple(found))}
    failed = [one for one in found if not one.ok and one.severity == "fail"]
    if failed:
        said = f"{len(failed)} of {len(found)} checks failed: {checking.summary(failed)}"
        raise Failed(said, field="validate", figures=figures)
    warned = [one for one in found if not one.ok]
    words = f"{len(found) - len(warned)} of {len(found)} checks hold"
    words += f"; WARNING: {checking.summary(warned)}" if warned else ""
    return raw, (words, figures)


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
    found = leakage.of_rows(frame, plan)
    if found:
        figures["warnings"] = found
    return _words(rows, figures, found), figures


def ahead(frame: pl.DataFrame, time: str | None) -> str:
    """A sentence where rows are of times that are still to come; empty otherwise, and without a time."""
    if time is None or frame[time].null_count():
        return ""
    try:
        later = int((instants(frame[time]) > clock()).sum()) if _dated(frame[time]) else 0
    except ValueError:
        return ""
    return f"{later:,} rows are of times to come, by {drawn(time, longest=60)}" if later else ""


def _dated(values: pl.Series) -> bool:
    """Whether they are dates and not numbers of one's own: texts, or seconds since 1970 from 2001 on."""
    return not values.dtype.is_numeric() or float(values.min() or 0) > 1e9  # type: ignore[arg-type]


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


def _words(rows: Rows, figures: dict[str, Any], warnings: tuple[str, ...]) -> str:
    kinds = f"{figures['numbers']} numbers, {figures['categories']} categories"
    parts = [f"{figures['rows']:,} rows, {figures['features']} features ({kinds}), {rows.plan.task}"]
    if rows.dropped:
        parts.append(f"{rows.dropped} rows without {rows.plan.target} left out")
    if figures["missing"]:
        parts.append(f"{figures['missing']:,} cells missing")
    parts.extend(f"WARNING: {warning}" for warning in warnings)
    parts.extend(rows.plan.notes)
    return drawn("; ".join(parts))
