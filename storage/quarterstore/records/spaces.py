"""What is searched, for what, how far and how: the sections that a study and the step `tune` have in common."""

from __future__ import annotations

from typing import Literal

from quarterstore.records.base import Record

Goal = Literal["maximise", "minimise"]
Scalar = bool | int | float | str
SECONDS = "seconds"
"""The objective that is the time a trial took to train."""


class Parameter(Record, frozen=True):
    """`[space.NAME]`: a number between `low` and `high` (both included), by its logarithm or in steps where asked, or
    one of `choices`; with `when` only where every other parameter it names has one of the values it gives."""

    kind: Literal["float", "int", "choice"]
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Scalar | tuple[Scalar, ...], ...] = ()
    when: dict[str, Scalar | tuple[Scalar, ...]] = {}


class Budget(Record, frozen=True):
    """`[budget]`: how many trials end, seconds after which none is begun, seconds and bytes of memory that one may
    take, trials at once."""

    trials: int = 100
    within: float | None = None
    trial_seconds: float = 600.0
    trial_memory: int = 8 * 1024**3
    workers: int = 1


class Rescoring(Record, frozen=True):
    """`[rescore]`: the best `top` trials are trained again with `seeds` fresh seeds and scored on untouched rows."""

    top: int = 3
    seeds: int = 3


class TuneSection(Record, frozen=True):
    """`[tune]`: the step before `train` that searches parameters for it."""

    objectives: dict[str, Goal]
    space: dict[str, Parameter]
    sampler: Literal["tpe", "random", "nsga2"] | None = None
    """`tpe` for one objective, `nsga2` for several, unless given."""
    pruner: Literal["none", "asha"] = "none"
    seed: int = 7
    budget: Budget = Budget()
    rescore: Rescoring = Rescoring()
