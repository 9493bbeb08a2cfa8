"""The writer: one thread that decides, folds, journals and syncs; a group is whatever queued while the last sync
ran."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import msgspec

from quarterdeckd.api.clock import Clock
from quarterdeckd.api.permissions import Speaker
from quarterdeckd.api.remembering import Remembered
from quarterdeckd.bus import Kept
from quarterdeckd.services.deciding import Asking, Rule
from quarterstore.ledger.book import Changes
from quarterstore.ledger.database import Posting
from quarterstore.ledger.folding import fold
from quarterstore.ledger.journal import Entry, Journal, crash
from quarterstore.ledger.state import Context, State
from quarterstore.records.base import Act, Event, tag_of
from quarterstore.records.faults import Failed, Fault, Full, IdReused, Unknown
from quarterstore.records.wire import encode

log = logging.getLogger(__name__)
ROOM = 256 * 1024
"""Bytes that must be free in the journal before a group is decided, so that a full disk is found before, not in, the
sync."""
GROWTH = 4
"""An entry holds its act, the events and the answer: at most about four times the act."""
FREED_BY = (
    "jobs.cancel",
    "jobs.end",
    "runs.end",
    "runs.remove",
    "registry.remove",
    "store.set_mode",
    "deployments.roll_back",
    "deployments.stop",
)
"""Acts that the reserve lets through on a full disk: those that stop, end, remove or take back."""
EXIT_UNSYNCED = 75
LEAVE_WITHIN = 5.0
"""Seconds the loop has to send the last answers after a failed sync."""


class Asked(NamedTuple):
    """An act on its way to the writer, and what to call with its outcome."""

    act: Act[Any]
    body: bytes
    request: str
    speaker: Speaker
    done: Callable[[Outcome], None]
    size: int = 0
    """Bytes of the act; its entry takes a few times that."""


class Outcome(NamedTuple):
    """What became of an act: the answer's msgpack and the entry's seq, or a fault."""

    answer: bytes | None
    seq: int
    fault: Fault | None


class Group(NamedTuple):
    """What one sync made certain: the outcomes, the entries with their events, what changed in the books."""

    outcomes: list[tuple[Asked, Outcome]]
    kept: list[Kept]
    changes: Changes
    postings: list[Posting]
    fatal: bool = False
    """The sync failed: answer, then leave the process; nothing more will come."""


class Writer:
    """Owns the journal's open end and the state it folds into; hands each certain group to `on_group` from its
    thread."""

    def __init__(
        self,
        state: State,
        journal: Journal,
        rules: dict[type[Act[Any]], Rule],
        profile: str,
        clock: Clock,
        remembered: Remembered,
        on_group: Callable[[Group], None],
        reserve: Callable[[bool], bool],
    ) -> None:
        self.state = state
        self.journal = journal
        self.rules = rules
        self.profile = profile
        self._clock = clock
        self.read_only: str | None = None
        self.ticked = time.monotonic()
        self._closed = False
        self._remembered = remembered
        self._on_group = on_group
        self._reserve = reserve
        self._queue: deque[Asked] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Begin to take acts."""
        self._thread.start()

    def ask(self, asked: Asked) -> None:
        """Queue an act; from any thread."""
        with self._wake:
            self._queue.append(asked)
            self._wake.notify()

    def full(self) -> Full:
        """What to say to whoever wants to write while the store is read-only."""
        return Full(
            f"the store is read-only: {self.read_only}",
            field="store",
            next="free some room; writing resumes by itself",
        )

    def stop(self) -> None:
        """Finish what is queued and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._stopping:
                    waited = not self._wake.wait(1.0)
                    self.ticked = time.monotonic()
                    if waited and self.read_only is not None:
                        break  # nobody asks, and there may be room again
                group = list(self._queue)
                self._queue.clear()
                if not group and self._stopping:
                    return
            self.ticked = time.monotonic()
            try:
                self._write(group)
            except Exception:
                log.exception("the writer met an error of its own; leaving for a restart")
                os._exit(EXIT_UNSYNCED)

    def _write(self, group: list[Asked]) -> None:
        self._look_for_room(ROOM + GROWTH * sum(asked.size for asked in group))
        if not group:
            return
        outcomes: list[tuple[Asked, Outcome]] = []
        kept: list[Kept] = []
        seq = self.journal.head.seq
        taken: dict[str, int] = {}
        for asked in group:
            name = f"{asked.speaker.key}:{asked.request}"
            try:
                outcome: Outcome | None
                if name in taken:
                    outcome = self._again(asked, outcomes[taken[name]])
                else:
                    found = self._remembered.find(name, asked.body)
                    outcome = Outcome(found[1], found[0], None) if found else None
                if outcome is None:
                    one = self._decide(asked, seq + 1)
                    seq += 1
                    kept.append(one)
                    outcome = Outcome(bytes(one.entry.answer), seq, None)
                    taken[name] = len(outcomes)
            except Fault as fault:
                outcome = Outcome(None, seq, fault)
            outcomes.append((asked, outcome))
        self._commit(outcomes, kept)

    def _again(self, asked: Asked, first: tuple[Asked, Outcome]) -> Outcome:
        if first[0].body != asked.body:
            raise IdReused(f"got {asked.request} with another request", field="id")
        return first[1]

    def _decide(self, asked: Asked, seq: int) -> Kept:
        act, speaker, state = asked.act, asked.speaker, self.state
        if self.read_only is not None and (self._closed or tag_of(type(act)) not in FREED_BY):
            raise self.full()
        asking = Asking(speaker.person, speaker.roles, self._clock.now(), seq, self.profile, speaker.key, speaker.run)
        state.begin()
        try:
            context = Context(seq, asking.now, speaker.person, tag_of(type(act)), "")
            decision = self.rules[type(act)](state, act, asking)
            context = context._replace(words=decision.words)
            events = list(decision.events)
            fold(state, events, context)
            if decision.then is not None:
                self._chain(decision.then(state, asking), events, context)
            answer = encode(decision.answer(state))
        except Fault:
            state.roll_back()
            raise
        except Exception as error:
            state.roll_back()
            log.exception("the rule of %s failed", tag_of(type(act)))
            raise Failed(
                f"{tag_of(type(act))} met an error of its own ({type(error).__name__}); nothing was changed",
                field="daemon",
            ) from error
        entry = Entry(
            seq=seq,
            at=asking.now,
            actor=speaker.person,
            key=speaker.key,
            request=asked.request,
            body=asked.body,
            act=context.act,
            words=context.words,
            message=msgspec.Raw(encode(act)),
            events=msgspec.Raw(encode(events)),
            answer=msgspec.Raw(answer),
        )
        return Kept(entry, events)

    def _chain(self, following: Any, events: list[Event], context: Context) -> None:
        for act, asking in following:
            decision = self.rules[type(act)](self.state, act, asking)
            fold(self.state, decision.events, context)
            events.extend(decision.events)
            if decision.then is not None:
                self._chain(decision.then(self.state, asking), events, context)

    def _commit(self, outcomes: list[tuple[Asked, Outcome]], kept: list[Kept]) -> None:
        postings: list[Posting] = []
        if kept:
            crash("journal.before")
            try:
                placed = self.journal.append([one.entry for one in kept])
            except OSError as error:
                self._unsynced(outcomes, error)
            crash("journal.synced")
            for one, (hash_, position) in zip(kept, placed, strict=True):
                postings.append(Posting(one.entry, hash_, position))
                self._remembered.add(f"{one.entry.key}:{one.entry.request}", one.entry)
        self._on_group(Group(outcomes, kept, self.state.take(), postings))

    def _unsynced(self, outcomes: list[tuple[Asked, Outcome]], error: OSError) -> NoReturn:
        """A failed sync: nobody knows what is on the disk. Say so, never retry, leave; the restart decides by
        reading."""
        fault = Unknown(
            f"the journal could not be synced ({error.strerror}); the restart will tell whether this was kept",
            field="journal",
        )
        log.critical("the journal could not be synced: %s; leaving for a restart", error)
        told = [(asked, Outcome(None, outcome.seq, fault)) for asked, outcome in outcomes]
        self._on_group(Group(told, [], {}, [], fatal=True))
        threading.Event().wait(LEAVE_WITHIN)
        os._exit(EXIT_UNSYNCED)

    def _look_for_room(self, size: int) -> None:
        """Before anything is decided: read-only when `size` bytes do not fit, and the reserve is given to the acts that
        free room; read-write again when they fit beside a new reserve."""
        if self.read_only is None:
            if self.journal.can_grow(size):
                return
            self.read_only = "the disk is full"
            log.error("the disk is full: read-only from here, the reserve is freed")
        elif self._reserve(True) and self.journal.can_grow(size):
            log.warning("there is room again, the store is read-write")
            self.read_only = None
            return
        self._reserve(False)
        self._closed = not self.journal.can_grow(size)


def body_of(encoded: bytes) -> bytes:
    """What tells one request from another: 16 bytes of SHA-256 over its msgpack."""
    return hashlib.sha256(encoded).digest()[:16]
