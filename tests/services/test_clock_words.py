"""Times and spans in words: never shorter than they are, and never a number of seconds of the calendar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeckd.services.clock_words import UNITS, lasting, utc


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "1 s"),
        (0.2, "1 s"),
        (59.5, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (21_462, "5 h 58 min"),
        (86_399.5, "1 d"),
        (90_000, "1 d 1 h"),
        (172_799, "2 d"),
    ],
)
def test_a_span_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert lasting(seconds) == said


@given(st.floats(min_value=0, max_value=4e9))
def test_what_is_left_is_never_said_shorter_than_it_is_nor_longer_by_a_whole_unit(seconds: float) -> None:
    sizes = {unit: size for size, unit in UNITS}
    words = lasting(seconds).split()
    told = sum(int(count) * sizes[unit] for count, unit in zip(words[::2], words[1::2], strict=True))
    assert seconds <= told <= seconds + max(1, sizes[words[-1]], told // 24)


def test_a_time_is_said_in_utc_and_one_that_no_calendar_has_as_its_number() -> None:
    assert utc(1_795_630_000.0) == "2026-11-25 18:06:40 UTC"
    assert (utc(float("nan")), utc(1e300)) == ("nan", "1e+300")
