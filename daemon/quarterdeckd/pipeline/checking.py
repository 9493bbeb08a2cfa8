"""Checks of rows: each compiled to a question of quoted names and bound values, asked of the rows in a locked-down
DuckDB.

A check leads to one `Finding` a column. Whatever the checks and the rows hold, no text of theirs becomes SQL.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from quarterdeckd.measures.drift import shift
from quarterdeckd.pipeline.files import Raw
from quarterstore.records.checks import MOST_SAMPLES, DataCheck, Finding, instant, span
from quarterstore.records.faults import Invalid
from quarterstore.records.names import drawn
from quarterstore.records.tables import seconds
from quarterstore.shelf.query import Queried, quoted

SHIFTED: Final = 0.25
"""PSI from which on a distribution is another one, unless the check says (Siddiqi 2006)."""
ROW: Final = "row number"
"""The column that numbers the rows from 1; a file's own of that name is numbered away."""
NOW = Callable[[], float]
Condition = tuple[str, list[Any]]
"""What is true of a bad cell, and the values bound in it."""


def checked(raw: Raw, checks: Sequence[DataCheck], reference: Raw | None, now: NOW = time.time) -> list[Finding]:
    """What every check finds in the rows, in the order of the checks. Raises `Invalid` for a pattern that is none."""
    asked = [one for check in checks for one in _each(check)]
    if not asked:
        return []
    frame = _with_times(raw)
    with tempfile.TemporaryDirectory(prefix="qd-checks-") as folder:
        path = Path(folder) / "rows.parquet"
        number = ROW
        while number in frame.columns:
            number += "_"
        frame.with_row_index(number, offset=1).write_parquet(path)
        with Queried({"rows": path}) as rows:
            looked = _Looked(raw, frame, rows, reference, quoted(number), now())
            return [looked.at(check) for check in asked]


def tried(checks: Sequence[DataCheck]) -> None:
    """Raise `Invalid` for a pattern that is none, before any rows are looked at."""
    with Queried({}) as nothing:
        for place, check in enumerate(checks):
            try:
                nothing.rows("SELECT regexp_full_match('', ?)", [check.pattern])
            except Invalid as fault:
                raise Invalid(
                    f"got {drawn(check.pattern or '', longest=60)} ({fault.message}), expected a pattern of RE2",
                    field=f"validate.checks[{place}].pattern",
                ) from fault


def summary(findings: Sequence[Finding]) -> str:
    """The failed checks in one sentence each, the most that fit a line first."""
    failed = [one for one in findings if not one.ok]
    parts = [f"{one.check} {one.column}: {one.words}".replace(" : ", ": ") for one in failed[:5]]
    return drawn("; ".join(parts) + (f"; and {len(failed) - 5} more" if len(failed) > 5 else ""))


def _each(check: DataCheck) -> list[DataCheck]:
    """One check a column, where it is of several columns each."""
    from msgspec.structs import replace

    if check.check in ("columns_exist", "column_types", "row_count", "unique"):
        return [check]
    return [replace(check, column=name, columns=()) for name in check.of]


def _with_times(raw: Raw) -> pl.DataFrame:
    """The rows with times as seconds since 1970, as Parquet's are already."""
    texts = [c.name for c in raw.table.columns if c.kind == "time" and raw.frame[c.name].dtype == pl.String]
    return raw.frame.with_columns(
        pl.col(name).map_elements(seconds, return_dtype=pl.Float64, skip_nulls=True) for name in texts
    )


class _Looked:
    """Rows that are looked at, check by check."""

    def __init__(
        self, raw: Raw, frame: pl.DataFrame, rows: Queried, reference: Raw | None, number: str, now: float
    ) -> None:
        self._raw = raw
        self._frame = frame
        self._rows = rows
        self._reference = reference
        self._number = number
        self._now = now
        self._kinds = {column.name: column.kind for column in raw.table.columns}

    def at(self, check: DataCheck) -> Finding:
        """What one check finds; a column that is not there is bad in every row."""
        whole = {"columns_exist": self._columns_exist, "column_types": self._types, "row_count": self._count}
        if check.check in whole:
            return whole[check.check](check)
        absent = [name for name in check.of if name not in self._kinds]
        height = self._frame.height
        if absent:
            return _found(check, height, max(1, height), (), f"there is no column {', '.join(map(_short, absent))}")
        if check.check == "distribution":
            return self._distribution(check)
        if check.check == "freshness":
            return self._freshness(check)
        if check.check == "unique":
            return self._unique(check)
        return self._cells(check)

    # of the rows as a whole

    def _columns_exist(self, check: DataCheck) -> Finding:
        there = list(self._kinds)
        absent = [name for name in check.columns if name not in self._kinds]
        others = [name for name in there if name not in check.columns] if check.exact else []
        words = [f"there is no {_short(name)}" for name in absent]
        words += [f"{_short(name)} is not expected" for name in others[:MOST_SAMPLES]]
        if check.exact and not words and there != list(check.columns):
            words = [f"the order is {', '.join(map(_short, there[:10]))}"]
        said = "; ".join(words) or "all there"
        return _found(check, len(there), len(absent) + len(others) or int(bool(words)), (), said, ok=not words)

    def _types(self, check: DataCheck) -> Finding:
        fits = {"number": ("number", "integer")}
        wrong = [
            f"{_short(name)} is {self._kinds.get(name, 'not there')}, expected {kind}"
            for name, kind in check.types.items()
            if self._kinds.get(name) not in fits.get(kind, (kind,))
        ]
        return _found(check, len(check.types), len(wrong), (), "; ".join(wrong[:5]) or "as expected")

    def _count(self, check: DataCheck) -> Finding:
        height = self._frame.height
        ok = (check.min is None or height >= float(check.min)) and (check.max is None or height <= float(check.max))
        return _found(check, height, 0 if ok else height or 1, (), f"{height:,} rows", ok=ok)

    def _freshness(self, check: DataCheck) -> Finding:
        column = check.of[0]
        if self._kinds[column] != "time":
            return _found(
                check, self._frame.height, self._frame.height, (), f"it holds {self._kinds[column]}, no times"
            )
        name = quoted(column)
        ((newest, known),) = self._rows.rows(f"SELECT max({name}), count({name}) FROM rows")
        if newest is None:
            return _found(check, 0, 1, (), "no time in any row", ok=False)
        bad, samples = self._bad(check, (f"{name} > ?", [self._now]))
        if bad:
            return _found(check, known, bad, samples, f"{bad:,} of {known:,} times are in the future")
        within = span(check.within or "") or 0.0
        ok = self._now - newest <= within
        said = f"the newest is {_when(newest)}, {_age(self._now - newest)} old"
        return _found(check, known, 0 if ok else known, (), said, ok=ok)

    def _distribution(self, check: DataCheck) -> Finding:
        column, reference = check.of[0], self._reference
        if reference is None or column not in reference.frame.columns:
            return _found(check, 0, 1, (), "the reference rows have no such column", ok=False)
        before, after = _known(reference.frame[column]), _known(self._raw.frame[column])
        if before.dtype.kind != after.dtype.kind:
            return _found(
                check, len(after), len(after) or 1, (), "numbers here and texts in the reference, or reversed"
            )
        if not len(before) or not len(after):
            where = "in the reference" if not len(before) else "here"
            return _found(check, len(after), 1, (), f"no value {where}", ok=False)
        limit = SHIFTED if check.max is None else float(check.max)
        effect, bins = shift(before, after)
        flat = len(np.unique(before)) == 1 and len(np.unique(after)) == 1 and before[0] == after[0]
        said = f"PSI {0.0 if flat else effect:.3g} over {bins} bins, limit {limit:g}" + (" (constant)" if flat else "")
        ok = flat or effect < limit
        return _found(check, len(after), 0 if ok else len(after), (), said, ok=ok)

    # of cells

    def _unique(self, check: DataCheck) -> Finding:
        """Every row of a key that is there more than once is bad; a key with a blank in it is none."""
        names = [quoted(name) for name in check.of]
        key, known = ", ".join(names), " AND ".join(f"{name} IS NOT NULL" for name in names)
        twice = f"SELECT *, count(*) OVER (PARTITION BY {key}) AS qd_times FROM rows WHERE {known}"
        ((rows, bad),) = self._rows.rows(f"SELECT count(*), count(*) FILTER (qd_times > 1) FROM ({twice})")
        found = self._rows.rows(
            f"SELECT {self._number}, {key} FROM ({twice}) WHERE qd_times > 1 ORDER BY ALL LIMIT {MOST_SAMPLES}"
            if len(names) > 1
            else f"SELECT {self._number}, {key} FROM ({twice}) WHERE qd_times > 1 "
            f"ORDER BY {key}, {self._number} LIMIT {MOST_SAMPLES}"
        )
        samples = tuple(
            f"row {row}: {', '.join(self._shown(name, value) for name, value in zip(check.of, values, strict=True))}"
            for row, *values in found
        )
        return self._judged(check, rows, bad, samples)

    def _cells(self, check: DataCheck) -> Finding:
        column = check.of[0]
        name = quoted(column)
        if check.check == "monotonic":
            return self._monotonic(check, name)
        if check.check == "not_null":
            bad, samples = self._bad(check, (f"{name} IS NULL", []))
            return self._judged(check, self._frame.height, bad, samples)
        condition = self._condition(check, name)
        ((known,),) = self._rows.rows(f"SELECT count({name}) FROM rows")
        if isinstance(condition, str):
            return _found(check, known, known, (), condition, ok=not known)
        bad, samples = self._bad(check, condition)
        return self._judged(check, known, bad, samples)

    def _condition(self, check: DataCheck, name: str) -> Condition | str:
        """What a bad cell is, or why this column cannot be looked at so."""
        kind = self._kinds[check.of[0]]
        numeric = kind in ("number", "integer")
        if check.check in ("in_set", "not_in_set"):
            values = [_number(value) if numeric else _text(value) for value in check.values]
            among = f"{name} IN ({', '.join('?' for _ in values)})"
            return (f"NOT ({among})" if check.check == "in_set" else among), values
        if check.check in ("matches", "length_between") and (numeric or kind == "time"):
            return f"it holds {'numbers' if numeric else 'times'}, no texts"
        if check.check == "matches":
            return f"NOT regexp_full_match({name}, ?)", [check.pattern]
        if check.check == "length_between":
            return _outside(f"length({name})", check, lambda value: float(value))
        if not numeric and kind != "time":
            return "it holds texts, no numbers and no times"
        return _outside(name, check, lambda value: instant(value, "between") if isinstance(value, str) else value)

    def _monotonic(self, check: DataCheck, name: str) -> Finding:
        sign = "<=" if check.strictly else "<"
        before = f"lag({name}) OVER (ORDER BY {self._number})"
        rows = f"SELECT *, {before} AS qd_before FROM rows WHERE {name} IS NOT NULL"
        ((known, bad),) = self._rows.rows(f"SELECT count(*), count(*) FILTER ({name} {sign} qd_before) FROM ({rows})")
        found = self._rows.rows(
            f"SELECT {self._number}, {name}, qd_before FROM ({rows}) WHERE {name} {sign} qd_before "
            f"ORDER BY {self._number} LIMIT {MOST_SAMPLES}"
        )
        column = check.of[0]
        samples = tuple(
            f"row {row}: {self._shown(column, value)} after {self._shown(column, former)}"
            for row, value, former in found
        )
        return self._judged(check, known, bad, samples)

    def _bad(self, check: DataCheck, condition: Condition) -> tuple[int, tuple[str, ...]]:
        """How many rows a condition is true of, and the first of them."""
        where, values = condition
        column = check.of[0]
        try:
            ((bad,),) = self._rows.rows(f"SELECT count(*) FROM rows WHERE {where}", values)
            found = self._rows.rows(
                f"SELECT {self._number}, {quoted(column)} FROM rows WHERE {where} "
                f"ORDER BY {self._number} LIMIT {MOST_SAMPLES}",
                values,
            )
        except Invalid as fault:
            raise Invalid(fault.message, field=f"validate {check.check} {_short(column)}") from fault
        return bad, tuple(f"row {row}: {self._shown(column, value)}" for row, value in found)

    def _judged(self, check: DataCheck, rows: int, bad: int, samples: tuple[str, ...]) -> Finding:
        ok = rows - bad >= check.mostly * rows - 1e-9
        said = f"{bad:,} of {rows:,} rows" + (f", at least {check.mostly:.6g} have to hold" if check.mostly < 1 else "")
        return _found(check, rows, bad, samples, said, ok=ok)

    def _shown(self, column: str, value: Any) -> str:
        if value is None:
            return "blank"
        if self._kinds[column] == "time":
            return _when(value)
        return _short(f"{value:.10g}" if isinstance(value, float) else str(value))


def _found(
    check: DataCheck, rows: int, bad: int, samples: tuple[str, ...], words: str, ok: bool | None = None
) -> Finding:
    held = not bad if ok is None else ok
    columns = ", ".join(map(_short, check.of or check.types))
    return Finding(check.check, columns, check.severity, held, rows, bad, samples, drawn(words, longest=300))


def _outside(what: str, check: DataCheck, number: Callable[[Any], float]) -> Condition:
    parts: list[str] = []
    values: list[Any] = []
    for sign, bound in (("<", check.min), (">", check.max)):
        if bound is not None:
            parts.append(f"{what} {sign} ?")
            values.append(number(bound))
    return " OR ".join(parts), values


def _known(values: pl.Series) -> np.ndarray[Any, np.dtype[Any]]:
    """The values that are there: finite numbers, or texts."""
    there = values.drop_nulls()
    if there.dtype.is_numeric():
        numbers = there.cast(pl.Float64).to_numpy()
        return np.asarray(numbers[np.isfinite(numbers)])
    return np.array(there.to_list(), dtype=np.str_)


def _number(value: str | float) -> float:
    try:
        return float(value)
    except ValueError:
        raise Invalid(f"got {_short(str(value))}, expected numbers, as the column's", field="values") from None


def _text(value: str | float) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _when(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{at:g} s"


def _age(span_: float) -> str:
    days = span_ / 86_400
    return f"{days:.1f} days" if days >= 2 else f"{span_ / 3600:.1f} hours"


def _short(text: str) -> str:
    return drawn(text, longest=60)
