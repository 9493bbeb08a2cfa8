"""Two answers to the same rows: how far their scores lie apart, how the answers as a whole shifted, who changed class.

histogram   Differences d (after less before) in an odd number of equal bins over [-m, m], m the largest |d|, so that
            the middle bin holds those around 0; the last bin is closed.
shift       PSI of the answers, see `measures.drift.shift`: of numbers in deciles of those before where they are many,
            of anything else by value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quarterdeckd.measures.drift import shift

BINS: Final = 21
FEW: Final = 20
"""Different answers up to which numbers are classes to a PSI."""


class Apart(NamedTuple):
    """Mean and largest absolute difference, and rows by difference."""

    mean: float
    largest: float
    counts: tuple[int, ...]


def apart(before: NDArray[np.float64], after: NDArray[np.float64]) -> Apart | None:
    """How far two columns of n scores lie apart, over the rows where both are finite; None where there is none."""
    both = np.isfinite(before) & np.isfinite(after)
    found = after[both] - before[both]
    if not len(found):
        return None
    size = np.abs(found)
    reach = float(size.max())
    counts = np.histogram(found, bins=BINS, range=(-reach, reach))[0] if reach else np.eye(BINS)[BINS // 2] * len(found)
    return Apart(float(size.mean()), reach, tuple(int(count) for count in counts))


def shifted(before: Sequence[str], after: Sequence[str]) -> float:
    """PSI of n answers (texts, as they are recorded) against those before; n >= 1."""
    numbers = [_numbers(side) for side in (before, after)]
    if all(side is not None for side in numbers) and len(np.unique(np.concatenate(numbers))) > FEW:  # type: ignore[arg-type]
        return shift(*numbers)[0]  # type: ignore[arg-type]
    return shift(np.array(before, np.str_), np.array(after, np.str_))[0]


def flips(before: Sequence[str], after: Sequence[str], agree: Sequence[bool]) -> list[tuple[tuple[str, str], int]]:
    """From which answer to which the rows changed that do not agree, the most frequent first."""
    counted = Counter(pair for pair, same in zip(zip(before, after, strict=True), agree, strict=True) if not same)
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))


def _numbers(side: Sequence[str]) -> NDArray[np.float64] | None:
    try:
        found: NDArray[Any] = np.array(side, np.float64)
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None
