"""The histogram of latencies: quantiles within a bucket of the truth, and sums that lose nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.measures import latency
from quarterstore.records.faults import Fault

times = st.lists(st.floats(0.001, 20_000), min_size=1, max_size=300)


def histogram(values: list[float]) -> list[int]:
    """Of these milliseconds."""
    found = latency.empty()
    for value in values:
        found[latency.bucket(value)] += 1
    return found


@given(times, st.sampled_from((0.5, 0.9, 0.95, 0.99)))
def test_a_quantile_is_within_a_fifth_of_the_true_one(values: list[float], q: float) -> None:
    found = latency.percentile(histogram(values), 100 * q)
    low, high = np.quantile(values, q, method="lower"), np.quantile(values, q, method="higher")
    assert found is not None
    assert low * 0.8 - 0.05 <= found <= high * 1.25 + 0.05


@given(times, times)
def test_adding_two_loses_nothing(one: list[float], other: list[float]) -> None:
    both = latency.add(histogram(one), histogram(other))
    assert latency.total(both) == len(one) + len(other)
    assert list(both) == histogram(one + other)


def test_nothing_has_no_quantile() -> None:
    assert latency.percentile(latency.empty(), 99) is None


def test_a_histogram_of_another_shape_is_a_fault() -> None:
    with pytest.raises(Fault):
        latency.checked([1, 2, 3])
