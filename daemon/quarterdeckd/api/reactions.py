"""The reactions: every kept event is handed on to what is set on one, also what a crash or a maintenance cut off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from quarterdeckd.bus import Kept
from quarterstore.ledger import journal
from quarterstore.ledger.folding import events_of
from quarterstore.records.base import Event
from quarterstore.records.faults import Corrupt
from quarterstore.records.schedules import MaintenanceEnded

log = logging.getLogger(__name__)
CAUGHT_UP = 1000
"""Entries of before a start, or of a maintenance, that are reacted to again."""


class Reactions:
    """Tells `happened` of each event with its entry and its place there: what it asks has an id made of those, so one
    that is told again has one effect. While `held` says so nothing is told: that is caught up with afterwards. While
    nobody `listens`, entries of before are not read."""

    def __init__(
        self,
        folder: Path,
        listens: Callable[[], bool],
        held: Callable[[], bool],
        happened: Callable[[Kept, int, Event], None],
    ) -> None:
        self._folder = folder
        self._listens = listens
        self._held = held
        self._happened = happened
        self._catching_up: set[asyncio.Task[None]] = set()

    def kept(self, kept: Kept) -> None:
        """React to one entry."""
        if any(isinstance(event, MaintenanceEnded) for event in kept.events):
            task = asyncio.get_running_loop().create_task(self.catch_up(kept.entry.seq))
            self._catching_up.add(task)
            task.add_done_callback(self._catching_up.discard)
        if self._held():
            return
        for place, event in enumerate(kept.events):
            self._happened(kept, place, event)

    async def catch_up(self, newest: int) -> None:
        """React again to the newest entries, those of before a start or a maintenance; ids make what was done already
        harmless. An entry that is damaged ends this reading and not the daemon: most of what it does needs no entry of
        before."""
        if not self._listens():
            return
        recent, fault = await asyncio.to_thread(_newest, self._folder, newest)
        if fault is not None:
            log.error("the entries from there on are not reacted to again: %s", fault.line())
        for kept in recent:
            if not any(isinstance(event, MaintenanceEnded) for event in kept.events):
                self.kept(kept)


def _newest(folder: Path, newest: int) -> tuple[list[Kept], Corrupt | None]:
    """The newest entries, up to one that is damaged, and what is said of that."""
    found: list[Kept] = []
    try:
        for each in journal.read(folder, max(0, newest - CAUGHT_UP), newest):
            found.append(Kept(each.entry, events_of(each.entry.events)))
    except Corrupt as fault:
        return found, fault
    return found, None
