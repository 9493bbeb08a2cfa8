"""Whether a model errs alike for all groups: the equalised odds difference (Hardt, Price and Srebro 2016).

For each class, taken against the rest, the share of rows of the class that are predicted as it (TPR) and the share of
the other rows that are (FPR); the difference is the largest one between two groups, over both rates and all classes. Of
two classes it is what fairlearn calls `equalized_odds_difference`, but for a group without rows of a kind: its rate is
not 0 here, it is too few to say.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quarterstore.records.faults import got

MOST_GROUPS: Final = 20
MOST_CLASSES: Final = 20


class Rate(NamedTuple):
    """A rate of one group on the rows it is of."""

    group: str
    n: int
    value: float


class Odds(NamedTuple):
    """The largest difference and the two rates it is between; `fewest` is the smallest group behind any rate."""

    difference: float
    high: Rate
    low: Rate
    fewest: Rate


def equalised_odds(truth: NDArray[Any], predicted: NDArray[Any], groups: NDArray[Any]) -> Odds:
    """Of n rows: the true class, the predicted one and the group, as texts. Raises `Invalid` for fewer than two groups
    or classes, or more than 20."""
    known, classes = np.unique(groups), np.unique(truth)
    if not 2 <= len(known) <= MOST_GROUPS:
        raise got("groups", f"{len(known)} groups", f"2 to {MOST_GROUPS}")
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise got("classes", f"{len(classes)} classes", f"2 to {MOST_CLASSES}")
    found: list[Odds] = []
    for one in classes:
        said = predicted == one
        for among in (truth == one, truth != one):
            rates = [_rate(str(group), said, among & (groups == group)) for group in known]
            high, low = max(rates, key=lambda rate: rate.value), min(rates, key=lambda rate: rate.value)
            found.append(Odds(high.value - low.value, high, low, min(rates, key=lambda rate: rate.n)))
    worst = max(found, key=lambda odds: odds.difference)
    return worst._replace(fewest=min((odds.fewest for odds in found), key=lambda rate: rate.n))


def _rate(group: str, said: NDArray[np.bool_], those: NDArray[np.bool_]) -> Rate:
    n = int(those.sum())
    return Rate(group, n, float(said[those].mean()) if n else 0.0)
