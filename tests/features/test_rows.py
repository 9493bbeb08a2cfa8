"""Rows of a view as they are taken in: each cell of its kind, each time of one zone, or the row is named."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quarterdeckd.features.joining import KNOWN, TIME
from quarterdeckd.features.reading import opened
from quarterdeckd.features.rows import run
from quarterstore.records import features
from quarterstore.records.faults import Fault

VIEW = features.FeatureView(
    name="v",
    version=1,
    entities=(features.Entity(name="e", keys=(features.Key(name="k", kind="integer"), features.Key(name="s"))),),
    features=(
        features.Feature(name="n", kind="number"),
        features.Feature(name="i", kind="integer"),
        features.Feature(name="t", kind="text"),
        features.Feature(name="b", kind="boolean"),
    ),
    event_time="at",
    created_time="written",
    ttl=None,
    owner="",
    description="",
    tags={},
    created=0.0,
    created_by="",
)


class Silent:
    """A report that nobody reads."""

    def progress(self, *given: Any, **more: Any) -> None: ...


@pytest.fixture
def taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Takes a CSV text or a frame in; answers the result and what is kept."""
    monkeypatch.chdir(tmp_path)

    def take(rows: str | pl.DataFrame, known: features.Known = "event") -> tuple[features.RowsResult, pl.DataFrame]:
        file = tmp_path / "rows"
        if isinstance(rows, str):
            file.write_text(rows)
        else:
            rows.write_parquet(file)
        format_: Any = "csv" if isinstance(rows, str) else "parquet"
        result = run(features.RowsSpec(view=VIEW, data=str(file), format=format_, known=known, source=""), Silent())
        return result, pl.read_parquet(result.output)

    return take


HEAD = "k,s,at,written,n,i,t,b\n"


def test_cells_are_of_their_kind_and_rows_in_the_order_of_their_time(taken: Any) -> None:
    text = f"{HEAD}7,a,2026-01-02,,1.5,3,x,true\n7,a,2026-01-01T12:30Z,,,,,\n08,b,1767225600.5,,-2,4,007,no\n"
    result, kept = taken(text)
    assert kept.select("k", "s", "n", "i", "t", "b").rows() == [
        (8, "b", -2.0, 4, "007", False),
        (7, "a", None, None, None, None),
        (7, "a", 1.5, 3, "x", True),
    ]
    assert (kept[KNOWN] == kept[TIME]).all() and (result.rows, result.late) == (3, 0)
    assert (result.first_at, result.last_at) == (1767225600.5, 1767312000.0)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2026-01-01", 1767225600.0),
        ("2026-01-01 01:00", 1767229200.0),
        ("2026-01-01T01:00:00.25", 1767229200.25),
        ("2026-01-01T01:00:00+01:00", 1767225600.0),
        ("2026-01-01T01:00Z", 1767229200.0),
        ("2026-01-01T01:00:00.000000+0100", 1767225600.0),
        ("2026-01-01 01:00:00+01", 1767225600.0),
        ("2025-12-31 19:30:00-0430", 1767225600.0),
        ("1767225600", 1767225600.0),
    ],
)
def test_a_time_without_a_zone_is_utc_and_one_with_a_zone_is_turned(taken: Any, written: str, seconds: float) -> None:
    assert taken(f"{HEAD}1,a,{written},,1,1,x,1\n")[0].first_at == seconds


def test_parquet_says_the_same_whatever_its_types(taken: Any) -> None:
    frame = pl.DataFrame({"k": [1.0], "s": [7], "n": [1], "i": [2.0], "t": ["x"], "b": [True]}).with_columns(
        at=pl.datetime(2026, 1, 1, 1, time_zone="Europe/Berlin"), written=pl.date(2026, 1, 2)
    )
    result, kept = taken(frame, "column")
    assert kept.select("k", "s", "n", "i", "t", "b").rows() == [(1, "7", 1.0, 2, "x", True)]
    assert (result.first_at, result.late) == (1767225600.0, 1)


def test_a_number_that_is_nan_is_none_and_infinity_is_refused(taken: Any) -> None:
    nan = float("nan")
    cells = {"k": [1, 1], "s": ["a", "a"], "n": [nan, 1.0], "i": [2.0, nan], "t": ["x", "y"], "b": [True, None]}
    frame = pl.DataFrame(cells).with_columns(at=pl.Series([1.0, 2.0]), written=pl.lit(3.0))
    assert taken(frame)[1].select("n", "i").rows() == [(None, 2), (1.0, None)]
    with pytest.raises(Fault, match="row 2, n: got inf, expected number or nothing"):
        taken(frame.with_columns(n=pl.Series([1.0, float("inf")])))
    with pytest.raises(Fault, match="row 1, n: got -inf, expected number or nothing"):
        taken(f"{HEAD}1,a,2026-01-01,,-inf,1,x,1\n")


def test_a_row_with_fewer_fields_than_the_header_is_named_and_one_whose_last_is_blank_is_taken(taken: Any) -> None:
    assert taken(f'{HEAD}1,a,2026-01-01,,1,1,"x\ny",\n')[0].rows == 1
    with pytest.raises(Fault, match="line 4: got 5 fields, expected 8 as in the header"):
        taken(f'{HEAD}1,a,2026-01-01,,1,1,"x\ny",1\n1,a,2026-01-01,,1\n')


def test_of_equal_times_the_one_known_later_comes_later(taken: Any) -> None:
    text = f"{HEAD}1,a,2026-01-01,2026-01-03,1,1,x,1\n1,a,2026-01-01,2026-01-02,2,1,x,1\n"
    result, kept = taken(text, "column")
    assert kept["n"].to_list() == [2.0, 1.0] and result.late == 2


def test_it_is_noted_from_when_on_a_row_was_known_where_rows_say_so(taken: Any) -> None:
    text = f"{HEAD}1,a,2026-01-01,2026-01-03,1,1,x,1\n2,a,2026-01-01,2026-01-02T00:00:00.9Z,2,1,x,1\n"
    assert taken(text, "column")[0].known_from == 1767312000.0
    assert taken(text)[0].known_from is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "k,s,at,n,i,t\n1,a,2026-01-01,1,1,x\n",
            "feature: got a file without the column b, expected it among k, s, at, n, i, t",
        ),
        ("k,at,n,i,t,b\n1,2026-01-01,1,1,x,1\n", "key: got a file without the column s"),
        ("k,s,n,i,t,b\n1,a,1,1,x,1\n", "event_time: got a file without the column at"),
        (HEAD, "file: got no row"),
        ("", "file: got"),
        (f"{HEAD}1,a,2026-01-01,,1,1,x,1\n2,a,soon,,1,1,x,1\n", "row 2, at: got soon, expected a time"),
        (f"{HEAD}1,a,,,1,1,x,1\n", "row 1, at: got"),
        (f"{HEAD}1,a,2026-13-01,,1,1,x,1\n", "row 1, at: got 2026-13-01"),
        (f"{HEAD}1,a,-5,,1,1,x,1\n", "row 1, at: got -5"),
        (f"{HEAD},a,2026-01-01,,1,1,x,1\n", "row 1, k: got nothing, expected a key"),
        (f"{HEAD}1.5,a,2026-01-01,,1,1,x,1\n", "row 1, k: got 1.5, expected integer"),
        (f"{HEAD}1,a,2026-01-01,,one,1,x,1\n", "row 1, n: got one, expected number"),
        (f"{HEAD}1,a,2026-01-01,,1,1.5,x,1\n", "row 1, i: got 1.5, expected integer"),
        (f"{HEAD}1,a,2026-01-01,,1,1,x,maybe\n", "row 1, b: got maybe, expected boolean"),
    ],
)
def test_a_bad_file_is_refused_by_row_and_column(taken: Any, text: str, words: str) -> None:
    with pytest.raises(Fault) as refused:
        taken(text)
    assert words in refused.value.line()


def test_a_file_that_is_no_parquet_is_refused(taken: Any, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("nothing of the kind")
    spec = features.RowsSpec(view=VIEW, data=str(tmp_path / "bad"), format="parquet", known="event", source="")
    with pytest.raises(Fault, match="Parquet"):
        run(spec, Silent())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(st.sampled_from('ab," \n'), min_size=1, max_size=6), min_size=2, max_size=4, unique=True))
def test_columns_have_the_names_that_were_written_whatever_they_quote(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([names, ["1"] * len(names)])
    assert opened(path, "csv").collect_schema().names() == names
