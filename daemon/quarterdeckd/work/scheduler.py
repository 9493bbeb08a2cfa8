"""The clock: APScheduler wakes us when a schedule is due; what is due, missed and done stands in our own table."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.bus import Bus, Kept
from quarterdeckd.services.schedules import missed_before
from quarterstore.ledger.state import State
from quarterstore.records import schedules
from quarterstore.records.faults import Conflict, Fault

if TYPE_CHECKING:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

log = logging.getLogger(__name__)
ON_TIME = 5.0
"""Seconds within which a firing counts as on time, not as missed."""
JUMP = 2.0
"""Seconds by which the wall clock may part from the monotonic one before every alarm is set anew: APScheduler waits on
the delay it worked out before the jump, and would be deaf for as long as the clock was put back."""
_CHANGES = (schedules.ScheduleAdded, schedules.SchedulePaused, schedules.ScheduleRemoved, schedules.ScheduleFired)


class Scheduler:
    """Sets one alarm a schedule, at its next due time; a due schedule is fired by an act of its own, once."""

    def __init__(self, view: State, dispatch: Dispatch, bus: Bus) -> None:
        self._view = view
        self._dispatch = dispatch
        self._alarms: AsyncIOScheduler
        self._firing: dict[str, asyncio.Task[None]] = {}
        self._bus = bus

    def start(self) -> None:
        """Load APScheduler (0.1 s, so behind the first answer), and set every alarm."""
        from apscheduler.schedulers.asyncio import AsyncIOScheduler

        self._alarms = AsyncIOScheduler(timezone=UTC)
        self._alarms.start()
        self._bus.on_kept(self._kept)
        self._set_all()

    def stop(self) -> None:
        """Set no more alarms."""
        self._alarms.shutdown(wait=False)

    def _kept(self, kept: Kept) -> None:
        for event in kept.events:
            if isinstance(event, _CHANGES):
                name = event.schedule.name if isinstance(event, schedules.ScheduleAdded) else event.name
                self._set(name)

    def _set_all(self) -> None:
        for schedule in self._view.schedules:
            self._set(schedule.name)

    def _set(self, name: str) -> None:
        schedule = self._view.schedules.get(name)
        if self._alarms.get_job(name) is not None:
            self._alarms.remove_job(name)
        if schedule is None or schedule.next is None:
            return
        when = datetime.fromtimestamp(max(schedule.next, time.time()), UTC)
        # the grace is stored with a job and its default of 1 s drops what is late: say it every time
        self._alarms.add_job(self._due, "date", run_date=when, id=name, args=[name], misfire_grace_time=None)

    async def watch_jumps(self) -> None:
        """Until cancelled: set every alarm anew when the wall clock was moved."""
        apart = time.time() - time.monotonic()
        while True:
            await asyncio.sleep(1.0)
            now_apart = time.time() - time.monotonic()
            if abs(now_apart - apart) > JUMP:
                log.warning("the clock moved by %.0f s; every alarm is set anew", now_apart - apart)
                self._set_all()
            apart = now_apart

    async def _due(self, name: str) -> None:
        if name in self._firing and not self._firing[name].done():
            return
        self._firing[name] = asyncio.create_task(self.fire(name))
        await self._firing[name]

    async def fire(self, name: str) -> None:
        """Fire what is due of one schedule, by its policy for what was missed."""
        schedule = self._view.schedules.get(name)
        now = time.time()
        due = missed_before(schedule, now) if schedule is not None and not schedule.paused else []
        if schedule is None or not due:
            return
        if schedule.missed == "all":
            for moment in due:
                await self._fire(name, moment, 0, True)
            return
        late = now - due[-1] > ON_TIME
        skipped = schedule.missed == "skip" and late
        missed = len(due) - 1 + (1 if skipped else 0)
        await self._fire(name, due[-1], missed, not skipped)

    async def _fire(self, name: str, due: float, missed: int, run: bool) -> None:
        request = f"schedule-{name}-{due:.3f}"
        try:
            await self._dispatch.speak(
                schedules.FireSchedule(name=name, due=due, missed=missed, run=run), request=request
            )
        except Conflict as fault:
            log.info("schedule %s: %s", name, fault.line())
            await self._note(name, due, fault)
        except Fault as fault:
            await self._note(name, due, fault)

    async def _note(self, name: str, due: float, fault: Fault) -> None:
        schedule = self._view.schedules.get(name)
        if schedule is None or schedule.next is None or schedule.next > due:
            return
        log.warning("schedule %s: %s", name, fault.line())
        await self._dispatch.speak(
            schedules.NoteFailure(name=name, due=due, error=fault.line()[:500]), request=f"failed-{name}-{due:.3f}"
        )
