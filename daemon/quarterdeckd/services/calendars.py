"""The days of a calendar, and the moment of a wall time in a zone."""

from __future__ import annotations

import calendar as months
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from quarterstore.records.faults import got
from quarterstore.records.schedules import Calendar

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
PLACES = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}
STEPS = {"month": 1, "quarter": 3, "year": 12}
LAST_YEAR = 2200
"""No calendar is read beyond it: a `day` that never comes ends there."""
DAY_WORDS = "1 to 31, last, or first|second|third|fourth|last and weekday, monday to sunday"


def moment(day: date, at: time, zone: ZoneInfo) -> float:
    """The seconds since 1970 of a wall time. One that a change of the clocks skips is the first moment after the gap;
    one that comes twice is the first of the two (PEP 495, fold 0)."""
    wall = datetime.combine(day, at, zone)
    found = wall.astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return found.timestamp()
    # in a gap the offset after it (fold 1) gives a moment before the gap, the offset before it one behind the gap
    before, after = int(wall.replace(fold=1).timestamp()), int(found.timestamp())
    offset = datetime.fromtimestamp(before, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return float(after)


def checked(calendar: Calendar) -> Calendar:
    """A calendar that says when: dates or days of a period, a time; raises a fault naming the field otherwise."""
    read_time(calendar.time)
    for field, days in (("dates", calendar.dates), ("without", calendar.without)):
        for each in days:
            read_date(f"calendar.{field}", each)
    if bool(calendar.dates) == (calendar.each is not None):
        raise got("calendar", "both or neither", "either dates or each = month, quarter or year, with a day")
    if calendar.each is not None:
        picker(calendar.day)
    elif calendar.day:
        raise got("calendar.day", calendar.day, "no day beside dates")
    return calendar


def read_time(text: str) -> time:
    """`HH:MM` or `HH:MM:SS` of a wall clock."""
    try:
        found = time.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None or found.microsecond:
        raise got("calendar.time", text, "a time of day such as 18:30")
    return found


def read_date(field: str, text: str) -> date:
    """`YYYY-MM-DD`."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise got(field, text, "a date such as 2026-12-24") from None


def picker(day: str) -> Callable[[list[date]], date | None]:
    """What takes the day out of the days of a period, or nothing where the period has none such."""
    words = day.lower().split()
    if len(words) == 1 and words[0].isdigit() and 1 <= int(words[0]) <= 31:
        number = int(words[0])
        return lambda days: next((each for each in days[:31] if each.day == number), None)
    if words == ["last"]:
        return lambda days: days[-1]
    if len(words) == 2 and words[0] in PLACES and words[1] in ("weekday", *WEEKDAYS):
        place, kind = PLACES[words[0]], words[1]

        def picked(days: list[date]) -> date | None:
            found = [each for each in days if _is(kind, each)]
            return found[place] if place < len(found) else None

        return picked
    raise got("calendar.day", day, DAY_WORDS)


def _is(kind: str, day: date) -> bool:
    return day.weekday() < 5 if kind == "weekday" else WEEKDAYS[day.weekday()] == kind


def due_times(calendar: Calendar, zone: ZoneInfo, after: float) -> Iterator[float]:
    """The moments of a calendar beyond `after`, in order."""
    at, without = read_time(calendar.time), set(calendar.without)
    first = datetime.fromtimestamp(after, UTC).astimezone(zone).date() - timedelta(days=1)
    for day in _dates(calendar) if calendar.each is None else _days(calendar, first):
        if day.isoformat() not in without and (found := moment(day, at, zone)) > after:
            yield found


def _dates(calendar: Calendar) -> Iterator[date]:
    return iter(sorted({date.fromisoformat(each) for each in calendar.dates}))


def _days(calendar: Calendar, first: date) -> Iterator[date]:
    assert calendar.each is not None
    step, pick = STEPS[calendar.each], picker(calendar.day)
    year, month = first.year, (first.month - 1) // step * step + 1
    while year < LAST_YEAR:
        days = [
            date(year, each, number)
            for each in range(month, month + step)
            for number in range(1, months.monthrange(year, each)[1] + 1)
        ]
        if (found := pick(days)) is not None:
            yield found
        year, month = (year, month + step) if month + step <= 12 else (year + 1, 1)
