"""What a model looks at: by how much it is worse when one feature is shuffled among the rows (permutation importance,
Breiman 2001; Fisher, Rudin and Dominici 2019), with the spread over the shuffles.

Of features that say the same, each is unimportant: the other one still says it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

SHUFFLES: Final = 5
WORK: Final = 40_000
"""Rows that are answered for it at most."""
FEWEST: Final = 100
MOST_FEATURES: Final = WORK // (SHUFFLES * FEWEST)


class Importance(NamedTuple):
    """The mean loss of a feature over its shuffles, and their standard deviation."""

    feature: str
    loss: float
    spread: float


def importance(
    frame: pl.DataFrame,
    answer: Callable[[pl.DataFrame], NDArray[np.float64]],
    score: Callable[[NDArray[np.float64], NDArray[np.int64]], float],
    seed: int = 7,
) -> tuple[tuple[Importance, ...], int]:
    """Each feature of a frame, the most important first, and the rows it was measured on.

    answer: a frame to n x k or n answers. score: answers and the row numbers they are of to a figure that is higher
    where the model is better. Nothing beyond `MOST_FEATURES` features.
    """
    names = frame.columns
    if not names or len(names) > MOST_FEATURES:
        return (), 0
    rng = np.random.default_rng(seed)
    most = max(FEWEST, WORK // (SHUFFLES * len(names)))
    chosen = np.arange(frame.height) if frame.height <= most else np.sort(rng.permutation(frame.height)[:most])
    rows, n = frame[chosen], len(chosen)
    whole = score(answer(rows), chosen)
    found = []
    for name in names:
        orders = [rng.permutation(n) for _ in range(SHUFFLES)]
        shuffled = pl.concat([rows.with_columns(rows[name][order].alias(name)) for order in orders])
        answers = answer(shuffled)
        losses = np.array([whole - score(answers[i * n : (i + 1) * n], chosen) for i in range(SHUFFLES)])
        found.append(Importance(name, float(losses.mean()), float(losses.std(ddof=1))))
    return tuple(sorted(found, key=lambda one: -one.loss)), n
