"""Schedules: acts that the clock or an event speaks, what became of each firing, and maintenance."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from quarterstore.records.base import Act, Event, Query, Record, Role

Missed = Literal["once", "skip", "all"]
Overlap = Literal["skip", "queue", "kill"]
Lost = Literal["leave", "again"]
Period = Literal["month", "quarter", "year"]
FiringState = Literal["RAN", "WAITING", "SKIPPED", "FAILED"]


class Calendar(Record, frozen=True):
    """Days at a wall time of the schedule's zone: `dates` (2026-12-24), or `day` of `each` period: a number from 1 to
    31 (in a period that has it), `last`, or `first`, `second`, `third`, `fourth` or `last` and a word (`weekday`,
    `monday` to `sunday`). Never on a day in `without`."""

    time: str = "00:00"
    dates: tuple[str, ...] = ()
    each: Period | None = None
    day: str = ""
    without: tuple[str, ...] = ()


class Happening(Record, frozen=True):
    """An event by its tag (`registry.version_registered`), and what its fields have to be; dots go into a record
    (`version.model`)."""

    event: str
    where: dict[str, str | int | float | bool] = {}


class Schedule(Record, frozen=True):
    """An act and when it is due: `cron` (five fields, cron's own OR of day and weekday), `every` seconds, a `calendar`,
    each in a zone, or `on` an event. Times are seconds since 1970 in UTC."""

    name: str
    act: dict[str, Any]
    created: float
    created_by: str
    cron: str | None = None
    every: float | None = None
    zone: str = "UTC"
    missed: Missed = "once"
    paused: bool = False
    next: float | None = None
    last: float | None = None
    fired: int = 0
    missed_count: int = 0
    last_error: str | None = None
    calendar: Calendar | None = None
    on: Happening | None = None
    grace: float = 3600.0
    overlap: Overlap = "skip"
    lost: Lost = "leave"
    jitter: float = 0.0
    since: int = 0
    """The entry that set it: events of before are none of its."""
    anchor: float | None = None
    """What `every` counts from, where it is not `created`: set when the clock was put back."""
    handled: tuple[tuple[float, float], ...] = ()
    """First and last due time of each stretch that was fired without a gap, newest last: a clock that is put back fires
    none of them again."""


class Firing(Record, frozen=True):
    """One time that a schedule was due: when, when that was decided (in entry `seq`), how many due times before it were
    missed, what came of it and why; `jobs` are those that its act queued, `ended` how the last of them stands."""

    id: str
    schedule: str
    due: float
    at: float
    state: FiringState
    missed: int = 0
    why: str = ""
    jobs: tuple[str, ...] = ()
    tries: int = 0
    seq: int = 0
    ended: str | None = None


class History(Record, frozen=True):
    """The newest firings of one schedule, oldest first."""

    schedule: str
    firings: tuple[Firing, ...] = ()


class Maintenance(Record, frozen=True):
    """No schedule fires and nothing reacts from `since` to `until`."""

    since: float
    until: float
    reason: str
    by: str


class DueTime(Record, frozen=True):
    """A due time, in UTC and on the wall of the schedule's zone."""

    at: float
    local: str
    utc: str


class AddSchedule(Act[Schedule], tag="schedules.add", frozen=True):
    """Speak an act when it is due; replaces a schedule of the same name. Of `cron`, `every`, `calendar` and `on` there
    is one. What was `missed` is made up for once, never, or each time; a firing that is late by up to `grace` seconds
    was not missed. While its last job runs a firing is skipped, queued behind it, or kills it (`overlap`). A job that
    was lost is left, or started again up to two times (`lost`). Each firing is late by up to `jitter` seconds, always
    the same for one due time."""

    name: str
    act: dict[str, Any]
    cron: str | None = None
    every: float | None = None
    zone: str = "UTC"
    missed: Missed = "once"
    calendar: Calendar | None = None
    on: Happening | None = None
    grace: float = 3600.0
    overlap: Overlap = "skip"
    lost: Lost = "leave"
    jitter: float = 0.0


class PauseSchedule(Act[Schedule], tag="schedules.pause", frozen=True):
    """Stop a schedule from firing, or let it fire again; what is due meanwhile is not made up for."""

    name: str
    paused: bool = True


class RemoveSchedule(Act[Schedule], tag="schedules.remove", frozen=True):
    """Forget a schedule and its history; jobs it started go on."""

    name: str


class PauseAll(Act[Maintenance], tag="schedules.pause_all", frozen=True):
    """Maintenance: until then no schedule fires and nothing reacts to an event. Afterwards each schedule does what it
    says of missed firings, and what would have been reacted to is reacted to."""

    until: float
    reason: str


class ResumeAll(Act[Maintenance], tag="schedules.resume_all", frozen=True):
    """End the maintenance before its time."""


class FireSchedule(Act[Schedule], tag="schedules.fire", frozen=True):
    """Say that a schedule was due at `due` and how many due times before it were missed; spoken by the clock, or for
    the event at `place` (entry/number). The scheduled act is done in the same entry."""

    role: ClassVar[Role] = "daemon"
    name: str
    due: float
    missed: int = 0
    run: bool = True
    place: str = ""


class StartFiring(Act[Schedule], tag="schedules.start_firing", frozen=True):
    """Do the act of a firing that waited for a job, or whose job was lost."""

    role: ClassVar[Role] = "daemon"
    name: str
    firing: str


class NoteStarted(Act[Schedule], tag="schedules.note_started", frozen=True):
    """Say that the act of a firing was done, and which jobs it queued; follows in the same entry."""

    role: ClassVar[Role] = "daemon"
    name: str
    firing: str
    jobs: tuple[str, ...] = ()


class NoteFailure(Act[Schedule], tag="schedules.note_failure", frozen=True):
    """Say that a scheduled act met a fault."""

    role: ClassVar[Role] = "daemon"
    name: str
    due: float
    error: str
    missed: int = 0
    place: str = ""


class RetimeSchedule(Act[Schedule], tag="schedules.retime", frozen=True):
    """Work out anew when a schedule is due next: the clock was put back, or its zone has other rules."""

    role: ClassVar[Role] = "daemon"
    name: str


class ListSchedules(Query[list[Schedule]], tag="schedules.list", frozen=True):
    """Every schedule with its next due time, what it missed and its last error."""


class NextFirings(Query[list[DueTime]], tag="schedules.next", frozen=True):
    """The next due times of one schedule."""

    name: str
    count: int = 5


class ListFirings(Query[list[Firing]], tag="schedules.history", frozen=True):
    """What became of the last firings, of one schedule or of all, newest first; 50 of each schedule are kept."""

    name: str | None = None
    limit: int = 50


class ShowMaintenance(Query[Maintenance | None], tag="schedules.maintenance", frozen=True):
    """The maintenance that is on, if any."""


class ScheduleAdded(Event, tag="schedules.added", frozen=True):
    """A schedule is set."""

    schedule: Schedule


class SchedulePaused(Event, tag="schedules.paused", frozen=True):
    """A schedule was paused or resumed."""

    name: str
    paused: bool
    next: float | None


class ScheduleRemoved(Event, tag="schedules.removed", frozen=True):
    """A schedule is gone."""

    name: str


class ScheduleFired(Event, tag="schedules.fired", frozen=True):
    """A schedule was due; `run` is false when its policy skips what was missed."""

    name: str
    due: float
    at: float
    missed: int
    run: bool
    next: float | None

    def lift(self) -> Event:
        """With what is kept of a firing since."""
        firing = Firing(
            id=firing_id(self.name, self.due),
            schedule=self.name,
            due=self.due,
            at=self.at,
            state="RAN" if self.run else "SKIPPED",
            missed=self.missed,
        )
        return FiringDecided(firing=firing, missed=self.missed + (not self.run), next=self.next)


class FiringDecided(Event, tag="schedules.fired.2", frozen=True):
    """A schedule was due; what became of it, and how many due times count as missed with it."""

    firing: Firing
    missed: int
    next: float | None


class FiringStarted(Event, tag="schedules.firing_started", frozen=True):
    """The act of a firing was done and queued these jobs."""

    name: str
    firing: str
    at: float
    jobs: tuple[str, ...] = ()


class ScheduledActFailed(Event, tag="schedules.act_failed", frozen=True):
    """A scheduled act met a fault."""

    name: str
    due: float
    error: str


class FiringFailed(Event, tag="schedules.firing_failed", frozen=True):
    """The act of a firing that waited, or was done again, met a fault."""

    name: str
    firing: str
    error: str


class ScheduleRetimed(Event, tag="schedules.retimed", frozen=True):
    """A schedule is due at another time than was worked out."""

    name: str
    next: float | None
    anchor: float | None = None


class MaintenanceBegan(Event, tag="schedules.maintenance_began", frozen=True):
    """Nothing fires or reacts from here on."""

    maintenance: Maintenance


class MaintenanceEnded(Event, tag="schedules.maintenance_ended", frozen=True):
    """Schedules fire and reactions react again."""

    at: float


def firing_id(name: str, due: float, place: str = "") -> str:
    """The id of a firing: the same whenever it is worked out."""
    return f"{name}/{place or format(due, '.3f')}"


def when_words(schedule: Schedule) -> str:
    """When a schedule is due, in words."""
    if schedule.cron is not None:
        return schedule.cron
    if schedule.every is not None:
        return f"every {schedule.every:g} s"
    if schedule.on is not None:
        return f"on {schedule.on.event}"
    assert schedule.calendar is not None
    days = schedule.calendar
    when = f"{days.day} of each {days.each}" if days.each else f"{len(days.dates)} dates"
    return f"{days.time} on {when}"
