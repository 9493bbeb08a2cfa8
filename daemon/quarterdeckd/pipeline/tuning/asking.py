"""Optuna's side of a study: its journal file with one owner, and parameters asked for as a pure function of seed,
number and what came before."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.importance import get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from quarterdeckd.pipeline.tuning.messages import Done
from quarterstore.records.spaces import Parameter
from quarterstore.records.studies import StudyDefinition, StudyTrial, sampler_of

JOURNAL = "optuna.log"
STATES = {TrialState.COMPLETE: "COMPLETE", TrialState.PRUNED: "PRUNED", TrialState.FAIL: "FAILED"}
FEWEST = 10
"""Complete trials below which nothing is said of importance."""


class Search:
    """The study in a folder, made or found again. Whoever makes one is its one owner: what a killed owner left half
    written or locked is put right."""

    def __init__(self, folder: Path, name: str, definition: StudyDefinition) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._definition = definition
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / JOURNAL
        _mended(path)
        self._storage = JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))
        asha = definition.pruner == "asha"
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            directions=[goal.replace("ise", "ize") for goal in definition.objectives.values()],
            pruner=optuna.pruners.SuccessiveHalvingPruner() if asha else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )

    def ask(self) -> optuna.Trial:
        """A new trial, in the journal before it runs."""
        self._study.sampler = _sampler(self._definition, len(self._study.get_trials(deepcopy=False)))
        return self._study.ask()

    def lost(self) -> list[optuna.Trial]:
        """Trials that ran when their owner was killed, to run again: of the same numbers, with the same parameters."""
        found = []
        for each in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.sampler = _sampler(self._definition, each.number)
            found.append(optuna.Trial(self._study, each._trial_id))
        return found

    def report(self, trial: optuna.Trial, step: int, value: float) -> bool:
        """Keep a point of a trial's curve; whether others were better there (successive halving: Li et al. 2020)."""
        self._storage.set_trial_intermediate_value(trial._trial_id, step, value)
        return self._definition.pruner != "none" and self._study.pruner.prune(
            self._study, self._storage.get_trial(trial._trial_id)
        )

    def tell(self, trial: optuna.Trial, done: Done, seconds: float) -> StudyTrial:
        """How a trial ended."""
        trial.set_user_attr("seconds", round(seconds, 4))
        if done.error is not None:
            trial.set_user_attr("error", done.error)
            self._study.tell(trial, state=TrialState.FAIL)
        elif done.pruned:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, list(done.values))
        return _ended(self._storage.get_trial(trial._trial_id), self._definition)

    def ended(self) -> list[StudyTrial]:
        """Every trial that ended."""
        found = self._study.get_trials(deepcopy=False, states=tuple(STATES))
        return [_ended(each, self._definition) for each in found]

    def importance(self) -> dict[str, float]:
        """The share of each parameter in reaching the best tenth of the values, conditional ones included (PED-ANOVA:
        Watanabe, Bansal and Hutter 2023); nothing below ten complete trials, where it says nothing."""
        if len(self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < FEWEST:
            return {}
        shares = get_param_importances(self._study)
        return {name: round(float(share), 6) for name, share in shares.items() if math.isfinite(share)}


def _mended(path: Path) -> None:
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    if path.exists():
        whole = path.read_bytes().rfind(b"\n") + 1
        with path.open("r+b") as file:
            file.truncate(whole)


def _sampler(definition: StudyDefinition, number: int) -> optuna.samplers.BaseSampler:
    """A sampler of one trial: seeded by its number, so that a resumed study goes on as if it had not been killed."""
    kind = sampler_of(definition)
    seed = int(np.random.SeedSequence([definition.seed, number]).generate_state(1)[0])
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if kind == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=_population(definition))
    return optuna.samplers.TPESampler(seed=seed, constant_liar=definition.budget.workers > 1)


def _population(definition: StudyDefinition) -> int:
    """Five generations at least, of 4 to 50 trials (Deb et al. 2002 evolve 500 generations of 100)."""
    return max(4, min(50, definition.budget.trials // 5))


def suggested(trial: optuna.Trial, space: dict[str, Parameter]) -> dict[str, Any]:
    """The parameters of a trial: those whose condition holds, each after the ones it depends on."""
    found: dict[str, Any] = {}
    waiting = dict(space)
    while waiting:
        for name, parameter in list(waiting.items()):
            if any(other in waiting for other in parameter.when):
                continue
            del waiting[name]
            if _holds(parameter, found):
                found[name] = _suggested(trial, name, parameter)
    return found


def _holds(parameter: Parameter, found: dict[str, Any]) -> bool:
    for other, wanted in parameter.when.items():
        allowed = wanted if isinstance(wanted, tuple) else (wanted,)
        if other not in found or not any(found[other] == value for value in allowed):
            return False
    return True


def _suggested(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    if parameter.kind == "choice":
        by_label = {_label(choice): choice for choice in parameter.choices}
        chosen = by_label[trial.suggest_categorical(name, list(by_label))]
        return list(chosen) if isinstance(chosen, tuple) else chosen
    assert parameter.low is not None and parameter.high is not None
    if parameter.kind == "int":
        step = int(parameter.step or 1)
        return trial.suggest_int(name, int(parameter.low), int(parameter.high), step=step, log=parameter.log)
    return trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)


def _label(choice: Any) -> Any:
    """A choice as Optuna keeps it: a list as its JSON."""
    return json.dumps(choice) if isinstance(choice, tuple) else choice


def _ended(trial: FrozenTrial, definition: StudyDefinition) -> StudyTrial:
    """A trial of the journal as a record."""
    params = dict(trial.params)
    for name, value in params.items():
        kept = trial.distributions[name]
        if isinstance(kept, CategoricalDistribution) and name in definition.space:
            by_label = {_label(choice): choice for choice in definition.space[name].choices}
            chosen = by_label.get(value, value)
            params[name] = list(chosen) if isinstance(chosen, tuple) else chosen
    return StudyTrial(
        number=trial.number,
        state=STATES[trial.state],  # type: ignore[arg-type]
        params=params,
        values=tuple(trial.values) if trial.state == TrialState.COMPLETE else (),
        curve=tuple((step, value) for step, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)),
        seconds=trial.user_attrs.get("seconds", 0.0),
        error=trial.user_attrs.get("error"),
    )
