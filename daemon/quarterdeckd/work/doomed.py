"""Files that nothing reads any more go from the disk: kept ones as soon as no job that runs names them, those of
studies that were removed."""

from __future__ import annotations

import asyncio
import logging
import shutil

from quarterdeckd.bus import Bus, Kept
from quarterdeckd.work.freeing import digests
from quarterstore.ledger.state import State
from quarterstore.records import feature_files, jobs, studies
from quarterstore.records.places import Home
from quarterstore.shelf.artefacts import Artefacts

log = logging.getLogger(__name__)
MAKERS = ("feature_rows", "compaction", "forgetting")
"""Jobs that leave files of features."""


class DoomedFiles:
    """Level-triggered: what the books call doomed and is there still is taken away, whatever cut the last try off."""

    def __init__(self, home: Home, view: State, artefacts: Artefacts, bus: Bus) -> None:
        self._home = home
        self._view = view
        self._artefacts = artefacts
        self._wake = asyncio.Event()
        bus.on_kept(self._kept)

    def _kept(self, kept: Kept) -> None:
        if any(
            isinstance(event, feature_files.FileDoomed | studies.StudyRemoved | jobs.JobEnded) for event in kept.events
        ):
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled: now, and whenever a file is doomed, a study is removed or a job has ended."""
        while True:
            self._wake.clear()
            try:
                await asyncio.to_thread(self.take_away)
            except OSError as error:
                log.error("files that are to go could not be taken away: %s", error)
            await self._wake.wait()

    def take_away(self) -> None:
        """Folders of studies that are none; every doomed file that no live job names and nothing reads again (the same
        bytes may come once more)."""
        for folder in self._home.studies.glob("*"):
            if folder.name not in self._view.studies:
                # its process may be ending in it: the next end of a job wakes us
                shutil.rmtree(folder, ignore_errors=True)
        live = [job for job in self._view.jobs if job.state in ("QUEUED", "RUNNING")]
        if any(job.kind in MAKERS for job in live):
            return  # the same bytes may be on their way in again, kept and not yet named; its end wakes us
        read = digests([*live, *self._view.datasets]) | {each.digest for each in self._view.feature_parts}
        read |= {each.digest for each in self._view.feature_rows if not each.folded}
        for each in self._view.doomed:
            path = self._artefacts.path(each.digest)
            if each.digest not in read and path.exists():
                path.unlink()
                log.info("%s is gone: %s", each.digest[:16], each.why)
        self._drop_spans(live)

    def _drop_spans(self, live: list[jobs.Job]) -> None:
        """Finished spans of a compaction that was cut off may hold who was forgotten since."""
        forgotten = max((each.done or 0.0 for each in self._view.forgettings), default=0.0)
        going = {job.spec.get("key") for job in live}
        for folder in self._home.batches.glob("compaction-*"):
            if folder.name not in going and folder.stat().st_mtime < forgotten:
                shutil.rmtree(folder)
