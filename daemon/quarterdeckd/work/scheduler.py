"""The clock: APScheduler wakes us when a schedule is due; what is due, missed and done stands in our own table."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.bus import Bus, Kept
from quarterdeckd.services.due_times import Owed, alarm, owed, retimed
from quarterdeckd.services.scheduled import matches
from quarterdeckd.services.schedules import in_maintenance, to_start
from quarterstore.ledger.state import State
from quarterstore.records import schedules
from quarterstore.records.base import Event
from quarterstore.records.faults import Conflict, Fault
from quarterstore.records.jobs import JobEnded

if TYPE_CHECKING:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

log = logging.getLogger(__name__)
JUMP = 2.0
"""Seconds by which the wall clock may part from the monotonic one before every alarm is set anew: APScheduler waits on
the delay it worked out before the jump, and would be deaf for as long as the clock was put back."""
AGAIN = 5.0
"""Seconds after which a firing is tried again that could neither be kept nor be noted as failed."""
LONG_AGO = 60.0
"""Seconds of lateness from which on what was missed is counted in a thread: it may be twelve years of minutes."""
MOST_JOBS = 10_000
"""Jobs of schedules that are known as such."""
AFTER = "after the maintenance"
_CHANGES = (
    schedules.ScheduleAdded,
    schedules.SchedulePaused,
    schedules.ScheduleRemoved,
    schedules.FiringDecided,
    schedules.ScheduleRetimed,
)


class Scheduler:
    """Sets one alarm a schedule, at its next due time; a due schedule is fired by an act of its own, once."""

    def __init__(self, view: State, dispatch: Dispatch, bus: Bus, clock: Callable[[], float] = time.time) -> None:
        self._view = view
        self._dispatch = dispatch
        self._alarms: AsyncIOScheduler | None = None
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._listening: dict[str, list[str]] | None = None
        self._jobs = {job: kept.schedule for kept in view.firings for firing in kept.firings for job in firing.jobs}
        """Whose the jobs are, the newest of them."""
        self._bus = bus
        self._clock = clock
        self._apart = clock() - time.monotonic()

    def start(self) -> None:
        """Set every alarm."""
        self._bus.on_kept(self._kept)
        self._set_all()

    def stop(self) -> None:
        """Set no more alarms."""
        if self._alarms is not None:
            self._alarms.shutdown(wait=False)

    def _loaded(self) -> AsyncIOScheduler:
        """APScheduler, from the first alarm on: it takes 0.05 s to import, and most daemons have no schedule."""
        if self._alarms is None:
            from apscheduler.schedulers.asyncio import AsyncIOScheduler

            self._alarms = AsyncIOScheduler(timezone=UTC)
            self._alarms.start()
        return self._alarms

    def held(self) -> bool:
        """Whether maintenance is on: nothing fires, nothing reacts."""
        return in_maintenance(self._view, self._clock()) is not None

    def _kept(self, kept: Kept) -> None:
        for event in kept.events:
            if isinstance(event, schedules.MaintenanceBegan | schedules.MaintenanceEnded):
                self._set_all()
            elif isinstance(event, _CHANGES):
                # the clock may have been put back while it was paused, or while a firing was on its way
                self._retime_moved(_name_of(event))
                self._set(_name_of(event))
            elif isinstance(event, schedules.FiringStarted):
                self._note_jobs(event)
            elif isinstance(event, JobEnded) and (schedule := self._jobs.get(event.job)) is not None:
                self._soon(schedule, self._start_next(schedule))

    def _note_jobs(self, started: schedules.FiringStarted) -> None:
        self._jobs |= dict.fromkeys(started.jobs, started.name)
        while len(self._jobs) > MOST_JOBS:
            del self._jobs[next(iter(self._jobs))]

    def _set_all(self) -> None:
        """Every alarm anew, and what a clock that was put back has made too late; the end of a maintenance."""
        self._wake(AFTER, self._end_maintenance, found.until if (found := self._view.maintenance.get("deck")) else None)
        for schedule in self._view.schedules:
            self._retime_moved(schedule.name)
            self._set(schedule.name)
            if to_start(self._view, schedule) is not None:
                self._soon(schedule.name, self._start_next(schedule.name))

    def _retime_moved(self, name: str) -> None:
        schedule = self._view.schedules.get(name)
        if schedule is not None and retimed(schedule, self._clock())[0] != schedule.next:
            self._soon(name, self._retime(name))

    def _set(self, name: str) -> None:
        schedule = self._view.schedules.get(name)
        due = None if schedule is None or schedule.next is None else alarm(schedule, schedule.next)
        self._wake(f"schedule {name}", self._due, None if self.held() else due, name)

    def _wake(self, own: str, call: Callable[..., Any], at: float | None, *args: str) -> None:
        """Call at a time of the wall clock, in place of what was set before; without a time do not call."""
        if self._alarms is not None and self._alarms.get_job(own) is not None:
            self._alarms.remove_job(own)
        if at is not None:
            when = datetime.fromtimestamp(max(at, self._clock()), UTC)
            # the grace is stored with a job and its default of 1 s drops what is late: say it every time
            self._loaded().add_job(call, "date", run_date=when, id=own, args=args, misfire_grace_time=None)

    async def watch_jumps(self) -> None:
        """Until cancelled: set every alarm anew when the wall clock was moved."""
        while True:
            await asyncio.sleep(1.0)
            self._look_at_clock()

    def _look_at_clock(self) -> float:
        """What it shows. Also at each firing, which goes by this very reading: a clock that is put forward and back
        between two looks would not be seen to move."""
        now = self._clock()
        apart = now - time.monotonic()
        moved, self._apart = apart - self._apart, apart
        if abs(moved) > JUMP:
            log.warning("the clock moved by %.0f s; every alarm is set anew", moved)
            self._set_all()
        return now

    def _soon(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Do something for a schedule behind what is done for it already."""
        before = self._busy.get(name)

        async def in_turn() -> None:
            if before is not None:
                await asyncio.wait([before])
            await work

        task = self._busy[name] = asyncio.get_running_loop().create_task(in_turn())

        def done(task: asyncio.Task[None]) -> None:
            if self._busy.get(name) is task:
                del self._busy[name]
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("schedule %s", name, exc_info=error)

        task.add_done_callback(done)

    async def _due(self, name: str) -> None:
        self._soon(name, self.fire(name))

    async def fire(self, name: str) -> None:
        """Fire what is due of one schedule, by its policy for what was missed."""
        now, schedule = self._look_at_clock(), self._view.schedules.get(name)
        if schedule is None or schedule.paused or schedule.next is None or self.held():
            return
        if now - schedule.next > LONG_AGO:
            found = await asyncio.to_thread(owed, schedule, now)
        else:
            found = owed(schedule, now)
        for each in found:
            await self._fire(name, each)
        if not found:
            self._set(name)  # woken before its time: by a clock that was put back
        elif (still := self._view.schedules.get(name)) is not None and still.next == schedule.next:
            # neither fired nor noted as failed (the disk is full): its alarm is used up
            self._wake(f"schedule {name}", self._due, self._clock() + AGAIN, name)

    async def _fire(self, name: str, each: Owed, place: str = "", request: str | None = None) -> None:
        act = schedules.FireSchedule(name=name, due=each.due, missed=each.missed, run=each.run, place=place)
        try:
            await self._dispatch.speak(act, request=request)
        except Fault as fault:
            log.info("schedule %s: %s", name, fault.line())
            await self._note(act, fault)

    async def _note(self, act: schedules.FireSchedule, fault: Fault) -> None:
        """A fault of the act itself is kept; that it was not due (any more) is none."""
        schedule = self._view.schedules.get(act.name)
        if schedule is None or schedule.paused or self.held():
            return
        try:
            await self._dispatch.speak(
                schedules.NoteFailure(
                    name=act.name, due=act.due, error=fault.line()[:500], missed=act.missed, place=act.place
                )
            )
        except Conflict as other:
            log.info("schedule %s: %s", act.name, other.line())
        except Fault as other:
            log.error("schedule %s: its failure is not noted: %s", act.name, other.line())

    async def _start_next(self, name: str) -> None:
        """Do what waited for a job of this schedule, or do again what was lost with one."""
        schedule = self._view.schedules.get(name)
        firing = to_start(self._view, schedule) if schedule is not None and not self.held() else None
        if firing is None:
            return
        try:
            await self._dispatch.speak(schedules.StartFiring(name=name, firing=firing.id))
        except Fault as fault:
            log.info("schedule %s: %s", name, fault.line())
            place = firing.id.removeprefix(f"{name}/")
            act = schedules.FireSchedule(name=name, due=firing.due, place=place if "/" in place else "")
            await self._note(act, fault)

    async def _retime(self, name: str) -> None:
        try:
            await self._dispatch.speak(schedules.RetimeSchedule(name=name))
        except Fault as fault:
            log.info("schedule %s: %s", name, fault.line())

    async def _end_maintenance(self) -> None:
        if self._view.maintenance.get("deck") is not None and not self.held():
            await self._dispatch.speak(schedules.ResumeAll())

    def listens(self) -> bool:
        """Whether any schedule is set on an event."""
        return any(schedule.on is not None for schedule in self._view.schedules)

    def happened(self, kept: Kept, place: int, event: Event) -> None:
        """Fire the schedules that are set on an event. The request id is made of the entry, so that one that is read
        again after a restart has one effect. What a schedule did itself, and what came of its jobs, does not set it off
        again: it would go on for ever."""
        if self._listening is None or isinstance(event, _CHANGES):
            self._listening = self._by_event()
        for name in self._listening.get(str(type(event).__struct_config__.tag), ()):
            schedule = self._view.schedules.get(name)
            if schedule is None or schedule.on is None or schedule.paused or kept.entry.seq <= schedule.since:
                continue
            if kept.entry.act.startswith("schedules.") or not matches(schedule.on, event):
                continue
            if any(isinstance(each, JobEnded) and self._jobs.get(each.job) == name for each in kept.events):
                continue
            own = f"{kept.entry.seq}/{place}"
            request = "happened-" + hashlib.sha256(f"{own}/{name}".encode()).hexdigest()[:32]
            self._soon(name, self._fire(name, Owed(kept.entry.at, 0, True), own, request))

    def _by_event(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for schedule in self._view.schedules:
            if schedule.on is not None:
                found.setdefault(schedule.on.event, []).append(schedule.name)
        return found


def _name_of(event: Any) -> str:
    if isinstance(event, schedules.ScheduleAdded):
        return event.schedule.name
    return event.firing.schedule if isinstance(event, schedules.FiringDecided) else str(event.name)
