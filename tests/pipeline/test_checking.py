"""Checks of rows: each kind on rows that hold and on rows that do not, with the rows counted and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeckd.pipeline import check as looking
from quarterdeckd.pipeline import checking, files
from quarterstore.records.checks import DataCheck, Finding, ValidateSection, checked_section
from quarterstore.records.faults import Invalid
from quarterstore.records.pipelines import CheckSpec, DataSection
from quarterstore.records.spaces import Parameter
from quarterstore.records.studies import StudyDefinition, searched
from quarterstore.shelf.query import Queried, quoted

NOW = 1_767_312_000.0
"""2026-01-02 00:00 UTC."""
ROWS = """id,age,plan,at,house,"we""ird; DROP TABLE rows"
1,30,basic,2026-01-01 10:00,a,x
2,,pro,2026-01-01 11:00,a,x
3,41,basic,2026-01-01 09:00,b,x
3,-5,gold,2026-01-01 12:00,b,y
"""
WEIRD = 'we"ird; DROP TABLE rows'


def found(tmp_path: Path, text: str, *checks: DataCheck, reference: str | None = None) -> list[Finding]:
    """What checks find in a CSV."""

    def read(name: str, rows: str) -> files.Raw:
        path = tmp_path / name
        path.write_text(rows)
        return files.read(DataSection(target=""), str(path))

    checked_section(ValidateSection(checks, "other" if reference else None))
    beside = read("other.csv", reference) if reference else None
    return checking.checked(read("rows.csv", text), checks, beside, lambda: NOW)


def check(kind: Any, column: str | None = None, **about: Any) -> DataCheck:
    return DataCheck(check=kind, column=column, **about)


@pytest.mark.parametrize(
    ("asked", "bad", "samples"),
    [
        (check("not_null", "age"), 1, ("row 2: blank",)),
        (check("not_null", "plan"), 0, ()),
        (check("unique", "id"), 2, ("row 3: 3", "row 4: 3")),
        (check("unique", columns=("id", "age")), 0, ()),
        (check("unique", columns=("house", WEIRD)), 2, ("row 1: a, x", "row 2: a, x")),
        (check("between", "age", min=0), 1, ("row 4: -5",)),
        (check("between", "age", min=-5, max=41), 0, ()),
        (check("between", "at", min="2026-01-01 10:00"), 1, ("row 3: 2026-01-01 09:00:00",)),
        (check("in_set", "plan", values=("basic", "pro")), 1, ("row 4: gold",)),
        (check("in_set", "id", values=(1, 2, "3")), 0, ()),
        (check("not_in_set", WEIRD, values=("y",)), 1, ("row 4: y",)),
        (check("matches", "plan", pattern="[a-z]{3,5}"), 0, ()),
        (check("matches", "plan", pattern="b.*"), 2, ("row 2: pro", "row 4: gold")),
        (check("length_between", "plan", max=4), 2, ("row 1: basic", "row 3: basic")),
        (check("monotonic", "at"), 1, ("row 3: 2026-01-01 09:00:00 after 2026-01-01 11:00:00",)),
        (check("monotonic", "id"), 0, ()),
        (check("monotonic", "id", strictly=True), 1, ("row 4: 3 after 3",)),
        (check("row_count", min=4, max=4), 0, ()),
        (check("row_count", min=5), 4, ()),
        (check("columns_exist", columns=("id", "gone")), 1, ()),
        (check("column_types", types={"id": "number", "plan": "text", "at": "time"}), 0, ()),
        (check("column_types", types={"age": "text", "gone": "text"}), 2, ()),
        (check("freshness", "at", within="12h"), 0, ()),
        (check("freshness", "at", within="6h"), 4, ()),
    ],
)
def test_a_check_counts_the_bad_rows_and_shows_the_first(
    tmp_path: Path, asked: DataCheck, bad: int, samples: tuple[str, ...]
) -> None:
    [one] = found(tmp_path, ROWS, asked)
    assert (one.bad, one.samples, one.ok) == (bad, samples, not bad), one


def test_columns_in_another_order_or_more_of_them_are_found_where_exactness_is_asked(tmp_path: Path) -> None:
    same, order, more = found(
        tmp_path,
        "a,b\n1,2\n",
        check("columns_exist", columns=("b", "a")),
        check("columns_exist", columns=("b", "a"), exact=True),
        check("columns_exist", columns=("a",), exact=True),
    )
    assert same.ok and not order.ok and not more.ok
    assert order.words == "the order is a, b" and more.words == "b is not expected"


def test_a_share_of_the_known_cells_may_be_asked_for(tmp_path: Path) -> None:
    """Blank cells are no cells: two of three known ages are above 0, which is less than 70 %."""
    enough, short = (check("between", "age", min=0, mostly=share) for share in (0.66, 0.7))
    held, failed = found(tmp_path, ROWS, enough, short)
    assert held.ok and held.bad == 1 and held.rows == 3
    assert not failed.ok and failed.words == "1 of 3 rows, at least 0.7 have to hold"


def test_a_time_in_the_future_is_not_fresh(tmp_path: Path) -> None:
    [one] = found(tmp_path, "at,x\n2026-01-01,1\n2027-01-01,1\n", check("freshness", "at", within="365d"))
    assert not one.ok and one.samples == ("row 2: 2027-01-01 00:00:00",)
    assert one.words == "1 of 2 times are in the future"


def test_a_column_that_is_gone_or_of_another_kind_fails_in_words(tmp_path: Path) -> None:
    asked = (check("not_null", "gone"), check("between", "plan", min=1), check("matches", "age", pattern="x"))
    said = [one.words for one in found(tmp_path, ROWS, *asked, check("freshness", "id", within="1d"))]
    assert said == [
        "there is no column gone",
        "it holds texts, no numbers and no times",
        "it holds numbers, no texts",
        "it holds integer, no times",
    ]


def test_a_distribution_is_compared_with_the_reference_rows(tmp_path: Path) -> None:
    """The PSI of a constant is 0 and says so; of another constant it is not."""

    def column(values: Any) -> str:
        return "x,k\n" + "\n".join(f"{value},a" for value in values) + "\n"

    before = column(n % 100 for n in range(1000))
    same, flat = found(
        tmp_path,
        column((n * 7) % 100 for n in range(1000)),
        check("distribution", "x"),
        check("distribution", "k"),
        reference=before,
    )
    assert same.ok and flat.ok and flat.words == "PSI 0 over 1 bins, limit 0.25 (constant)"
    [moved] = found(tmp_path, column(n % 100 + 40 for n in range(1000)), check("distribution", "x"), reference=before)
    assert not moved.ok and moved.bad == 1000
    [gone] = found(tmp_path, column(range(9)), check("distribution", "y"), reference=before)
    assert not gone.ok


def test_blank_columns_and_no_known_cell_are_defined(tmp_path: Path) -> None:
    text = "a,b\n1,\n2,\n"
    blank, between, unique, fresh = found(
        tmp_path,
        text,
        check("not_null", "b"),
        check("matches", "b", pattern="x"),
        check("unique", "b"),
        check("freshness", "b", within="1d"),
    )
    assert blank.bad == 2 and between.ok and unique.ok and not fresh.ok


def test_parquet_times_and_booleans_are_checked_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    frame = pl.DataFrame({"at": ["2026-01-01", "2026-01-03"], "yes": [True, None]})
    frame.with_columns(pl.col("at").str.to_datetime()).write_parquet(path)
    raw = files.read(DataSection(target=""), str(path))
    late, known = checking.checked(
        raw, [check("between", "at", max="2026-01-02"), check("in_set", "yes", values=("true",))], None
    )
    assert late.samples == ("row 2: 2026-01-03 00:00:00",) and known.ok and known.rows == 1


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (check("not_null"), "checks[0].column"),
        (check("between", "a"), "checks[0].min"),
        (check("between", "a", min=2, max=1), "checks[0].min"),
        (check("between", "a", min="soon"), "checks[0].min"),
        (check("row_count", min="2026-01-01"), "checks[0].min"),
        (check("between", "a", min=float("nan")), "checks[0].min"),
        (check("in_set", "a"), "checks[0].values"),
        (check("not_null", "a", pattern="x"), "checks[0].pattern"),
        (check("not_null", "a", mostly=0.0), "checks[0].mostly"),
        (check("freshness", "a", within="1d", mostly=0.5), "checks[0].mostly"),
        (check("freshness", "a", within="soon"), "checks[0].within"),
        (check("matches", "a", pattern="x" * 1001), "checks[0].pattern"),
        (check("column_types", types={"a": "float"}), "checks[0].types.a"),
        (check("distribution", "a"), "reference"),
        (check("not_null", "a\x1b[31m"), "checks[0]"),
    ],
)
def test_a_check_that_is_not_whole_is_named(asked: DataCheck, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        checked_section(ValidateSection((asked,)))
    assert refused.value.field == f"validate.{field}"


def test_a_pattern_that_is_none_is_found_before_the_rows_are_read() -> None:
    with pytest.raises(Invalid) as refused:
        checking.tried([check("matches", "a", pattern="(")])
    assert refused.value.field == "validate.checks[0].pattern"


@settings(max_examples=40, deadline=None)
@given(name=st.text(min_size=1, max_size=20), cell=st.text(max_size=20))
def test_no_text_of_a_file_becomes_sql(tmp_path_factory: Any, name: str, cell: str) -> None:
    """Any name and any cell are one name and one value: the cell is found in its own set, and only there."""
    path = tmp_path_factory.mktemp("sql") / "it's.parquet"
    pl.DataFrame({name.replace("\0", ""): [cell]}, strict=False).write_parquet(path)
    with Queried({"rows": path}) as rows:
        column = quoted(name.replace("\0", ""))
        assert rows.rows(f"SELECT count(*) FROM rows WHERE {column} IN (?)", [cell]) == [(1,)]
        assert rows.rows(f"SELECT count(*) FROM rows WHERE {column} IN (?)", [cell + "'"]) == [(0,)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY (SELECT 1) TO 'out.csv'",
        "ATTACH 'other.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
    ],
)
def test_a_question_to_files_reaches_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(path)
    with Queried({"rows": path}) as rows, pytest.raises(Invalid):
        rows.rows(statement)
    assert [one.name for one in tmp_path.iterdir()] == ["rows.parquet"]


def looked_at(tmp_path: Path, *choices: str) -> None:
    """A search for the best learner of numbers, looked at as before its first trial."""
    path = tmp_path / "rows.csv"
    path.write_text("x,y\n" + "".join(f"{row * 7 % 13},{row * 7 % 13 * 1.5}\n" for row in range(60)))
    space = {"learner": Parameter("choice", choices=choices)}
    data = DataSection(target="y", file=path.name)
    study = StudyDefinition(name="s", objectives={"rmse": "minimise"}, space=space, data=data)
    looking.check(CheckSpec(searched(study)), str(path))


def test_a_search_that_chooses_the_learner_is_not_held_to_the_one_that_nobody_named(tmp_path: Path) -> None:
    looked_at(tmp_path, "forest", "ridge")


def test_a_search_is_refused_for_a_choice_that_cannot_learn_these_rows(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="got logistic, expected ridge, forest, boosting or mlp for a regression") as told:
        looked_at(tmp_path, "forest", "logistic")
    assert told.value.field == "space.learner.choices"
