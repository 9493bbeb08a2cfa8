"""What a trial does in its worker: a learner or training function judged on rows, or the objective of a person."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from quarterdeckd.learning import calling
from quarterdeckd.pipeline import evaluation, files, splitting, training, validation
from quarterdeckd.pipeline.crossing import Indices
from quarterdeckd.pipeline.tuning.messages import Task
from quarterdeckd.pipeline.tuning.trial import MOST_POINTS, Objective, Pruned, Report, Trial
from quarterstore.records.faults import Failed, got
from quarterstore.records.spaces import SECONDS
from quarterstore.records.studies import StudyDefinition, StudySpec, pipeline_of


class Sides(NamedTuple):
    """Rows, the numbers of those to search with, and of those that no trial sees."""

    rows: files.Rows
    searched: Indices
    untouched: Indices


def sides_of(spec: StudySpec) -> Sides:
    """The rows of a study read and split as those of a pipeline."""
    whole = pipeline_of(spec.definition, {})
    rows = files.load(whole, spec.data)
    validation.validate(rows)
    found = splitting.split(rows, whole.split, whole.data.time, whole.data.group)
    return Sides(rows, found.train, found.test)


def own(definition: StudyDefinition, code: Path) -> tuple[Objective, int]:
    """The objective of a person, which has no rows of ours; `code` is the folder of their files."""
    named = definition.objective or ""
    file = code / named.partition(":")[0]
    function = calling.function_of(named, file, "objective")
    names = tuple(definition.objectives)

    def objective(task: Task, report: Report) -> tuple[float, ...]:
        try:
            found = function(Trial(task, report))
        except Exception as error:
            if type(error).__name__ == "TrialPruned":  # Optuna's own, for code that was written for it
                raise Pruned from error
            raise Failed(f"{calling.where(error, file)}{type(error).__name__}: {error}", field=named) from error
        return _values(found, names)

    return objective, 0


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


def over_rows(definition: StudyDefinition, code: Path, sides: Sides) -> tuple[Objective, int]:
    """Rows in three: learnt from, judged by while searching, and untouched until the best are scored again. The second
    split is of the kind of the first; one by hash deals anew, as every row here is on one side of the first."""
    rows, data = sides.rows, pipeline_of(definition, {}).data
    seen = rows._replace(frame=rows.frame[sides.searched])
    first = definition.split
    second = replace(first, seed=first.seed ^ 1) if first.by == "hash" else first
    inner = splitting.split(seen, second, data.time, data.group)
    names = tuple(definition.objectives)
    _check_measured(names, rows.plan.task)

    def objective(task: Task, report: Report) -> tuple[float, ...]:
        chosen = rows if task.fresh else seen
        learnt, held = (sides.searched, sides.untouched) if task.fresh else (inner.train, inner.test)
        asked = pipeline_of(definition, task.params, task.seed)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as checkpoint:
            points = _points(definition, report)
            fitted = training.train(chosen, learnt, asked, code, points, Path(checkpoint))
        took = time.monotonic() - began
        answers = evaluation.answers_of(fitted, training.features_of(chosen, held))
        truth = chosen.frame[chosen.plan.target][held]
        judged = evaluation.evaluate(answers, truth, training.meaning_of(chosen))
        found = {metric.name: metric.value for metric in judged.metrics} | {SECONDS: took}
        for name in names:
            if name not in found:
                raise got(f"objectives.{name}", "a metric these rows do not define", ", ".join(sorted(found)))
        return _values([found[name] for name in names], names)

    return objective, len(sides.untouched)


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
