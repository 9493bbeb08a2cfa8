"""What training code logs, as it goes over the wire: values that are none are said on stderr and left out."""

from __future__ import annotations

import operator
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from quarterstore.records.faults import Fault, Invalid, got
from quarterstore.records.ids import new_id
from quarterstore.records.names import LONGEST_KEY, checked_text, drawn
from quarterstore.records.runs import LogMetrics, Value

MOST = 50_000
"""Points of one batch: 26 bytes each, 1.3 MB."""
FURTHEST = 2**63
Row = tuple[float, int | None, dict[str, float]]


class Columns:
    """Points as columns of machine numbers, as they go over the wire."""

    def __init__(self, steps: dict[str, int]) -> None:
        self.keys: dict[str, int] = {}
        self.key, self.step, self.time, self.value = array("H"), array("q"), array("d"), array("d")
        self._steps = steps

    def add(self, row: Row) -> None:
        """One call of `log`."""
        at, given, metrics = row
        for name, value in metrics.items():
            step = self._steps.get(name, 0) if given is None else given
            self._steps[name] = min(step + 1, FURTHEST - 1)
            self.key.append(self.keys.setdefault(name, len(self.keys)))
            self.step.append(step)
            self.time.append(at)
            self.value.append(value)

    def batch(self, run: str) -> LogMetrics:
        """These points as one batch, under a new batch id."""
        columns = (self.key, self.step, self.time, self.value)
        if sys.byteorder == "big":
            for column in columns:
                column.byteswap()
        key, step, at, value = (column.tobytes() for column in columns)
        return LogMetrics(
            run=run, batch=new_id("batch"), keys=tuple(self.keys), key=key, step=step, time=at, value=value
        )


def batches(run: str, rows: deque[Row], steps: dict[str, int], refused: set[str]) -> Iterator[LogMetrics]:
    """What was logged so far, in columns of at most `MOST` points; a name that may not be one is said once."""
    left = len(rows)
    while left:
        columns = Columns(steps)
        while left and len(columns.key) < MOST:
            at, step, metrics = rows.popleft()
            left -= 1
            for name in [name for name in metrics if name not in columns.keys]:
                kept = _named(name, metrics, refused)
                if kept != name:
                    value = metrics[name]
                    metrics = {each: other for each, other in metrics.items() if each != name}
                    metrics |= {} if kept is None else {kept: value}
            columns.add((at, step, metrics))
        if len(columns.key):
            yield columns.batch(run)


def _named(name: Any, metrics: dict[str, float], refused: set[str]) -> str | None:
    """The name as it is kept, in one spelling; none where it may not be one, which is said once."""
    try:
        if not isinstance(name, str):
            raise got("metric", name, "a name")
        return checked_text("metric", name, longest=LONGEST_KEY)
    except Fault as fault:
        if repr(name) not in refused:
            refused.add(repr(name))
            complain(Invalid(f"{fault.message} (its value is {metrics[name]!r})", field=fault.field))
        return None


def numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """The values that are numbers (also those of numpy and torch, read now); the others are said on stderr."""
    kept = {}
    for key, value in metrics.items():
        try:
            if isinstance(value, str | bytes):
                raise TypeError
            kept[key] = float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            complain(got(str(key), value, "a number"))
    return kept


def plain_step(step: Any) -> int | None:
    """A step as an integer of 64 bits; what is none is said on stderr."""
    try:
        found = operator.index(step)
    except TypeError:
        complain(got("step", step, "an integer"))
        return None
    if not -FURTHEST <= found < FURTHEST:
        complain(got("step", step, "an integer of 64 bits (-2^63 to 2^63-1)"))
        return None
    return found


def plain_params(params: Mapping[str, Any], *, complain: Callable[[Invalid], None] | None) -> dict[str, Value]:
    """Parameters as texts, numbers and booleans, those of numpy too; for others the complaint is called, or raised
    where there is none."""
    kept: dict[str, Value] = {}
    for name, value in params.items():
        if hasattr(value, "item") and getattr(value, "size", 1) == 1 and not isinstance(value, str):
            value = value.item()
        fault = _param_fault(str(name), value)
        if fault is None:
            kept[str(name)] = value
        elif complain is None:
            raise fault
        else:
            complain(fault)
    return kept


def _param_fault(name: str, value: Any) -> Invalid | None:
    field = f"params.{name}"
    if value is not None and not isinstance(value, str | int | float | bool):
        return got(field, value, "a text, a number or a boolean")
    if isinstance(value, int) and not -FURTHEST <= value < FURTHEST:
        return got(field, value, "an integer of 64 bits (-2^63 to 2^63-1)")
    return None


def plain_tags(tags: Mapping[str, Any]) -> dict[str, str | None]:
    """Tags that are texts; the others are said on stderr."""
    for name, value in tags.items():
        if value is not None and not isinstance(value, str):
            complain(got(f"tags.{name}", value, "a text"))
    return {name: value for name, value in tags.items() if value is None or isinstance(value, str)}


def complain(fault: Fault) -> None:
    """Say a fault and go on: logging never ends training."""
    print(f"quarterdeck: error: {drawn(' '.join(fault.line().split()))}; the run continues", file=sys.stderr)
