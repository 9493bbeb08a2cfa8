"""Schedules: acts that the clock speaks, and what happens to those it missed."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from quarterstore.records.base import Act, Event, Query, Record, Role

Missed = Literal["once", "skip", "all"]


class Schedule(Record, frozen=True):
    """An act and when it is due: `cron` (five fields, cron's own OR of day and weekday) or `every` seconds, in a
    zone."""

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


class AddSchedule(Act[Schedule], tag="schedules.add", frozen=True):
    """Speak an act when it is due; replaces a schedule of the same name."""

    name: str
    act: dict[str, Any]
    cron: str | None = None
    every: float | None = None
    zone: str = "UTC"
    missed: Missed = "once"


class PauseSchedule(Act[Schedule], tag="schedules.pause", frozen=True):
    """Stop a schedule from firing, or let it fire again."""

    name: str
    paused: bool = True


class RemoveSchedule(Act[Schedule], tag="schedules.remove", frozen=True):
    """Forget a schedule."""

    name: str


class FireSchedule(Act[Schedule], tag="schedules.fire", frozen=True):
    """Say that a schedule was due at `due` and how many firings before it were missed; spoken by the clock. The
    scheduled act follows under the request id made of name and due time, so that it happens once."""

    role: ClassVar[Role] = "daemon"
    name: str
    due: float
    missed: int = 0
    run: bool = True


class NoteFailure(Act[Schedule], tag="schedules.note_failure", frozen=True):
    """Say that a scheduled act met a fault."""

    role: ClassVar[Role] = "daemon"
    name: str
    due: float
    error: str


class ListSchedules(Query[list[Schedule]], tag="schedules.list", frozen=True):
    """Every schedule with its next due time, what it missed and its last error."""


class NextFirings(Query[list[float]], tag="schedules.next", frozen=True):
    """The next due times of one schedule."""

    name: str
    count: int = 5


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


class ScheduledActFailed(Event, tag="schedules.act_failed", frozen=True):
    """A scheduled act met a fault."""

    name: str
    due: float
    error: str
