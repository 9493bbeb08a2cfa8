"""Shares of rows: how far one lies below another, and with what interval."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.measures.proportions import fall, wilson


def test_the_fall_of_a_share_has_newcombes_interval() -> None:
    """Newcombe 1998, table II, (a) 56/70 - 48/80 and (h) 10/10 - 0/10, by method 10."""
    found = fall(56 / 70, *wilson(56, 70), hits=48, n=80)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    found = fall(1.0, *wilson(10, 10), hits=0, n=10)
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 0.6075, 1.0), abs=5e-5)


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_the_interval_holds_the_fall_and_narrows_with_rows(first: int, second: int, data: st.DataObject) -> None:
    before = data.draw(st.integers(0, first))
    hits = data.draw(st.integers(0, second))
    found = fall(before / first, *wilson(before, first), hits=hits, n=second)
    more = fall(before / first, *wilson(before, first), hits=4 * hits, n=4 * second)
    assert -1 - 1e-9 <= found.low <= found.value + 1e-12 <= found.high + 1e-9 <= 1 + 1e-6
    assert more.high - more.low <= found.high - found.low + 1e-12
