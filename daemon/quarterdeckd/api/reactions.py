"""The reactions: one table from event to act; at least once, by a journalled cursor and an id made of event and
rule."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.bus import Kept
from quarterstore.ledger import journal
from quarterstore.ledger.folding import events_of
from quarterstore.records.base import Act, Event
from quarterstore.records.faults import Corrupt, Fault
from quarterstore.records.schedules import MaintenanceEnded

log = logging.getLogger(__name__)
CAUGHT_UP = 1000
"""Entries of before a start, or of a maintenance, that are reacted to again."""


class Reaction(NamedTuple):
    """When this event is kept, that act is asked."""

    on: type[Event]
    name: str
    act: Callable[[Any], Act[Any]]


TABLE: tuple[Reaction, ...] = ()
"""Every reaction there is. What one does is decided, and refused, by the rule of its act."""


class Reactions:
    """Speaks the acts of the table for every kept entry. The act's request id is H(seq, place, rule), so one that is
    asked again after a restart has one effect; `catch_up` asks for those that a crash may have cut off."""

    def __init__(self, dispatch: Dispatch, folder: Path) -> None:
        self._dispatch = dispatch
        self._folder = folder
        self._running: set[asyncio.Task[None]] = set()
        self.held: Callable[[], bool] = lambda: False
        """Whether nothing may react now: it is caught up with when the maintenance is over."""
        self.also: Callable[[Kept, int, Event], None] = lambda kept, place, event: None
        """Told of each event beside the table: the schedules that are set on one."""

    def kept(self, kept: Kept) -> None:
        """React to one entry."""
        if any(isinstance(event, MaintenanceEnded) for event in kept.events):
            self._run(self.catch_up(kept.entry.seq))
        if self.held():
            return
        for place, event in enumerate(kept.events):
            self.also(kept, place, event)
            for reaction in TABLE:
                if isinstance(event, reaction.on):
                    self._run(self._ask(kept.entry.seq, place, reaction, event))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _ask(self, seq: int, place: int, reaction: Reaction, event: Event) -> None:
        request = "reaction-" + hashlib.sha256(f"{seq}/{place}/{reaction.name}".encode()).hexdigest()[:32]
        try:
            await self._dispatch.speak(reaction.act(event), request=request)
        except Fault as fault:
            log.info("reaction %s to entry %d: %s", reaction.name, seq, fault.line())

    async def catch_up(self, newest: int) -> None:
        """React again to the newest entries, those of before a start or a maintenance; ids make what was done already
        harmless. An entry that is damaged ends this reading and not the daemon: most of what it does needs no entry of
        before."""
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
