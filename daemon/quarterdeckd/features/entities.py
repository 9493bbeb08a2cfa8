"""What is asked or pushed of entities, as objects by column: their keys in the order of the view, their cells of its
kinds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from quarterstore.records.faults import got, missing
from quarterstore.records.features import FeatureView, Key, Kind
from quarterstore.records.names import drawn
from quarterstore.records.online import OnlineView
from quarterstore.shelf.online import Row

MOST_ENTITIES: Final = 10_000
SMALLEST, LARGEST = -(2**63), 2**63 - 1
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EXPECTED: Final = {
    "text": "a text",
    "integer": "a whole number of 64 bits",
    "number": "a finite number",
    "boolean": "true or false",
}
Cells = Mapping[str, Any]


def keys_of(keys: Sequence[Key], given: Sequence[Cells], field: str = "keys") -> list[tuple[Any, ...]]:
    """The key of each object, which has nothing else in it; raises `Invalid` naming the first that is wrong."""
    if not 1 <= len(given) <= MOST_ENTITIES:
        raise got(field, f"{len(given)}", f"1 to {MOST_ENTITIES:,} entities")
    for number, cells in enumerate(given):
        if len(cells) > len(keys):
            _refuse_other(f"{field}[{number}]", cells, [key.name for key in keys])
    return [key_of(keys, cells, f"{field}[{number}]") for number, cells in enumerate(given)]


def key_of(keys: Sequence[Key], cells: Cells, field: str) -> tuple[Any, ...]:
    """The key in an object that may have other cells; raises `Invalid`."""
    found: list[Any] = []
    for key in keys:
        value = cells.get(key.name)
        whole = isinstance(value, int) and not isinstance(value, bool) and SMALLEST <= value <= LARGEST
        if not (isinstance(value, str) if key.kind == "text" else whole):
            raise got(f"{field}.{key.name}", _shown(value, key.name in cells), EXPECTED[key.kind])
        found.append(value)
    return tuple(found)


def names_of(view: OnlineView, names: Sequence[str]) -> list[str] | None:
    """The features that are asked for, None for all of them; `NotFound` names the nearest."""
    if not names:
        return None
    known = [each.name for each in view.features]
    for name in names:
        if name not in known:
            raise missing("features", name, known)
    return list(names)


def rows_of(view: FeatureView, given: Sequence[Cells], now: int) -> list[Row]:
    """Rows to push at `now` (microseconds since 1970): every cell checked as those of a file are; raises `Invalid`
    naming the row (from 0) and the column."""
    if not 1 <= len(given) <= MOST_ENTITIES:
        raise got("rows", f"{len(given)}", f"1 to {MOST_ENTITIES:,} at a time")
    return [_row(view, cells, now, f"rows[{number}]") for number, cells in enumerate(given)]


def _row(view: FeatureView, cells: Cells, now: int, field: str) -> Row:
    names = [each.name for each in view.features]
    _refuse_other(field, cells, [*(key.name for key in view.keys), *names, view.event_time])
    key = key_of(view.keys, cells, field)
    for name in names:
        if name not in cells:
            raise got(f"{field}.{name}", "nothing", "a value of every feature, or null")
    at = instant(cells[view.event_time], f"{field}.{view.event_time}") if view.event_time in cells else now
    if at > now:
        raise got(f"{field}.{view.event_time}", drawn(str(cells[view.event_time]), longest=60), "a time that is past")
    values = {each.name: cell(each.kind, cells[each.name], f"{field}.{each.name}") for each in view.features}
    return Row(key, at, now, values)


def cell(kind: Kind, value: Any, field: str) -> Any:
    """A value as its kind is kept, or null; raises `Invalid`."""
    if value is None:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind == "number" and (whole or isinstance(value, float)) and math.isfinite(float_of(value)):
        return float_of(value)
    fits = {
        "text": isinstance(value, str),
        "integer": whole and SMALLEST <= value <= LARGEST,
        "boolean": isinstance(value, bool),
        "number": False,
    }
    if not fits[kind]:
        raise got(field, _shown(value, True), f"{EXPECTED[kind]}, or null")
    return value


def float_of(value: int | float) -> float:
    """A number as a float; infinity for a whole number that is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def instant(value: Any, field: str) -> int:
    """A time as microseconds since 1970: ISO 8601 (UTC where it names no zone), or seconds since 1970."""
    try:
        if isinstance(value, str):
            told = datetime.fromisoformat(value)
            found = ((told if told.tzinfo else told.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found = round(value * 1e6)
        else:
            found = -1
    except (ValueError, OverflowError):
        found = -1
    if not 0 <= found <= LARGEST:
        raise got(field, _shown(value, True), "a time: ISO 8601, or seconds since 1970")
    return found


def _refuse_other(field: str, cells: Cells, names: Sequence[str]) -> None:
    for name in cells:
        if name not in names:
            raise missing(field, drawn(name, longest=60), names)


def _shown(value: Any, there: bool) -> str:
    if not there:
        return "nothing"
    return "null" if value is None else f"{drawn(str(value), longest=60)} ({type(value).__name__})"
