"""How far confidence is from being right: the expected calibration error (ECE) over bins of equal width.

ECE = sum over bins of n_b / n |right_b - confidence_b| (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017), ten bins,
(0, 0.1] … (0.9, 1], 0 in the first. With the sign of each bin's gap given it is the mean of sign_b (confidence - right)
over all rows, whose variance is that of the estimate. Fewer rows have a larger ECE by chance: compare equal numbers.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quarterstore.records.faults import got

BINS: Final = 10


class Calibration(NamedTuple):
    """ECE of n rows, and the variance of what it is the mean of."""

    ece: float
    variance: float
    n: int


def calibration(confidence: NDArray[Any], right: NDArray[Any], bins: int = BINS) -> Calibration:
    """ECE of n confidences in [0, 1] and whether each prediction was right. Raises `Invalid` for other values."""
    sure, hit = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if sure.shape != hit.shape or sure.ndim != 1 or not len(sure):
        raise got("confidence", f"shape {sure.shape}", f"one value for each of the rows {hit.shape}, at least one")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise got("confidence", f"{int((~((sure >= 0) & (sure <= 1))).sum())} outside 0 to 1", "0 to 1")
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = sure - hit
    signs = np.sign(np.bincount(place, gaps, minlength=bins))
    each = signs[place] * gaps
    return Calibration(float(each.mean()), float(each.var(ddof=1)) if len(each) > 1 else 0.0, len(each))
