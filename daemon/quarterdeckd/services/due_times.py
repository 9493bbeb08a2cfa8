"""When a schedule is due: its next times, what is made up for, what a clock that was put back changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count, islice
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim

from quarterdeckd.services import calendars
from quarterstore.records.schedules import DueTime, Schedule

ON_TIME = 5.0
"""Seconds within which a firing counts as on time, whatever its grace is."""
MOST_CAUGHT_UP = 1000
"""Due times that are made up for at most, and counted one by one."""
SAME = 0.001
"""Seconds within which two due times of `every` are the same: firings are named to the millisecond."""
WINDOWS = (3600.0, 86_400.0, 31 * 86_400.0, 366 * 86_400.0, 5 * 366 * 86_400.0)


class Owed(NamedTuple):
    """A firing that has to be said: its due time, how many before it were missed, whether the act is done."""

    due: float
    missed: int
    run: bool


def due_times(schedule: Schedule, after: float) -> Iterator[float]:
    """When a schedule is due beyond `after`, in order: cron's own rules by cronsim, in the schedule's zone, so that a
    local hour that is skipped or doubled fires once; `every` counts from its anchor; none for one `on` an event."""
    if schedule.cron is not None:
        zone = ZoneInfo(schedule.zone)
        for moment in CronSim(schedule.cron, datetime.fromtimestamp(after, UTC).astimezone(zone)):
            yield moment.timestamp()
    elif schedule.calendar is not None:
        yield from calendars.due_times(schedule.calendar, ZoneInfo(schedule.zone), after)
    elif schedule.every is not None:
        begun = _anchor(schedule)
        count = max(0, int((after - begun) // schedule.every))
        while True:
            count += 1
            due = begun + count * schedule.every
            if due > after:
                yield due


def _anchor(schedule: Schedule) -> float:
    return schedule.created if schedule.anchor is None else schedule.anchor


def following(schedule: Schedule, after: float) -> float | None:
    """The first due time beyond `after` that was not fired before; nothing when none is left."""
    while True:
        due = next(due_times(schedule, after), None)
        if due is None:
            return None
        within = [each for each in schedule.handled if each[0] <= due <= each[1]]
        stretch = next((each for each in within if _meets(schedule, each, due)), None)
        if stretch is None:
            return due
        after = stretch[1]


def _meets(schedule: Schedule, stretch: tuple[float, float], moment: float) -> bool:
    """Whether times of a stretch fall on those that are counted from a moment: always, but for `every`, which counts
    from elsewhere once the clock was put back."""
    if schedule.every is None:
        return True
    apart = (moment - stretch[0]) % schedule.every
    return min(apart, schedule.every - apart) < SAME


def alarm(schedule: Schedule, due: float) -> float:
    """When the firing of a due time is to happen: late by its share of the jitter, which name and due time give (a
    restart does not draw anew)."""
    if not schedule.jitter:
        return due
    drawn = hashlib.sha256(f"{schedule.name}/{due:.3f}".encode()).digest()[:8]
    return due + schedule.jitter * int.from_bytes(drawn) / 2**64


def owed(schedule: Schedule, now: float) -> list[Owed]:
    """What has to be said of a schedule at `now`, oldest first. `all`: each due time, at most the newest 1,000. `once`:
    the newest one. `skip`: the newest one, and its act is only done when it is late by its grace at most."""
    if schedule.next is None or alarm(schedule, schedule.next) > now:
        return []
    found, missed = _since(schedule, now)
    if schedule.missed == "all":
        return [Owed(found[0], missed, True), *(Owed(each, 0, True) for each in found[1:])]
    newest = found[-1]
    late = now - alarm(schedule, newest)
    run = schedule.missed == "once" or late <= max(schedule.grace, ON_TIME)
    return [Owed(newest, missed + len(found) - 1, run)]


def _since(schedule: Schedule, now: float) -> tuple[list[float], int]:
    """Every due time from `next` to now, and how many were left out before them where there are more than 1,000."""
    assert schedule.next is not None
    found = [schedule.next]
    for due in due_times(schedule, schedule.next):
        if alarm(schedule, due) > now:
            return found, 0
        if len(found) == MOST_CAUGHT_UP:
            break
        found.append(due)
    else:
        return found, 0
    newest = _newest(schedule, now)
    if schedule.every is None:
        return newest, MOST_CAUGHT_UP  # and more: nobody counts a minute of twelve years
    return newest, round((newest[0] - schedule.next) / schedule.every)


def _newest(schedule: Schedule, now: float) -> list[float]:
    """The newest due times up to now, at most 1,000, of the shortest window that has any."""
    for window in WINDOWS:
        times = due_times(schedule, now - window)
        found: list[float] = []
        for due in times:
            if alarm(schedule, due) > now:
                break
            found.append(due)
            del found[:-MOST_CAUGHT_UP]
        if found:
            return found
    assert schedule.next is not None
    return [schedule.next]


def retimed(schedule: Schedule, now: float) -> tuple[float | None, float | None]:
    """When a schedule that is not due yet should be due next, and what `every` counts from now. The clock was put back
    when `every` has longer to wait than it lasts; it counts from now then. Of the others no due time that was fired
    comes again."""
    if schedule.paused or schedule.next is None or schedule.next <= now:
        return schedule.next, schedule.anchor
    if schedule.every is not None:
        if schedule.next - now > schedule.every + 0.001:
            anchor = _fresh(schedule, now)
            return anchor + schedule.every, anchor
        return schedule.next, schedule.anchor
    return following(schedule, now), schedule.anchor


def _fresh(schedule: Schedule, now: float) -> float:
    """Now, or a few milliseconds later where counting from now would come to due times that were fired: put back by a
    whole number of `every` they would be the same ones, and the schedule deaf until it is past them."""
    tries = (now + 2 * SAME * turn for turn in count())
    return next(each for each in tries if not any(_meets(schedule, stretch, each) for stretch in schedule.handled))


def coming(schedule: Schedule, now: float, count: int) -> list[DueTime]:
    """The next due times in UTC and on the wall of the zone."""
    begun = schedule.next if schedule.next is not None and schedule.next > now else following(schedule, now)
    if begun is None:
        return []
    times, zone, utc = [begun, *islice(due_times(schedule, begun), count - 1)], ZoneInfo(schedule.zone), ZoneInfo("UTC")
    return [DueTime(at=due, local=_written(due, zone), utc=_written(due, utc)) for due in times]


def _written(due: float, zone: ZoneInfo) -> str:
    wall = datetime.fromtimestamp(due, UTC).astimezone(zone)
    return f"{wall:%a %Y-%m-%d %H:%M:%S} {wall.tzname()}"
