"""When a schedule is due: zones and their changes, what was missed, and clocks that jump."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quarterdeckd.services import calendars
from quarterdeckd.services.due_times import MOST_CAUGHT_UP, alarm, coming, due_times, following, owed, retimed
from quarterstore.records.schedules import Calendar, Schedule

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC")
BEGUN, OVER = datetime(2026, 1, 1, tzinfo=UTC).timestamp(), datetime(2028, 1, 1, tzinfo=UTC).timestamp()
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()


def schedule(**about: Any) -> Schedule:
    """A schedule named `s`, made at noon and due next by its own rules."""
    made = Schedule(**{"name": "s", "act": {}, "created": NOON, "created_by": "ana", **about})
    return made if "next" in about else replace(made, next=next(due_times(made, made.created), None))


DAILY: list[dict[str, Any]] = [
    {"cron": "30 2 * * *"},
    {"calendar": Calendar(time="02:30", each="month", day="1")},
]


@pytest.mark.fault
@pytest.mark.parametrize("zone", ZONES)
def test_half_past_two_comes_once_on_every_local_day_of_two_years(zone: str) -> None:
    """F12: on the days whose clocks change too, and at a wall time that exists."""
    local = ZoneInfo(zone)
    found = list(itertools.takewhile(lambda due: due < OVER, due_times(schedule(cron="30 2 * * *", zone=zone), BEGUN)))
    walls = [datetime.fromtimestamp(due, local) for due in found]
    days = Counter(wall.date() for wall in walls)
    assert len(days) == 730 and set(days.values()) == {1}
    assert all((wall.hour, wall.minute) in ((2, 30), (3, 0)) for wall in walls)
    skipped = [wall for wall in walls if wall.hour == 3]
    assert len(skipped) == (2 if zone in ("Europe/Berlin", "America/New_York") else 0)
    for each in coming(schedule(cron="30 2 * * *", zone=zone), found[60], 100):
        shown = datetime.strptime(each.local.rpartition(" ")[0], "%a %Y-%m-%d %H:%M:%S").replace(tzinfo=local)
        assert each.at in (shown.timestamp(), shown.replace(fold=1).timestamp())
        assert each.utc.endswith(" UTC")


@pytest.mark.parametrize(
    ("zone", "day", "wall", "expected"),
    [
        ("Europe/Berlin", date(2026, 3, 29), "02:30", "2026-03-29T01:00:00+00:00"),
        ("Europe/Berlin", date(2026, 10, 25), "02:30", "2026-10-25T00:30:00+00:00"),
        ("Australia/Lord_Howe", date(2026, 10, 4), "02:15", "2026-10-03T15:30:00+00:00"),
        ("Australia/Lord_Howe", date(2026, 4, 5), "01:45", "2026-04-04T14:45:00+00:00"),
        ("Asia/Kathmandu", date(2026, 5, 1), "00:00", "2026-04-30T18:15:00+00:00"),
        ("Africa/Monrovia", date(1972, 1, 7), "00:20", "1972-01-07T00:44:30+00:00"),
    ],
)
def test_a_skipped_wall_time_is_the_end_of_the_gap_and_a_doubled_one_the_first(
    zone: str, day: date, wall: str, expected: str
) -> None:
    found = calendars.moment(day, time.fromisoformat(wall), ZoneInfo(zone))
    assert datetime.fromtimestamp(found, UTC).isoformat() == expected


@pytest.mark.parametrize(
    ("calendar", "expected"),
    [
        (Calendar(each="month", day="last weekday"), ["2026-11-30", "2026-12-31", "2027-01-29"]),
        (Calendar(each="month", day="first monday"), ["2026-12-07", "2027-01-04", "2027-02-01"]),
        (Calendar(each="month", day="31"), ["2026-12-31", "2027-01-31", "2027-03-31"]),
        (Calendar(each="month", day="last"), ["2026-11-30", "2026-12-31", "2027-01-31"]),
        (Calendar(each="quarter", day="first weekday"), ["2027-01-01", "2027-04-01", "2027-07-01"]),
        (Calendar(each="quarter", day="last friday", without=("2026-12-25",)), ["2027-03-26", "2027-06-25"]),
        (Calendar(each="year", day="last"), ["2026-12-31", "2027-12-31"]),
        (Calendar(dates=("2027-02-01", "2026-12-24", "2020-01-01")), ["2026-12-24", "2027-02-01"]),
    ],
)
def test_a_calendar_names_its_days(calendar: Calendar, expected: list[str]) -> None:
    calendars.checked(calendar)
    times = due_times(schedule(calendar=calendar), NOON)
    found = [datetime.fromtimestamp(due, UTC).date().isoformat() for due in itertools.islice(times, len(expected))]
    assert found == expected


def test_the_29th_of_february_comes_every_four_years() -> None:
    leap = schedule(cron="0 12 29 2 *")
    years = [datetime.fromtimestamp(due, UTC).year for due in itertools.islice(due_times(leap, NOON), 3)]
    assert years == [2028, 2032, 2036]


HOUR = 3600.0


@pytest.mark.fault
@pytest.mark.parametrize(
    ("missed", "expected"),
    [("once", [(3, 2, True)]), ("skip", [(3, 2, True)]), ("all", [(1, 0, True), (2, 0, True), (3, 0, True)])],
)
def test_three_hours_that_were_missed_are_made_up_for_by_policy(missed: Any, expected: Any) -> None:
    """F13: an hourly one; the newest is 30 min late, within the grace of an hour."""
    hourly = schedule(every=HOUR, missed=missed)
    found = owed(hourly, NOON + 3.5 * HOUR)
    assert [((each.due - NOON) / HOUR, each.missed, each.run) for each in found] == expected
    assert owed(hourly, NOON + HOUR - 0.1) == []
    assert [each.missed for each in owed(hourly, NOON + HOUR)] == [0]


def test_what_is_skipped_runs_within_its_grace_and_not_beyond_it() -> None:
    daily = schedule(every=24 * HOUR, missed="skip", grace=600.0)
    assert [each.run for each in owed(daily, NOON + 24 * HOUR + 600)] == [True]
    assert [each.run for each in owed(daily, NOON + 24 * HOUR + 601)] == [False]
    at_once = replace(daily, grace=0.0)
    assert [each.run for each in owed(at_once, NOON + 24 * HOUR + 4)] == [True]


@pytest.mark.parametrize("about", [{"every": 1.0}, {"cron": "* * * * *"}, {"cron": "30 2 * * *"}])
def test_a_clock_that_jumps_twelve_years_makes_one_firing_and_not_six_million(about: dict[str, Any]) -> None:
    found = schedule(**about)
    now = datetime(2038, 1, 20, 3, tzinfo=UTC).timestamp()
    [one] = owed(found, now)
    assert one.missed >= MOST_CAUGHT_UP and one.run and now - one.due <= 24 * HOUR
    every = owed(replace(found, missed="all"), now)
    assert 1 <= len(every) <= MOST_CAUGHT_UP and every[-1].due == one.due
    assert every[0].missed >= MOST_CAUGHT_UP


@given(st.floats(0.0, 30.0), st.integers(1, 5), st.text("abc", min_size=1, max_size=5))
def test_jitter_is_the_same_for_one_due_time_and_never_before_it(jitter: float, nth: int, name: str) -> None:
    found = schedule(name=name, every=60.0, jitter=jitter)
    due = NOON + nth * 60
    assert alarm(found, due) == alarm(found, due)
    assert due <= alarm(found, due) <= due + jitter
    assert owed(replace(found, next=due), alarm(found, due)) != []


@pytest.mark.fault
def test_a_clock_that_is_put_back_fires_no_due_time_again_and_goes_deaf_for_none() -> None:
    """F11: a daily one that fired yesterday and today; back by a day it waits for tomorrow."""
    today = datetime(2026, 11, 26, 2, 30, tzinfo=UTC).timestamp()
    fired = schedule(cron="30 2 * * *", last=today, next=today + 24 * HOUR, handled=((today - 240 * HOUR, today),))
    assert retimed(fired, NOON - 24 * HOUR)[0] == today + 24 * HOUR
    in_2038 = datetime(2038, 1, 20, 2, 30, tzinfo=UTC).timestamp()
    jumped = replace(fired, last=in_2038, next=in_2038 + 24 * HOUR, handled=(*fired.handled, (in_2038, in_2038)))
    assert retimed(jumped, NOON)[0] == today + 24 * HOUR
    assert following(jumped, in_2038 - 1) == in_2038 + 24 * HOUR


def test_an_interval_counts_from_a_clock_that_was_put_back() -> None:
    found = schedule(every=60.0, next=NOON + 60)
    assert retimed(found, NOON + 1) == (NOON + 60, None)
    back = NOON - 24 * HOUR
    due, anchor = retimed(found, back)
    assert (due, anchor) == (back + 60, back)
    moved = replace(found, next=due, anchor=anchor)
    assert list(itertools.islice(due_times(moved, back), 2)) == [back + 60, back + 120]


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["*/20 * * * *", "0 3 * * 1", "15 2,14 * * *", "0 0 1,15 * 5"]),
    st.sampled_from(ZONES),
    st.integers(0, 700),
    st.lists(st.integers(0, 100), min_size=1, max_size=12),
)
def test_however_often_the_daemon_is_away_each_due_time_is_said_once(
    cron: str, zone: str, start: int, away: list[int]
) -> None:
    """Fired and missed together are the due times there are, without a gap and without a double."""
    made = schedule(cron=cron, zone=zone, created=BEGUN + start * 24 * HOUR)
    now, said, missed = made.created, [], 0
    for hours in away:
        now += hours * HOUR
        for each in owed(made, now):
            said.append(each.due)
            missed += each.missed
            made = replace(made, last=each.due, next=following(made, each.due))
    due = list(itertools.takewhile(lambda at: at <= now, due_times(made, made.created)))
    assert len(due) == len(set(said)) + missed and set(said) <= set(due)
    assert made.next is None or made.next > now
