"""Signs of life: a run that is not heard of for too long is LOST, one that speaks again is RUNNING."""

from __future__ import annotations

import asyncio
import logging
import time

from quarterdeckd.api.dispatch import Dispatch
from quarterstore.ledger.state import State
from quarterstore.records.faults import Fault
from quarterstore.records.runs import FindRun, LoseRun

log = logging.getLogger(__name__)


class Hearing:
    """When each run was last heard of, by the monotonic clock: a jump of the wall clock loses nobody."""

    def __init__(self, view: State, dispatch: Dispatch, lost_after: float) -> None:
        self._view = view
        self._dispatch = dispatch
        self._lost_after = lost_after
        self._heard: dict[str, float] = {}
        self._finding: set[str] = set()

    def heard(self, run: str) -> None:
        """A run spoke."""
        self._heard[run] = time.monotonic()
        found = self._view.runs.get(run)
        if found is not None and found.state == "LOST" and run not in self._finding:
            self._finding.add(run)
            asyncio.get_running_loop().create_task(self._find(run))

    async def _find(self, run: str) -> None:
        try:
            await self._dispatch.speak(FindRun(run=run))
        except Fault as fault:
            log.info("%s: %s", run, fault.line())
        finally:
            self._finding.discard(run)

    async def watch(self) -> None:
        """Until cancelled: lose the silent ones. Runs of jobs are the supervisor's to end."""
        every = min(1.0, self._lost_after / 4)
        while True:
            await asyncio.sleep(every)
            now = time.monotonic()
            for run in [run for run in self._view.runs if run.state == "RUNNING" and run.beats and not run.job]:
                # one that was never heard here counts from its start or ours, whichever is later
                silent = now - self._heard.setdefault(run.id, now)
                if silent > self._lost_after - every:  # lost by then, not looked for then
                    await self._lose(run.id, time.time() - silent)

    async def _lose(self, run: str, heard: float) -> None:
        try:
            await self._dispatch.speak(LoseRun(run=run, heard=heard))
        except Fault as fault:
            log.info("%s: %s", run, fault.line())
