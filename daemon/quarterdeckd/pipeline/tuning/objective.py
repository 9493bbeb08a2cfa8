"""What a trial does in its worker: a learner or training function judged on rows, or the objective of a person."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quarterdeckd.learning import user_code
from quarterdeckd.pipeline import evaluation, files, splitting, training, validation
from quarterdeckd.pipeline.tuning.messages import Task
from quarterstore.records.faults import Failed, got
from quarterstore.records.studies import SECONDS, StudyDefinition, StudySpec, pipeline_of

Report = Callable[[int, float], bool]
"""Says where a trial is; whether it should be pruned."""
MOST_POINTS = 1000


class Pruned(BaseException):
    """A trial that ended early because others were better; no `Exception`, so that no code of a person takes it for an
    error of its own."""


class Trial:
    """What an objective of one's own is given: `params`, `number`, a `seed` to draw with, `report` and
    `should_prune`; `raise trial.Pruned()` ends it early."""

    Pruned = Pruned

    def __init__(self, task: Task, report: Report) -> None:
        self.number, self.seed, self.params = task.number, task.seed, dict(task.params)
        self.fresh = task.fresh
        """Whether it is scored again, after the search: with another seed."""
        self._report, self._prune, self._points = report, False, 0

    def report(self, step: int, value: float) -> None:
        """A point of the trial's curve: the first objective at a step."""
        self._points += 1
        if self._points > MOST_POINTS:
            raise got("report", f"more than {MOST_POINTS:,} points", "fewer: report every so many steps")
        if step < 0:
            raise got("report", step, "a step from 0 on")
        self._prune = self._report(int(step), float(value)) or self._prune

    def should_prune(self) -> bool:
        """Whether others were better at the step that was last reported."""
        return self._prune


Objective = Callable[[Task, Report], tuple[float, ...]]


def prepared(spec: StudySpec) -> tuple[Objective, int]:
    """The objective of a study, and how many rows no trial sees. Raises the fault that every trial would end with."""
    if spec.definition.objective is not None:
        return _own(spec, spec.definition.objective), 0
    return _over_rows(spec)


def _own(spec: StudySpec, named: str) -> Objective:
    assert spec.code is not None
    function = user_code.function_of(named, Path(spec.code), "objective")
    names = tuple(spec.definition.objectives)

    def objective(task: Task, report: Report) -> tuple[float, ...]:
        try:
            found = function(Trial(task, report))
        except Exception as error:
            if type(error).__name__ == "TrialPruned":  # Optuna's own, for code that was written for it
                raise Pruned from error
            where = user_code.where(error, Path(spec.code or ""))
            raise Failed(f"{where}{type(error).__name__}: {error}", field=named) from error
        return _values(found, names)

    return objective


def _values(found: Any, names: tuple[str, ...]) -> tuple[float, ...]:
    """What an objective answered, as a finite number for each of its names."""
    several = found if isinstance(found, list | tuple) else (found,)
    if len(several) != len(names):
        raise got("objective", f"{len(several)} values", f"{len(names)}: {', '.join(names)}")
    values = []
    for name, value in zip(names, several, strict=True):
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise got(name, value, "a number") from None
        if not math.isfinite(number):
            raise got(name, number, "a finite number")
        values.append(number)
    return tuple(values)


def _over_rows(spec: StudySpec) -> tuple[Objective, int]:
    """Rows in three: learnt from, judged by while tuning, and untouched until the best are scored again. The two splits
    are of one kind: at random, by time or by group."""
    definition = spec.definition
    whole = pipeline_of(definition, {})
    rows = files.load(whole, spec.data)
    validation.validate(rows)
    data = whole.data
    outer = splitting.split(rows, whole.split, data.time, data.group)
    seen = rows._replace(frame=rows.frame[outer.train])
    inner = splitting.split(seen, whole.split, data.time, data.group)
    names = tuple(definition.objectives)
    _check_measured(names, rows.plan.task)

    def objective(task: Task, report: Report) -> tuple[float, ...]:
        chosen, sides = (rows, outer) if task.fresh else (seen, inner)
        asked = pipeline_of(definition, task.params, task.seed)
        began = time.monotonic()
        fitted = training.train(chosen, sides.train, asked, spec.code, _points(definition, report))
        took = time.monotonic() - began
        held_out = training.features_of(chosen, sides.test)
        truth = chosen.frame[chosen.plan.target][sides.test]
        judged = evaluation.evaluate(fitted, held_out, truth, training.meaning_of(chosen))
        found = {metric.name: metric.value for metric in judged.metrics} | {SECONDS: took}
        for name in names:
            if name not in found:
                raise got(f"objectives.{name}", "a metric these rows do not define", ", ".join(sorted(found)))
        return _values([found[name] for name in names], names)

    return objective, len(outer.test)


def _check_measured(names: tuple[str, ...], task: str) -> None:
    of_numbers = ("rmse", "mae", "r2")
    for name in names:
        if name != SECONDS and (name in of_numbers) != (task == "regression"):
            raise got(f"objectives.{name}", f"a metric of another task than {task}", "one of this task")


def _points(definition: StudyDefinition, report: Report) -> Callable[[int, dict[str, float]], None]:
    """The curve of a learner in the sense of the first objective: `val_accuracy` where that is to be large, else
    `val_loss`, with its sign turned where large is good. Both are of rows that learning only watches."""
    large = next(iter(definition.objectives.values())) == "maximise"
    told = 0

    def points(step: int, values: dict[str, float]) -> None:
        nonlocal told
        name = "val_accuracy" if large and "val_accuracy" in values else "val_loss"
        if name not in values or (told := told + 1) > MOST_POINTS:
            return
        value = -values[name] if large and name == "val_loss" else values[name]
        if report(step, value):
            raise Pruned

    return points
