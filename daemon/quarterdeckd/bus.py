"""The bus inside the daemon: what was kept is told to whoever listens, in the order it was kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from quarterstore.ledger.journal import Entry
from quarterstore.records.base import Event, Pulse

log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """One entry and its events, after the sync."""

    entry: Entry
    events: list[Event]


class Bus:
    """Listeners to kept entries and to pulses; called on the event loop, one after the other."""

    def __init__(self) -> None:
        self._on_kept: list[Callable[[Kept], None]] = []
        self._on_pulse: list[Callable[[Pulse], None]] = []

    def on_kept(self, listener: Callable[[Kept], None]) -> None:
        """Call `listener` with every kept entry."""
        self._on_kept.append(listener)

    def on_pulse(self, listener: Callable[[Pulse], None]) -> None:
        """Call `listener` with every pulse."""
        self._on_pulse.append(listener)

    def kept(self, entry: Kept) -> None:
        """Tell of a kept entry; a listener that fails is logged and does not stop the others."""
        for listener in self._on_kept:
            try:
                listener(entry)
            except Exception:
                log.exception("a listener failed on entry %d", entry.entry.seq)

    def pulse(self, pulse: Pulse) -> None:
        """Tell of a passing reading."""
        for listener in self._on_pulse:
            listener(pulse)
