"""Columns to numbers for a network: medians for what is missing, one place a category; the same in numpy and in
ONNX."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterdeckd.learning.fitted import Floats, Meaning, matrix


class Encoding(NamedTuple):
    """Learnt from the training rows: the numbers in order with median, mean and spread (all float32), and the
    categories of each text in order. A category that was not seen is all zeros."""

    numbers: list[str]
    median: Floats
    mean: Floats
    spread: Floats
    categories: dict[str, list[str]]

    @property
    def width(self) -> int:
        """Columns of the encoded matrix: the numbers, then one per category."""
        return len(self.numbers) + sum(map(len, self.categories.values()))


def learn_encoding(frame: pl.DataFrame, meaning: Meaning) -> Encoding:
    """Medians without the missing ones; a column without spread is divided by one."""
    x = matrix(frame, meaning.numbers)
    with np.errstate(all="ignore"):
        known = np.isfinite(x).any(axis=0)
        median = np.where(known, np.nanmedian(np.where(known, x, 0.0), axis=0), 0.0).astype(np.float32)
    filled = np.where(np.isnan(x), median, x)
    spread = filled.std(axis=0, dtype=np.float64)
    return Encoding(
        meaning.numbers,
        median,
        filled.mean(axis=0, dtype=np.float64).astype(np.float32),
        np.where(spread > 0, spread, 1.0).astype(np.float32),
        {name: sorted(frame[name].unique().to_list()) for name in meaning.texts},
    )


def encode(frame: pl.DataFrame, encoding: Encoding) -> Floats:
    """n x width single precision: (number or median - mean) / spread, then a one in the place of each category."""
    x = matrix(frame, encoding.numbers)
    parts: list[NDArray[np.float32]] = [(np.where(np.isnan(x), encoding.median, x) - encoding.mean) / encoding.spread]
    for name, categories in encoding.categories.items():
        parts.append((frame[name].to_numpy()[:, None] == np.array(categories, dtype=object)).astype(np.float32))
    return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)
