"""What rows have to be: checks as data, and what each of them found."""

from __future__ import annotations

import math
import re
from typing import Final, Literal

from quarterstore.records.base import Query, Record
from quarterstore.records.faults import Invalid, got
from quarterstore.records.names import checked_text, drawn
from quarterstore.records.tables import KINDS, MISSING, seconds

CheckKind = Literal[
    "columns_exist",
    "column_types",
    "row_count",
    "not_null",
    "unique",
    "between",
    "in_set",
    "not_in_set",
    "matches",
    "length_between",
    "monotonic",
    "freshness",
    "distribution",
]
Bound = float | str
MOST_CHECKS: Final = 500
MOST_SAMPLES: Final = 3
LONGEST_PATTERN: Final = 1000
SPANS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_span = re.compile(r"(\d+(?:\.\d+)?)([smhd])\Z")


class DataCheck(Record, frozen=True):
    """One check, in words of Great Expectations: `column`, or each of `columns` (of `unique` they are one key).

    columns_exist    `columns` are there; with `exact` no other ones, in this order
    column_types     `types`: column -> number, integer, text, boolean or time, as the rows are read
    row_count        `min` to `max` rows
    not_null         no blank cell
    unique           no value, or combination of values, twice
    between          `min` to `max`, both inclusive; of a time as ISO 8601
    in_set           one of `values`
    not_in_set       none of `values`
    matches          the whole text fits `pattern` (RE2)
    length_between   `min` to `max` characters
    monotonic        never below the row before; with `strictly` always above it
    freshness        the newest time is at most `within` (30m, 2h, 1d) old, and no time is in the future
    distribution     PSI to the reference rows below `max` (0.25 unless said)

    Blank cells are the matter of `not_null` alone. `mostly` is the share of the known cells that has to hold.
    """

    check: CheckKind
    """What is looked at."""
    column: str | None = None
    """The column, where it is one."""
    columns: tuple[str, ...] = ()
    """The columns, where they are several."""
    min: Bound | None = None
    """The lowest value that may be."""
    max: Bound | None = None
    """The highest value that may be."""
    values: tuple[str | float, ...] = ()
    """The set."""
    pattern: str | None = None
    """A regular expression (RE2) for the whole text."""
    types: dict[str, str] = {}
    """Column -> its kind."""
    within: str | None = None
    """The greatest age, such as 2h."""
    exact: bool = False
    """No other columns, and in this order."""
    strictly: bool = False
    """Never the same twice in a row."""
    mostly: float = 1.0
    """The share of the known cells that has to hold."""
    severity: Literal["fail", "warn"] = "fail"
    """Whether it ends the run or is said only."""

    @property
    def of(self) -> tuple[str, ...]:
        """The columns it looks at."""
        return ((self.column,) if self.column is not None else ()) + self.columns


class ValidateSection(Record, frozen=True):
    """`[validate]`: checks that the rows have to pass before anything is learnt from them; `reference` is a file of
    rows for `distribution`, a hash once it is uploaded; `pandera` is a schema of your own, `FILE.py:NAME`."""

    checks: tuple[DataCheck, ...] = ()
    """Rules, one after the other."""
    reference: str | None = None
    """A file of rows for `distribution`."""
    pandera: str | None = None
    """`FILE.py:SCHEMA`, a schema of pandera."""


class Finding(Record, frozen=True):
    """What a check found: `bad` of `rows` looked at, the first three of the bad ones as `row N: value`."""

    check: str
    column: str
    severity: Literal["fail", "warn"]
    ok: bool
    rows: int
    bad: int
    samples: tuple[str, ...] = ()
    words: str = ""


class RowRules(Record, frozen=True):
    """A file of rules, for rows that no pipeline is of: the checks, how the rows are read, and rows to compare with."""

    checks: tuple[DataCheck, ...]
    """Rules, one after the other."""
    reference: str | None = None
    """A file of rows for `distribution`."""
    missing: tuple[str, ...] = MISSING
    """Cells that mean nothing is known."""
    columns: dict[str, str] = {}
    """Column -> its kind, where the guess shall not hold."""


class CheckRows(Query[list[Finding]], tag="checks.rows", frozen=True):
    """Check the rows of an upload (`digest`) by rules whose `reference` is one too; a child reads the files, nothing is
    kept of it."""

    digest: str
    rules: RowRules
    named: str = ""
    """What the file is called; `.parquet` has to be Parquet."""


Needs = tuple[tuple[str, ...], tuple[str, ...]]
_NEEDS: Final[dict[str, Needs]] = {
    "columns_exist": (("columns",), ("exact",)),
    "column_types": (("types",), ()),
    "row_count": ((), ("min", "max")),
    "not_null": (("of",), ()),
    "unique": (("of",), ()),
    "between": (("of",), ("min", "max")),
    "in_set": (("of", "values"), ()),
    "not_in_set": (("of", "values"), ()),
    "matches": (("of", "pattern"), ()),
    "length_between": (("of",), ("min", "max")),
    "monotonic": (("of",), ("strictly",)),
    "freshness": (("of", "within"), ()),
    "distribution": (("of",), ("max",)),
}
"""Kind -> what it needs, and what it may have besides."""
_SETTINGS: Final = ("column", "columns", "min", "max", "values", "pattern", "types", "within", "exact", "strictly")
_WHOLE: Final = ("columns_exist", "column_types", "row_count", "freshness", "distribution")
"""Kinds that hold or not for the rows as a whole, so that no share of them may."""


def checked_section(section: ValidateSection, field: str = "validate") -> ValidateSection:
    """The section where every check is whole; `Invalid` names the check and the setting otherwise."""
    if len(section.checks) > MOST_CHECKS:
        raise got(f"{field}.checks", f"{len(section.checks)} of them", f"at most {MOST_CHECKS}")
    for place, check in enumerate(section.checks):
        _check_one(check, f"{field}.checks[{place}]")
        if check.check == "distribution" and section.reference is None:
            raise got(f"{field}.reference", "nothing", "a file of rows, because there is a check of the distribution")
    if section.pandera is not None and not re.fullmatch(r"[^:]+\.py:[A-Za-z_]\w*", section.pandera):
        raise got(f"{field}.pandera", section.pandera, "FILE.py:NAME")
    return section


def span(text: str) -> float | None:
    """Seconds of a span such as 30m, 2h or 1d; None where it is none."""
    found = _span.fullmatch(text)
    return float(found[1]) * SPANS[found[2]] if found else None


def _check_one(check: DataCheck, field: str) -> None:
    needed, allowed = _NEEDS[check.check]
    for name in needed:
        if not getattr(check, name):
            raise got(f"{field}.{'column' if name == 'of' else name}", "nothing", f"a value, for {check.check}")
    fitting = {*needed, *allowed, *(("column", "columns") if "of" in needed else ())}
    plain = DataCheck(check=check.check)
    for name in _SETTINGS:
        if name not in fitting and getattr(check, name) != getattr(plain, name):
            raise got(f"{field}.{name}", getattr(check, name), f"nothing, a check of {check.check} has none")
    for name in (*check.of, *check.types):
        checked_text(field, name)
    for column, kind in check.types.items():
        if kind not in KINDS:
            raise got(f"{field}.types.{column}", kind, ", ".join(KINDS))
    if not 0 < check.mostly <= 1:
        raise got(f"{field}.mostly", check.mostly, "a share above 0, up to 1")
    if check.mostly < 1 and check.check in _WHOLE:
        raise got(f"{field}.mostly", check.mostly, f"1, {check.check} is of the rows as a whole")
    if len(check.pattern or "") > LONGEST_PATTERN:
        raise got(f"{field}.pattern", f"{len(check.pattern or '')} characters", f"at most {LONGEST_PATTERN}")
    if check.within is not None and span(check.within) is None:
        raise got(f"{field}.within", drawn(check.within, longest=60), "a span such as 30m, 2h or 1d")
    _check_bounds(check, field)


def _check_bounds(check: DataCheck, field: str) -> None:
    if "min" in _NEEDS[check.check][1] and check.min is None and check.max is None:
        raise got(f"{field}.min", "neither min nor max", f"one of them, for {check.check}")
    numbers = [_bound(check, name, field) for name in ("min", "max")]
    low, high = numbers
    if low is not None and high is not None and low > high:
        raise got(f"{field}.min", check.min, f"at most max, {check.max}")


def _bound(check: DataCheck, name: str, field: str) -> float | None:
    """A bound as a number: a time as seconds since 1970, for `between` alone."""
    value: Bound | None = getattr(check, name)
    if isinstance(value, str):
        if check.check != "between":
            raise got(f"{field}.{name}", value, "a number")
        return instant(value, f"{field}.{name}")
    if value is not None and not math.isfinite(value):
        raise got(f"{field}.{name}", value, "a finite number")
    return value


def instant(text: str, field: str) -> float:
    """An ISO 8601 time as seconds since 1970; `Invalid` where it is none."""
    try:
        return seconds(text)
    except ValueError:
        raise Invalid(
            f"got {drawn(text, longest=60)}, expected a number, or a time such as 2026-01-31", field=field
        ) from None
