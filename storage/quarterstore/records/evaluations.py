"""How a model is judged on held-out rows: the section of a definition, and the champion it is held against."""

from __future__ import annotations

import math
import re
from typing import Final, Literal

from quarterstore.records.base import Record
from quarterstore.records.faults import got
from quarterstore.records.names import checked_text, drawn
from quarterstore.records.registry import Signature

Judged = Literal["auto", "accuracy", "roc auc", "log loss", "brier", "rmse", "mae"]
FAIRNESS: Final = ("demographic parity", "equalised odds", "calibration gap")
"""Metrics of groups; a limit of `[gate]` on one of them that does not hold rejects the version."""
LOWER_IS_BETTER: Final = ("log loss", "brier", "rmse", "mae", *FAIRNESS, "worst slice rmse")
OF_CLASSES: Final = ("accuracy", "balanced accuracy", "f1", "log loss", "brier", "roc auc")
OF_NUMBERS: Final = ("rmse", "mae", "r2")
RANGES: Final = {
    **dict.fromkeys((*OF_CLASSES, *FAIRNESS, "worst slice accuracy"), (0.0, 1.0)),
    **dict.fromkeys(("log loss", "rmse", "mae", "worst slice rmse", "latency"), (0.0, math.inf)),
    "brier": (0.0, 2.0),
    "r2": (-math.inf, 1.0),
}
"""Between which values a metric lies, as we measure it; a Brier score of many classes is a sum and goes to 2."""
MOST_COLUMNS: Final = 50
_latency = re.compile(r"latency([ _.](p\d+|mean|median|max|[mun]?s))*\Z")
"""A latency of a person's own measuring, in any unit; a difference of two is none."""


class EvaluateSection(Record, frozen=True):
    """`[evaluate]`: `metric` is what model and champion are compared by (accuracy of classes, RMSE of numbers unless
    said) and `margin` the loss that is no loss; `slices` are columns whose values are measured one by one, `fairness`
    columns whose values are groups of people; `explain` by permutation."""

    metric: Judged = "auto"
    """What model and champion are compared by."""
    margin: float = 0.0
    """The loss that is no loss."""
    slices: tuple[str, ...] = ()
    """Columns whose values are measured one by one."""
    fairness: tuple[str, ...] = ()
    """Columns whose values are groups of people."""
    explain: bool = True
    """Say which features matter, by permutation."""
    champion: bool = True
    """Compare with the version that is in Production."""


class Against(Record, frozen=True):
    """The champion that a run is held against: the version that is in Production, or live, as the run is asked for."""

    version: str
    model: str
    """SHA-256 of its ONNX file."""
    signature: Signature
    dataset: str | None = None


def checked_evaluation(section: EvaluateSection) -> EvaluateSection:
    """The section where its parts are whole; `Invalid` names the one that is not."""
    if not 0 <= section.margin < float("inf"):
        raise got("evaluate.margin", section.margin, "a loss of 0 or more")
    for field in ("slices", "fairness"):
        names = getattr(section, field)
        if len(names) > MOST_COLUMNS:
            raise got(f"evaluate.{field}", f"{len(names)} columns", f"at most {MOST_COLUMNS}")
        if len(set(names)) < len(names):
            raise got(f"evaluate.{field}", ", ".join(names), "each column once")
        for name in names:
            checked_text(f"evaluate.{field}", name)
    return section


def measurable(section: EvaluateSection, task: str) -> tuple[str, ...]:
    """The metrics that judging a model of this task may find; of a task that is not known yet (auto), those of both."""
    found: tuple[str, ...] = ()
    if task != "regression":
        found += (*OF_CLASSES, *(FAIRNESS if section.fairness else ()))
        found += ("worst slice accuracy",) if section.slices else ()
    if task != "classification":
        found += (*OF_NUMBERS, *(("worst slice rmse",) if section.slices else ()))
    return found


def range_of(metric: str) -> tuple[float, float] | None:
    """The least and the greatest value of a metric, where that is known."""
    return RANGES["latency"] if _latency.match(metric) else RANGES.get(metric)


def check_range(field: str, metric: str, limit: float, *, loss: bool = False) -> None:
    """`Invalid` for a limit outside the range of its metric, or of the loss of one: no value reaches it, or every one
    does."""
    low, high = range_of(metric) or (-math.inf, math.inf)
    if loss:
        low, high = low - high, high - low
    if low <= limit <= high:
        return
    ends = f"{low:g} to {high:g}"
    if math.inf in (high, -low):
        ends = f"{low:g} or more" if high == math.inf else f"{high:g} or less"
    raise got(field, f"{limit:g}", f"a limit of {f'the loss of {metric}' if loss else metric}, which is {ends}")


def check_limits(limits: dict[str, float], section: EvaluateSection | None, task: str) -> None:
    """`Invalid` where a limit is no number, of a metric that no run can have, or one that its metric cannot have;
    `section` is None where a person's own code says what is measured, and in which unit."""
    for name, limit in limits.items():
        field = f"gate.limits.{drawn(name, longest=60)}"
        if not math.isfinite(limit):
            raise got(field, limit, "a finite number")
        metric = name.replace("_", " ")
        if section is None:
            continue
        if metric in (known := measurable(section, task)):
            check_range(field, metric, limit)
            continue
        for columns, metrics in (("fairness", FAIRNESS), ("slices", ("worst slice accuracy", "worst slice rmse"))):
            if metric in metrics and not getattr(section, columns):
                raise got(field, "a limit", f"columns in evaluate.{columns}, without which it is not measured")
        of_it = "" if task == "auto" else f" of a {task}"
        raise got(field, "a limit", f"one of a metric{of_it}: {', '.join(each.replace(' ', '_') for each in known)}")
