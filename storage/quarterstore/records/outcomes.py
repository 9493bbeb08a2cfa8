"""Outcomes: what became of a prediction, joined to it later: its true label, or a number such as revenue."""

from __future__ import annotations

from quarterstore.records.base import Record


class ArmOutcome(Record, frozen=True):
    """What came of the answers of one version: over `n` of them with a value in time, its `mean` and `m2` (the sum of
    squared deviations from it), `successes` (values above 0), and how many have a `late` value only. Of labels a value
    is 1 where the prediction was right, else 0."""

    version: str
    n: int
    mean: float
    m2: float
    successes: int
    late: int
