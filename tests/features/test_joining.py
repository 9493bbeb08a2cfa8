"""The point-in-time join says what a comparison of every pair of rows says, and never sees what came later."""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeckd.features.joining import KNOWN, TIME, as_of
from quarterstore.records.features import Reading

SECOND = 1_000_000


class Value(NamedTuple):
    """One value of an entity with two keys: its times in seconds."""

    shop: str
    person: int
    time: int
    known: int
    amount: float


def joined(values: list[Value], rows: list[tuple[str, int, int]], reading: Reading, ttl: float | None = None) -> Any:
    """What the join says, as (amount, status, age) a row."""
    kept = pl.DataFrame(
        {
            "shop": [each.shop for each in values],
            "person": [each.person for each in values],
            TIME: [each.time * SECOND for each in values],
            KNOWN: [each.known * SECOND for each in values],
            "amount": [each.amount for each in values],
        },
        schema={"shop": pl.String, "person": pl.Int64, TIME: pl.Int64, KNOWN: pl.Int64, "amount": pl.Float64},
    )
    asked = pl.DataFrame(
        {"shop": [s for s, _, _ in rows], "person": [p for _, p, _ in rows], TIME: [t * SECOND for _, _, t in rows]},
        schema={"shop": pl.String, "person": pl.Int64, TIME: pl.Int64},
    )
    return as_of(asked, kept.lazy(), ("shop", "person"), ("amount",), reading, ttl).rows()


def compared(values: list[Value], rows: list[tuple[str, int, int]], reading: Reading, ttl: float | None) -> Any:
    """The same by comparing every pair, as the rule reads."""
    answers = []
    for shop, person, time in rows:
        there = [
            (each.time, each.known, line, each.amount)
            for line, each in enumerate(values)
            if (each.shop, each.person) == (shop, person)
            and each.time <= time
            and (reading.known_at is None or each.known <= reading.known_at)
            and (reading.how == "corrected" or each.known <= time)
        ]
        if not there:
            answers.append((None, "NOT_FOUND", None))
            continue
        at, _, _, amount = max(there)
        age = float(time - at)
        gone = ttl is not None and age > ttl
        answers.append((None if gone else amount, "EXPIRED" if gone else "PRESENT", age))
    return answers


small = st.integers(0, 12)
value = st.builds(Value, st.sampled_from("ab"), st.integers(0, 1), small, small, st.floats(0, 9))
row = st.tuples(st.sampled_from("abc"), st.integers(0, 1), small)
reading = st.builds(Reading, st.sampled_from(["known", "corrected"]), st.none() | small.map(float))


@settings(max_examples=300, deadline=None)
@given(st.lists(value, max_size=12), st.lists(row, max_size=8), reading, st.none() | small.map(float))
def test_the_join_is_what_every_pair_compared_says(
    values: list[Value], rows: list[tuple[str, int, int]], reading: Reading, ttl: float | None
) -> None:
    assert joined(values, rows, reading, ttl) == compared(values, rows, reading, ttl)


def test_ten_thousand_rows_are_what_every_pair_compared_says() -> None:
    import random

    draw = random.Random(1)
    values = [
        Value(
            draw.choice("ab"),
            draw.randrange(500),
            at := draw.randrange(10_000),
            at + draw.choice((0, 0, 0, 40)),
            1.0 * n,
        )
        for n in range(10_000)
    ]
    rows = [(draw.choice("ab"), draw.randrange(500), draw.randrange(10_000)) for _ in range(10_000)]
    by_key: dict[tuple[str, int], list[Value]] = {}
    for each in values:
        by_key.setdefault((each.shop, each.person), []).append(each)
    expected = [compared(by_key.get((s, p), []), [(s, p, t)], Reading(), 600.0)[0] for s, p, t in rows]
    assert joined(values, rows, Reading(), 600.0) == expected


@pytest.mark.parametrize(("later", "found"), [(0, 7.0), (1, 7.0), (-1, None)])
def test_a_value_at_exactly_the_time_is_used_and_a_microsecond_later_is_not(later: int, found: float | None) -> None:
    kept = pl.DataFrame({"k": [1], TIME: [SECOND], KNOWN: [SECOND], "f": [7.0]})
    asked = pl.DataFrame({"k": [1], TIME: [SECOND + later]})
    assert as_of(asked, kept.lazy(), ["k"], ["f"], Reading())["f"].to_list() == [found]


def test_a_correction_is_not_seen_by_rows_from_before_it_was_written() -> None:
    values = [Value("a", 1, 10, 10, 1.0), Value("a", 1, 10, 50, 2.0)]
    rows = [("a", 1, 20), ("a", 1, 49), ("a", 1, 50)]
    assert [found[0] for found in joined(values, rows, Reading())] == [1.0, 1.0, 2.0]
    assert [found[0] for found in joined(values, rows, Reading(how="corrected"))] == [2.0, 2.0, 2.0]
    at = Reading(how="corrected", known_at=49.0)
    assert [found[0] for found in joined(values, rows, at)] == [1.0, 1.0, 1.0]


def test_an_age_of_exactly_the_ttl_is_not_expired() -> None:
    values = [Value("a", 1, 10, 10, 1.0)]
    assert joined(values, [("a", 1, 15), ("a", 1, 16)], Reading(), 5.0) == [
        (1.0, "PRESENT", 5.0),
        (None, "EXPIRED", 6.0),
    ]
