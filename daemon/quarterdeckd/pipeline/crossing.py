"""What of the rows to learn from is known on the held-out side too: later times, the same entities, equal rows."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quarterstore.records.names import drawn

Indices = NDArray[np.int64]


def crossings(
    same: Indices, at: NDArray[np.float64] | None, groups: pl.Series | None, train: Indices, test: Indices
) -> tuple[str, ...]:
    """A sentence with its counts for each kind of leak between two sides; empty where there is none.

    same: a number a row, equal for equal rows. at: the time of each row in seconds. groups: the entity of each row,
    null where there is none. train, test: row numbers.
    """
    found: list[str] = []
    if at is not None:
        later = int((at[train] >= at[test].min()).sum())
        if later:
            found.append(f"{later:,} of {len(train):,} rows to learn from are not before the first held-out one")
    if groups is not None:
        learnt, held = (set(groups[side].drop_nulls().unique().to_list()) for side in (train, test))
        both = learnt & held
        if both:
            one = drawn(_named(min(both, key=str)), longest=40)
            found.append(f"{len(both):,} of {len(held):,} held-out {groups.name} are learnt from too ({one})")
    equal = int(np.isin(same[test], same[train]).sum())
    if equal:
        found.append(f"{equal:,} of {len(test):,} held-out rows are equal to learnt ones")
    return tuple(found)


def _named(entity: object) -> str:
    """An entity as its file has it: a column of whole numbers is read as floating-point ones."""
    return f"{entity:.0f}" if isinstance(entity, float) and entity.is_integer() else str(entity)
