"""A user's own pandera schema as a check of rows: loaded from the copy that was taken when the run was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from quarterdeckd.learning.calling import loaded
from quarterstore.records.checks import MOST_SAMPLES, Finding
from quarterstore.records.faults import Failed, got
from quarterstore.records.names import drawn
from quarterstore.records.tables import Table

MODULE = "quarterdeck_schema_code"


def findings(named: str, code: Path, frame: pl.DataFrame, table: Table) -> list[Finding]:
    """What `FILE.py:NAME` of the folder `code`, a `pandera.polars` schema or model, finds in the rows, by check and
    column.

    frame: every column of the file, integers as Int64, other numbers as Float64, texts and times of CSV as String,
    blanks as nulls. Raises `Failed` where the file or the schema itself does not work, `Invalid` where it is none.
    """
    file, _, name = named.partition(":")
    module = loaded(named, code / file, MODULE)
    found = getattr(module, name, None)
    if not callable(getattr(found, "validate", None)):
        raise got("validate.pandera", f"no schema {name}", "a pandera.polars DataFrameSchema or DataFrameModel")
    whole = [column.name for column in table.columns if column.kind == "integer"]
    rows = frame.with_columns(pl.col(whole).cast(pl.Int64))
    try:
        found.validate(rows, lazy=True)  # type: ignore[union-attr]
    except Exception as error:
        cases = getattr(error, "failure_cases", None)
        if not isinstance(cases, pl.DataFrame):
            said = drawn(" ".join(f"{type(error).__name__}: {error}".split()), longest=300)
            raise Failed(said, field=named) from error
        return _failed(cases, frame.height)
    return [Finding("pandera", drawn(name), "fail", True, frame.height, 0, (), "the schema holds")]


def _failed(cases: pl.DataFrame, height: int) -> list[Finding]:
    """Failure cases, a row each, as one finding for each check of each column."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for case in cases.iter_rows(named=True):
        grouped.setdefault((str(case.get("column") or ""), str(case.get("check"))), []).append(case)
    return [
        Finding(
            "pandera",
            drawn(column, longest=60),
            "fail",
            False,
            height,
            len(each),
            tuple(_sample(case) for case in each[:MOST_SAMPLES]),
            f"{drawn(check, longest=120)}: {len(each):,} of {height:,} rows",
        )
        for (column, check), each in grouped.items()
    ]


def _sample(case: dict[str, Any]) -> str:
    index = case.get("index")
    value = drawn(str(case.get("failure_case")), longest=60)
    return f"row {int(index) + 1}: {value}" if isinstance(index, int) else value
