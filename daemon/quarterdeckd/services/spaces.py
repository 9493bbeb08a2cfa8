"""Whether a search space can be searched: bounds, choices, conditions, and the parameters that learners really have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from quarterdeckd.learning.parameters import LEARNERS
from quarterstore.records.faults import got
from quarterstore.records.misfits import unknown_name
from quarterstore.records.names import checked_text
from quarterstore.records.spaces import SECONDS, Parameter
from quarterstore.records.studies import StudyDefinition

METRICS = ("accuracy", "balanced accuracy", "f1", "log loss", "brier", "roc auc", "rmse", "mae", "r2", SECONDS)
"""What a trial over rows can be judged by."""
MOST_OBJECTIVES = 4
MOST_PARAMETERS = 100
MOST_CHOICES = 1000
FOREVER = 30 * 86_400.0
"""Seconds a study without a limit may take in all."""


def check_search(definition: StudyDefinition) -> StudyDefinition:
    """What is searched, for what and how far, with metrics by their own names; a fault names the field."""
    check_space(definition.space)
    check_numbers(definition)
    if not 1 <= len(definition.objectives) <= MOST_OBJECTIVES:
        raise got("objectives", f"{len(definition.objectives)} objectives", f"1 to {MOST_OBJECTIVES}")
    if len(definition.objectives) > 1 and definition.pruner != "none":
        raise got("pruner", definition.pruner, "none, because trials with several objectives cannot be compared midway")
    if definition.objective is not None:
        for name in definition.objectives:
            checked_text("objectives", name)
        return definition
    objectives = {name.replace("_", " "): goal for name, goal in definition.objectives.items()}
    for name in objectives:
        if name not in METRICS:
            raise unknown_name("objectives", name, METRICS)
    for field in ("run", "command", "interpreter"):
        if getattr(definition.train, field):
            raise got(f"train.{field}", "code in an environment of its own", "a learner or python: trials run in ours")
    if definition.train.python is None:
        check_learners(definition.space, definition.train.learner, definition.train.params)
    return replace(definition, objectives=objectives)


def check_numbers(definition: StudyDefinition) -> None:
    """Budget and re-scoring within what can be done."""
    budget, rescore = definition.budget, definition.rescore
    for field, value, least, most in (
        ("budget.trials", budget.trials, 1, 100_000),
        ("budget.workers", budget.workers, 1, 64),
        ("budget.trial_seconds", budget.trial_seconds, 0.1, FOREVER),
        ("budget.trial_memory", budget.trial_memory, 2**20, 2**50),
        ("budget.within", budget.within, 1.0, FOREVER),
        ("rescore.top", rescore.top, 0, 100),
        ("rescore.seeds", rescore.seeds, 1, 100),
        ("seed", definition.seed, 0, 2**31 - 1),
    ):
        if value is not None and not (math.isfinite(value) and least <= value <= most):
            raise got(field, value, f"{least:g} to {most:g}")


def check_space(space: dict[str, Parameter]) -> None:
    """Raise `Invalid` naming the first parameter that cannot be searched."""
    if not 1 <= len(space) <= MOST_PARAMETERS:
        raise got("space", f"{len(space)} parameters", f"1 to {MOST_PARAMETERS}")
    for name, parameter in space.items():
        checked_text("space", name)
        if parameter.kind == "choice":
            _check_choices(name, parameter)
        else:
            _check_range(name, parameter)
    for name in space:
        _check_when(name, space)


def check_learners(space: dict[str, Parameter], learner: str, fixed: Iterable[str]) -> None:
    """Every parameter must be one of each learner it can come to, and of its kind; `fixed` are those of `train`."""
    chooser = space.get("learner")
    if chooser is not None and (chooser.kind != "choice" or chooser.when):
        raise got("space.learner", chooser.kind if not chooser.when else "a condition", "a choice without when")
    learners = [learner] if chooser is None else [str(choice) for choice in chooser.choices]
    for each in learners:
        if each not in LEARNERS:
            raise unknown_name("train.learner" if chooser is None else "space.learner.choices", each, LEARNERS)
    for name, parameter in space.items():
        if name == "learner":
            continue
        for each in _reached(parameter, learners):
            if name not in LEARNERS[each]:
                raise unknown_name(f"space.{name} ({each})", name, LEARNERS[each])
            _check_like(f"space.{name}", parameter, LEARNERS[each][name])
    for name in fixed:
        if name in space:
            raise got(f"train.params.{name}", "a parameter of the space as well", "one of them")


def _check_choices(name: str, parameter: Parameter) -> None:
    if not 1 <= len(parameter.choices) <= MOST_CHOICES:
        raise got(f"space.{name}.choices", f"{len(parameter.choices)} choices", f"1 to {MOST_CHOICES}")
    if len({repr(choice) for choice in parameter.choices}) < len(parameter.choices):
        raise got(f"space.{name}.choices", "a choice twice", "each choice once")
    for field in ("low", "high", "step"):
        if getattr(parameter, field) is not None:
            raise got(f"space.{name}.{field}", getattr(parameter, field), "nothing: a choice has choices only")


def _check_range(name: str, parameter: Parameter) -> None:
    place, low, high, step = f"space.{name}", parameter.low, parameter.high, parameter.step
    if parameter.choices:
        raise got(f"{place}.choices", "choices", f"nothing: a {parameter.kind} has low and high")
    for field, bound in (("low", low), ("high", high)):
        if bound is None or not math.isfinite(bound):
            raise got(f"{place}.{field}", "nothing" if bound is None else bound, "a finite number")
        if parameter.kind == "int" and not float(bound).is_integer():
            raise got(f"{place}.{field}", bound, "an integer")
    assert low is not None and high is not None
    if low > high:
        raise got(f"{place}.low", low, f"at most high ({high:g})")
    if parameter.log and low <= 0:
        raise got(f"{place}.low", low, "above 0, because log is true")
    if step is None:
        return
    if parameter.log:
        raise got(f"{place}.step", step, "nothing, because log is true")
    if not math.isfinite(step) or step <= 0 or (parameter.kind == "int" and not float(step).is_integer()):
        raise got(f"{place}.step", step, "a positive " + ("integer" if parameter.kind == "int" else "number"))


def _check_when(name: str, space: dict[str, Parameter]) -> None:
    """Conditions name other parameters and values those can have, and lead to no circle."""
    for other, wanted in space[name].when.items():
        place = f"space.{name}.when"
        if other not in space or other == name:
            raise unknown_name(place, other, [each for each in space if each != name])
        parent = space[other]
        if parent.kind == "float":
            raise got(f"{place}.{other}", "a float", "a choice or an int to depend on")
        for value in values_of(wanted):
            if not _possible(parent, value):
                known = parent.choices or (f"{parent.low:g} to {parent.high:g}",)
                raise unknown_name(f"{place}.{other}", str(value), [str(each) for each in known])
    above, seen = list(space[name].when), set()
    while above:
        if (each := above.pop()) == name:
            raise got(f"space.{name}.when", "a circle", "conditions that end at a parameter without one")
        if each not in seen and each in space:
            seen.add(each)
            above += space[each].when


def values_of(wanted: Any) -> tuple[Any, ...]:
    """What a condition allows: one value, or several."""
    return tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,)


def _possible(parent: Parameter, value: Any) -> bool:
    if parent.kind == "choice":
        return any(type(value) is type(choice) and value == choice for choice in parent.choices)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and parent.low is not None and parent.high is not None and parent.low <= value <= parent.high


def _reached(parameter: Parameter, learners: list[str]) -> list[str]:
    """The learners with which a parameter can come up."""
    wanted = parameter.when.get("learner")
    return learners if wanted is None else [each for each in learners if each in values_of(wanted)]


def _check_like(place: str, parameter: Parameter, default: Any) -> None:
    """A parameter's values must be of the kind that the learner takes."""
    if parameter.kind == "choice":
        for choice in parameter.choices:
            fits = isinstance(choice, list | tuple) if isinstance(default, list) else _number_like(choice, default)
            if not fits:
                raise got(f"{place}.choices", choice, f"values like {default!r}")
    elif isinstance(default, list) or (isinstance(default, int) and parameter.kind == "float"):
        raise got(f"{place}.kind", parameter.kind, f"int or choice, for values like {default!r}")


def _number_like(choice: Any, default: Any) -> bool:
    allowed = (int, float) if isinstance(default, float) else type(default)
    return isinstance(choice, allowed) and not isinstance(choice, bool)
