"""Keys and rows that are asked for or pushed: each of its kind, or what is wrong is named."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest

from quarterdeckd.features import entities
from quarterdeckd.features.reading import numbered
from quarterstore.records.faults import Fault
from quarterstore.records.features import Key
from tests.features.test_rows import VIEW

KEYS = (Key(name="k", kind="integer"), Key(name="s"))
NOW = 1_700_000_000_000_000
ROW = {"k": 1, "s": "a", "n": 2, "i": 3, "t": "x", "b": True}


def test_a_row_is_kept_in_its_kinds_with_the_time_it_came() -> None:
    [row] = entities.rows_of(VIEW, [{**ROW, "at": "2023-11-14T22:13:20.000001+00:00"}], NOW + 1)
    assert row == ((1, "a"), NOW + 1, NOW + 1, {"n": 2.0, "i": 3, "t": "x", "b": True})
    [row] = entities.rows_of(VIEW, [{**ROW, "n": None, "t": None, "at": 1.5}], NOW)
    assert (row.at, row.known, row.values["n"], row.values["t"]) == (1_500_000, NOW, None, None)
    assert entities.instant("2023-11-14T22:13:20", "at") == NOW == entities.instant("2023-11-14T23:13:20+01:00", "at")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"k": "1"}, "rows[0].k"),
        ({"k": True}, "rows[0].k"),
        ({"k": 2**63}, "rows[0].k"),
        ({"k": None}, "rows[0].k"),
        ({"s": 7}, "rows[0].s"),
        ({"n": "2"}, "rows[0].n"),
        ({"n": math.nan}, "rows[0].n"),
        ({"n": math.inf}, "rows[0].n"),
        ({"n": 10**400}, "rows[0].n"),
        ({"i": 2.5}, "rows[0].i"),
        ({"i": -(2**63) - 1}, "rows[0].i"),
        ({"t": 7}, "rows[0].t"),
        ({"b": 1}, "rows[0].b"),
        ({"at": "tomorrow"}, "rows[0].at"),
        ({"at": NOW / 1e6 + 1}, "rows[0].at"),
        ({"at": True}, "rows[0].at"),
        ({"at": math.nan}, "rows[0].at"),
        ({"other": 1}, "rows[0]"),
        ({"written": 1}, "rows[0]"),
    ],
)
def test_a_cell_that_is_none_of_its_kind_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Fault) as caught:
        entities.rows_of(VIEW, [{**ROW, **changes}], NOW)
    assert caught.value.field == field


@pytest.mark.parametrize("name", ["k", "s", "n", "b"])
def test_a_row_without_a_key_or_a_feature_is_refused(name: str) -> None:
    with pytest.raises(Fault) as caught:
        entities.rows_of(VIEW, [ROW, {column: value for column, value in ROW.items() if column != name}], NOW)
    assert caught.value.field == f"rows[1].{name}"


@pytest.mark.parametrize("given", [[], [{"k": 1}], [{"k": 1, "s": "a", "more": 1}], [{"k": 1.0, "s": "a"}]])
def test_keys_are_all_there_and_nothing_else_is(given: list[dict[str, Any]]) -> None:
    with pytest.raises(Fault):
        entities.keys_of(KEYS, given)
    assert entities.keys_of(KEYS, [{"s": "a", "k": -5}]) == [(-5, "a")]


def test_too_many_entities_are_refused_before_they_are_read() -> None:
    with pytest.raises(Fault, match="10,000"):
        entities.keys_of(KEYS, [{}] * 10_001)


def test_columns_of_numbers_in_a_csv_are_numbers_and_codes_are_not() -> None:
    rows = pl.DataFrame(
        {
            "key": ["7", "8"],
            "age": ["41", None],
            "share": ["0.5", "1e-3"],
            "code": ["007", "12"],
            "word": ["x", "1"],
            "none": pl.Series([None, None], dtype=pl.String),
            "huge": ["9223372036854775808", "1"],
        }
    )
    made = numbered(rows, {"key"})
    kinds = [pl.String, pl.Int64, pl.Float64, pl.String, pl.String, pl.String, pl.Float64]
    assert made.dtypes == kinds
    assert made["age"].to_list() == [41, None]
