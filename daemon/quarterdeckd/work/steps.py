"""The steps of pipelines as the daemon sees them: what a worker tells is kept and said, what asks has an end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from quarterdeckd.api.clock import Clock
from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.bus import Bus, Kept
from quarterdeckd.services.pipelines import time_left
from quarterdeckd.work.handover import Handover
from quarterstore.ledger.state import State
from quarterstore.records import flows, jobs, pipelines
from quarterstore.records.faults import Conflict, Fault, Refused

log = logging.getLogger(__name__)
NOT_TOLD = ("approve", *(name for name, kind in flows.KINDS.items() if kind.daemon))
AGAIN = 5.0
"""Seconds after which a no that could not be kept (the disk is full) is said again."""
LONGEST = 60.0
"""Seconds after which deadlines are looked at again: the machine may have slept, which the loop does not count."""


class Steps:
    """Keeps the files of steps that ended and notes every step where it stands."""

    def __init__(self, view: State, dispatch: Dispatch, handover: Handover) -> None:
        self._view = view
        self._dispatch = dispatch
        self._handover = handover

    async def note(self, job: jobs.Job, lines: Iterable[jobs.Line]) -> None:
        """Note the newest line of each step, unless it is known; what was noted before a crash may be told again."""
        newest: dict[str, pipelines.Step] = {}
        for line in lines:
            if line.kind == "step" and line.step is not None:
                try:
                    newest[line.name] = msgspec.convert(line.step, pipelines.Step)
                except msgspec.ValidationError as error:
                    log.warning("%s: a step that is none: %s", job.id, error)
        await asyncio.gather(*(self._note(job, step) for step in newest.values()))

    async def _note(self, job: jobs.Job, step: pipelines.Step) -> None:
        run = self._view.pipeline_runs[job.subject]
        known = next((each for each in run.steps if each.name == step.name), None)
        # what a person or the daemon does is not for a worker to tell, in which a person's code may write
        if run.job != job.id or known is None or known.uses in NOT_TOLD:
            return
        try:
            kept = await asyncio.to_thread(self._handover.step_kept, job, step)
            if kept != known:
                await self._dispatch.speak(pipelines.NoteStep(pipeline_run=run.id, step=kept))
        except Conflict as fault:
            log.info("%s of %s: %s", step.name, job.id, fault.line())
        except Refused as fault:  # what it left may not be kept: nothing is to be made of it
            await self._refuse(job, replace(known, state="FAILED", words=fault.line()))
        except (Fault, OSError) as error:
            log.error("%s of %s: %s", step.name, job.id, error.line() if isinstance(error, Fault) else error)

    async def _refuse(self, job: jobs.Job, step: pipelines.Step) -> None:
        """The step failed, and with it the run."""
        why = f"{step.name}: {step.words}"
        try:
            await self._dispatch.speak(pipelines.NoteStep(pipeline_run=job.subject, step=step))
            await self._dispatch.speak(jobs.EndJob(job=job.id, state="FAILED", error=why))
        except Fault as fault:
            log.info("%s: %s: %s", job.id, why, fault.line())


class Deadlines:
    """Says no for whoever does not answer a step that asks."""

    def __init__(self, view: State, dispatch: Dispatch, bus: Bus, clock: Clock) -> None:
        self._view = view
        self._dispatch = dispatch
        self._clock = clock
        self._wake = asyncio.Event()
        bus.on_kept(self._kept)

    def _kept(self, kept: Kept) -> None:
        if any(isinstance(event, pipelines.PipelineAsked) for event in kept.events):
            self._wake.set()

    async def watch(self) -> None:
        """Until cancelled: expire what is late, also what came to be late while no daemon ran."""
        while True:
            self._wake.clear()
            soonest = await self.look()
            try:
                # not wait_for: in Python 3.11 it swallows a cancel that comes with the wake, and stopping hangs
                async with asyncio.timeout(max(0.05, soonest)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def look(self) -> float:
        """Expire what is late, and answer after how many seconds to look again."""
        soonest = LONGEST
        for run in [run for run in self._view.pipeline_runs if run.state == "WAITING"]:
            step = next(each for each in run.steps if each.state == "ASKING")
            left = time_left(step, self._clock.now())
            soonest = min(soonest, left if left > 0 else AGAIN)
            if left <= 0:
                await self._expire(run.id, step.name)
        return soonest

    async def _expire(self, run: str, step: str) -> None:
        try:
            await self._dispatch.speak(pipelines.ExpireStep(pipeline_run=run, step=step))
        except Fault as fault:
            log.info("%s of %s: %s", step, run, fault.line())
