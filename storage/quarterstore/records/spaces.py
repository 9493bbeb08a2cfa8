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
    """What is drawn."""
    low: float | None = None
    """The lowest, included."""
    high: float | None = None
    """The highest, included."""
    log: bool = False
    """Drawn by the logarithm."""
    step: float | None = None
    """Only multiples of it from `low` on."""
    choices: tuple[Scalar | tuple[Scalar, ...], ...] = ()
    """What is chosen of."""
    when: dict[str, Scalar | tuple[Scalar, ...]] = {}
    """Other parameter -> the values of it for which this one is there."""


class Budget(Record, frozen=True):
    """`[budget]`: how many trials end, seconds after which none is begun, seconds and bytes of memory that one may
    take, trials at once."""

    trials: int = 100
    """Trials that end, in all."""
    within: float | None = None
    """Seconds after which no trial is begun."""
    trial_seconds: float = 600.0
    """Seconds that one may take."""
    trial_memory: int = 8 * 1024**3
    """Bytes of memory that one may take."""
    workers: int = 1
    """Trials at once; with one the same study gives the same trials."""


class Rescoring(Record, frozen=True):
    """`[rescore]`: the best `top` trials are trained again with `seeds` fresh seeds and scored on untouched rows."""

    top: int = 3
    """How many of the best are trained again."""
    seeds: int = 3
    """With how many fresh seeds each."""


class TuneSection(Record, frozen=True):
    """`[tune]`: the step before `train` that searches parameters for it."""

    objectives: dict[str, Goal]
    """Metric -> maximise or minimise; the first decides."""
    space: dict[str, Parameter]
    """Parameter -> what is searched of it."""
    sampler: Literal["tpe", "random", "nsga2"] | None = None
    """`tpe` for one objective, `nsga2` for several, unless given."""
    pruner: Literal["none", "asha"] = "none"
    """Whether trials that go badly are ended early."""
    seed: int = 7
    """What trials are drawn with."""
    budget: Budget = Budget()
    """How far."""
    rescore: Rescoring = Rescoring()
    """How the best are looked at again."""
