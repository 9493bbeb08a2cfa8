"""What is on both sides is named as its file has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from quarterdeckd.pipeline.crossing import crossings


@pytest.mark.parametrize(
    ("values", "named"),
    [([0.0, 1.0, 0.0], "0"), ([12.5, 1.0, 12.5], "12.5"), (["north", "south", "north"], "north"), ([7, 8, 7], "7")],
)
def test_a_group_that_is_on_both_sides_is_named_as_it_is_written(values: list[Any], named: str) -> None:
    """A column of whole numbers is read as floating-point ones: it once was group `0.0`."""
    sides = np.array([0, 1]), np.array([2])
    (said,) = crossings(np.array([1, 2, 3]), None, pl.Series("house", values), *sides)
    assert said == f"1 of 1 held-out house are learnt from too ({named})"
