"""A study's job: asks for trials, gives them to workers, prunes and tells, then scores the best again."""

from __future__ import annotations

import functools
import importlib
import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import optuna

from quarterdeckd.pipeline.progress import Report
from quarterdeckd.pipeline.sources import laid
from quarterdeckd.pipeline.tuning.asking import Search, suggested
from quarterdeckd.pipeline.tuning.messages import Broken, Done, Ready, Reported, Said, Task, Verdict
from quarterdeckd.pipeline.tuning.pool import Lost, Pool, Worker
from quarterdeckd.pipeline.tuning.serving import serve
from quarterdeckd.pipeline.tuning.trial import Objective
from quarterdeckd.pipeline.watch import beat_alone
from quarterstore.records import studies
from quarterstore.records.faults import Failed, FaultRecord, raised
from quarterstore.records.studies import Rescored, StudyDefinition, StudyResult, StudySpec, StudyTrial
from quarterstore.shelf.artefacts import Artefacts

if TYPE_CHECKING:
    from quarterdeckd.pipeline.tuning.objective import Sides

NICE = 10
"""A study takes every core it is given, behind whoever asks or is answered."""
LOOK = 0.2
"""Seconds between two looks at the limits of trials."""
TRIALS = "trials.jsonl"


class Fresh(NamedTuple):
    """One training of a trial that is scored again: which, and with which of the fresh seeds."""

    trial: int
    seed: int


def run(spec: StudySpec, report: Report) -> StudyResult:
    """The study of a job of its own, in the job's folder."""
    beat_alone()
    code = laid(Path("code"), spec.sources, Artefacts(Path(spec.store), Path(spec.store)))

    def sides() -> Sides:
        from quarterdeckd.pipeline.tuning.objective import sides_of

        return sides_of(spec)

    return searched(spec, report, code.absolute(), sides)


def searched(spec: StudySpec, report: Report, code: Path, sides: Callable[[], Sides]) -> StudyResult:
    """Search until the budget is used, then score the best again. Optuna's journal in `spec.folder` is written by this
    process alone; with one worker the same definition gives the same trials, also over kills and resumes. `code` is
    the folder of the user's own files; `sides` is called in each worker, once."""
    definition, budget = spec.definition, spec.definition.budget

    def prepared() -> tuple[Objective, int]:
        # in the worker: with what is imported there come threads of Polars, and the owner forks
        from quarterdeckd.pipeline.tuning.objective import over_rows, own

        return own(definition, code) if definition.objective is not None else over_rows(definition, code, sides())

    os.nice(NICE)
    _warm(definition)
    began = time.monotonic()
    serving = functools.partial(serve, definition, prepared)
    with Tuning(spec, report) as tuning:
        with Pool(min(budget.workers, budget.trials), serving, budget) as pool:
            tuning.search(pool)
            best = tuning.rescored(pool)
        return tuning.result(best, time.monotonic() - began)


def _warm(definition: StudyDefinition) -> None:
    """Load what takes long before workers are forked. Only what starts no thread: Polars does as it is loaded, and a
    process of several is not to be forked."""
    if definition.objective is not None or definition.train.python is not None:
        return
    chooser = definition.space.get("learner")
    learners = chooser.choices if chooser is not None else (definition.train.learner,)
    for name in dict.fromkeys("torch" if learner == "mlp" else "sklearn.ensemble" for learner in learners):
        importlib.import_module(name)


class Tuning:
    """The owner of one study: its journal, the trials that run, the file that readers look at."""

    def __init__(self, spec: StudySpec, report: Report) -> None:
        self._definition, self._report = spec.definition, report
        folder = Path(spec.folder)
        self._search = Search(folder, spec.study, spec.definition)
        self._trials = self._search.ended()
        self._file = _written(folder / TRIALS, self._trials)
        self._running: dict[int, optuna.Trial] = {}
        self._lost = deque(self._search.lost())
        self._again: set[int] = set()
        """Trials whose worker was killed once: they run again, once."""
        self._until = time.monotonic() + (spec.definition.budget.within or math.inf)
        self._untouched = 0

    def __enter__(self) -> Tuning:
        return self

    def __exit__(self, *gone: object) -> None:
        self._file.close()

    def search(self, pool: Pool) -> None:
        """Until as many trials ended as the budget has, or its time is over and those that run have ended."""
        self._tell()
        while True:
            for worker in pool.idle():
                trial = self._next()
                if trial is None:
                    break
                params = suggested(trial, self._definition.space)
                self._running[trial.number] = trial
                worker.give(Task(trial.number, params, self._definition.seed))
            if not self._running and not self._due() and not pool.busy():
                return
            for worker, words in pool.heard(LOOK):
                self._heard(worker, words)

    def _due(self) -> bool:
        """Whether another trial is to be begun."""
        begun = len(self._trials) + len(self._running)
        return bool(self._lost) or (begun < self._definition.budget.trials and time.monotonic() < self._until)

    def _next(self) -> optuna.Trial | None:
        if not self._due():
            return None
        return self._lost.popleft() if self._lost else self._search.ask()

    def _heard(self, worker: Worker, words: Said | Lost) -> None:
        task, news = worker.task, self._of_trial(worker, words)
        if news is None or task is None:
            return
        trial = self._running[task.number]
        if isinstance(news, Reported):
            prune = self._search.report(trial, news.step, news.value)
            if self._definition.pruner != "none":
                worker.give(Verdict(prune))
            return
        del self._running[task.number]
        if isinstance(news, Lost) and news.why is None and task.number not in self._again:
            self._again.add(task.number)
            self._lost.append(trial)
            return
        worker.task = None
        found = self._search.tell(trial, _done(news), time.monotonic() - worker.since)
        self._trials.append(found)
        self._file.write(msgspec.json.encode(found) + b"\n")
        self._tell()

    def _of_trial(self, worker: Worker, words: Said | Lost) -> Reported | Done | Lost | None:
        """What was said of a trial; `None` of a worker that is ready now. Raises what no trial can be run with."""
        if isinstance(words, Broken):
            raise raised(FaultRecord(kind=words.kind, message=words.message, field=words.field))
        if isinstance(words, Lost) and not worker.ready:
            raise Failed(f"a worker could not be made ready: {words.words()}", field="study")
        if isinstance(words, Ready):
            worker.ready, self._untouched = True, words.untouched
            return None
        return words

    def _tell(self) -> None:
        ended, budget = len(self._trials), self._definition.budget
        words = f"{ended:,} of {budget.trials:,} trials"
        for trial in studies.best(self._definition, self._trials, 1):
            name = next(iter(self._definition.objectives))
            words += f", best {name} {trial.values[0]:.6g} (trial {trial.number})"
        self._report.progress("tune", min(1.0, ended / budget.trials), words)

    def rescored(self, pool: Pool) -> tuple[Rescored, ...]:
        """The best trials trained again with fresh seeds: on all rows of the search, judged on those untouched."""
        definition = self._definition
        several = len(definition.objectives) > 1
        front = studies.pareto(definition, self._trials) if several else None
        chosen = (front or studies.best(definition, self._trials, definition.rescore.top))[: definition.rescore.top]
        seeds = [_fresh_seed(definition.seed, place) for place in range(definition.rescore.seeds)]
        waiting = deque(Fresh(trial.number, seed) for trial in chosen for seed in seeds)
        found: dict[int, list[Done]] = {trial.number: [] for trial in chosen}
        params = {trial.number: trial.params for trial in chosen}
        expected = len(waiting)
        while sum(map(len, found.values())) < expected:
            for worker in pool.idle():
                if waiting:
                    fresh = waiting.popleft()
                    worker.give(Task(fresh.trial, params[fresh.trial], fresh.seed, fresh=True))
            for worker, words in pool.heard(LOOK):
                task, news = worker.task, self._of_trial(worker, words)
                if news is None or task is None or isinstance(news, Reported):
                    continue
                worker.task = None
                found[task.number].append(_done(news))
                done = sum(map(len, found.values()))
                self._report.progress("rescore", done / expected, f"{done} of {expected} on rows that no trial saw")
        return tuple(_rescored(trial, found[trial.number], self._untouched) for trial in chosen)

    def result(self, best: tuple[Rescored, ...], seconds: float) -> StudyResult:
        """What was found, in figures and one sentence."""
        counts = {
            state: sum(trial.state == state for trial in self._trials) for state in ("COMPLETE", "PRUNED", "FAILED")
        }
        return StudyResult(
            complete=counts["COMPLETE"],
            pruned=counts["PRUNED"],
            failed=counts["FAILED"],
            best=best,
            importance=self._search.importance(),
            order_dependent=self._definition.budget.workers > 1,
            seconds=round(seconds, 3),
            words=_words(self._definition, self._trials, best),
        )


def _done(news: Done | Lost) -> Done:
    return news if isinstance(news, Done) else Done(error=news.words())


def _written(path: Path, trials: list[StudyTrial]) -> Any:
    """The readers' file, made again from the journal, open for what ends from now on: one write a line."""
    path.with_suffix(".part").write_bytes(b"".join(msgspec.json.encode(trial) + b"\n" for trial in trials))
    os.replace(path.with_suffix(".part"), path)
    return path.open("ab", buffering=0)


def _fresh_seed(seed: int, place: int) -> int:
    """One that no trial was run with."""
    return int(np.random.SeedSequence([seed, 2**32 - 1, place]).generate_state(1)[0] % (2**31 - 1))


def _rescored(trial: StudyTrial, found: list[Done], untouched: int) -> Rescored:
    good = np.array([done.values for done in found if done.error is None and not done.pruned])
    errors = [done.error for done in found if done.error is not None]
    return Rescored(
        trial=trial.number,
        params=trial.params,
        tuned=trial.values,
        honest=tuple(good.mean(axis=0).tolist()) if len(good) else (),
        low=tuple(good.min(axis=0).tolist()) if len(good) else (),
        high=tuple(good.max(axis=0).tolist()) if len(good) else (),
        seeds=len(good),
        untouched=untouched,
        error=errors[0] if errors else None,
    )


def _words(definition: StudyDefinition, trials: list[StudyTrial], best: tuple[Rescored, ...]) -> str:
    if not best:
        return _without_best(trials)
    ended = len(trials)
    first, name = best[0], next(iter(definition.objectives))
    words = f"{ended:,} trials; trial {first.trial}: {name} {first.tuned[0]:.4g} tuned"
    if not first.honest:
        return f"{words}, not scored again: {first.error}"
    where = f"on {first.untouched:,} rows that no trial saw" if first.untouched else "by its own rows"
    words += (
        f", {first.honest[0]:.4g} ({first.low[0]:.4g} to {first.high[0]:.4g}) with {first.seeds} fresh seeds {where}"
    )
    return words + ("; order-dependent: several workers" if definition.budget.workers > 1 else "")


def _without_best(trials: list[StudyTrial]) -> str:
    """How many trials ended how where none ended well, and what most of them failed of."""
    failed = [trial.error or "no reason" for trial in trials if trial.state == "FAILED"]
    pruned = sum(trial.state == "PRUNED" for trial in trials)
    words = f"{len(trials):,} trials, none ended well: {pruned:,} pruned, {len(failed):,} failed"
    if not failed:
        return words
    [(error, count)] = Counter(failed).most_common(1)
    return f"{words}; {count:,} of them: {error}"
