"""Outcomes: what became of a prediction, told afterwards, and what that makes of each arm."""

from __future__ import annotations

from quarterstore.records.base import Record


class ArmOutcome(Record, frozen=True):
    """The outcomes of one version under one metric: how many, their mean, the sum of their squared deviations from it
    (`m2`), how many were successes (1 of 0 or 1), and how many came late."""

    version: str
    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    successes: int = 0
    late: int = 0
