"""Rows are compared by their content, whatever their order and format, against a slow count."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeckd.pipeline.rows import count, difference
from quarterstore.records.faults import Invalid

CELLS = st.sampled_from(["", "0", "1", "1.0", "a", "b,c", 'q"q', "é", " "])
ROWS = st.lists(st.tuples(CELLS, CELLS), max_size=12)


def written(folder: Path, name: str, rows: list[tuple[str, str]], *, turned: bool, parquet: bool) -> tuple[Path, str]:
    """A file of two columns of texts, in either order of columns."""
    frame = pl.DataFrame(rows, schema={"x": pl.String, "y": pl.String}, orient="row")
    frame = frame.select("y", "x") if turned else frame
    if parquet:
        frame.write_parquet(folder / name)
        return folder / name, "parquet"
    frame.write_csv(folder / name, quote_style="non_numeric")
    return folder / name, "csv"


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, st.booleans(), st.booleans())
def test_rows_added_and_removed_are_what_a_slow_count_says(
    before: list[tuple[str, str]], after: list[tuple[str, str]], turned: bool, parquet: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = difference(
            written(folder, "before", before, turned=False, parquet=False),
            written(folder, "after", after, turned=turned, parquet=parquet),
        )
        assert count(*written(folder, "after", after, turned=turned, parquet=parquet)) == len(after)
    former, now = Counter(before), Counter(after)
    assert (found.rows_before, found.rows_after) == (len(before), len(after))
    assert found.added == sum((now - former).values())
    assert found.removed == sum((former - now).values())
    assert (found.columns_added, found.columns_removed) == ((), ())


def test_columns_that_only_one_file_has_are_named_and_do_not_make_every_row_another(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,x,old\n1,2,3\n4,5,6\n")
    (tmp_path / "b.csv").write_text("new,id,x\n0,1,2\n0,4,9\n")
    found = difference((tmp_path / "a.csv", "csv"), (tmp_path / "b.csv", "csv"))
    assert (found.columns_added, found.columns_removed) == (("new",), ("old",))
    assert (found.added, found.removed) == (1, 1)


def test_files_without_a_common_column_have_no_row_in_common(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n2\n")
    (tmp_path / "b.csv").write_text("y\n1\n")
    found = difference((tmp_path / "a.csv", "csv"), (tmp_path / "b.csv", "csv"))
    assert (found.added, found.removed) == (1, 2)


@pytest.mark.parametrize(
    ("content", "format_"),
    [(b"", "csv"), (b"a,b\n1,2,3\n", "csv"), (b"a,b\n\xff\xfe,1\n", "csv"), (b"PAR1 no", "parquet")],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path: Path, content: bytes, format_: str) -> None:
    (tmp_path / "good.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(Invalid, match=r"dataset: got .*, expected rows that can be read") as caught:
        difference((tmp_path / "good.csv", "csv"), (tmp_path / "bad", format_))
    assert "\n" not in caught.value.line()
