"""What an objective is given and how it ends: words of a study and of its workers, without what those load."""

from __future__ import annotations

from collections.abc import Callable

from quarterdeckd.pipeline.tuning.messages import Task
from quarterstore.records.faults import got

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
Prepared = Callable[[], tuple[Objective, int]]
"""Makes the objective in a worker, and says how many rows no trial sees; raises what every trial would end with."""
