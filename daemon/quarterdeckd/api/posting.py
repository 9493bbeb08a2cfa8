"""The poster: one thread that brings what is certain into the projection, in bulk, behind the answers."""

from __future__ import annotations

import logging
import threading
import time

from quarterdeckd.api.writer import Group
from quarterstore.ledger.anchor import Anchor
from quarterstore.ledger.book import Changes
from quarterstore.ledger.database import Damaged, Posting
from quarterstore.ledger.journal import Entry, Head, crash
from quarterstore.ledger.opening import Ledger, Owed, make_again
from quarterstore.records.faults import Fault, TimedOut

log = logging.getLogger(__name__)
EVERY = 0.1
MOST = 1000
READ_WITHIN = 5.0
"""Seconds to wait for an entry that is to be read."""
AGAIN_AFTER = 2.0
"""Seconds between two tries to bring a projection up that is behind."""


class Poster:
    """Collects changes and posts them every 100 ms or 1,000 entries, or at once when a query waits for them."""

    def __init__(self, ledger: Ledger, posted: int) -> None:
        self.posted = posted
        self.stale: dict[str, str] = {"projection": ledger.lacking} if ledger.lacking else {}
        self._ledger = ledger
        self._database = ledger.database
        self._journal = ledger.home.journal
        self._owed = ledger.owed
        self._anchor = Anchor(ledger.home.anchor)
        self._changes: Changes = {}
        self._postings: list[Posting] = []
        self._wanted = 0
        self._not_before = 0.0
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="poster", daemon=True)

    def start(self) -> None:
        """Begin to post."""
        self._database.on_damage = self._wake_up
        self._thread.start()

    def _wake_up(self) -> None:
        with self._wake:
            self._wake.notify_all()

    def add(self, group: Group) -> None:
        """Take over what a group changed."""
        if not group.postings:
            return
        with self._wake:
            first = not self._postings
            self._changes.update(group.changes)
            self._postings.extend(group.postings)
            if first or len(self._postings) >= MOST or self._wanted > self.posted:
                # between these it sleeps: a thread woken for nothing takes the lock from an answer
                self._wake.notify_all()

    def wait_for(self, seq: int, seconds: float) -> None:
        """Return when entry `seq` is posted; `TimedOut` otherwise."""
        deadline = time.monotonic() + seconds
        with self._wake:
            self._wanted = max(self._wanted, seq)
            self._wake.notify_all()
            while self.posted < seq:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimedOut(f"entry {seq} was not posted within {seconds:g} s", field="query")
                self._wake.wait(left)

    def entry(self, seq: int) -> Entry:
        """A kept entry, once it is posted; from a thread."""
        self.wait_for(seq, READ_WITHIN)
        return self._ledger.entry(seq)

    def stop(self) -> None:
        """Post what is left and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join()

    def _due(self, since: float) -> bool:
        waited = time.monotonic() - since >= EVERY
        return (
            self._stopping
            or waited
            or bool(self._database.damage)
            or len(self._postings) >= MOST
            or self._wanted > self.posted
        )

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._postings and not self._stopping and not self._database.damage and not self._again():
                    self._wake.wait(AGAIN_AFTER if self.stale else None)
                since = time.monotonic()
                while not self._due(since):
                    self._wake.wait(EVERY)
                changes, postings = self._changes, self._postings
                self._changes, self._postings = {}, []
                if not postings and self._stopping:
                    return
            if postings:
                self._post(changes, postings)
            elif self._database.damage:
                self._make_again(self.posted, self._database.damage)
            elif self._owed.postings:
                self._pay(self.stale["projection"])
            elif self.stale:
                self._make_again(self.posted, self.stale["projection"])

    def _again(self) -> bool:
        """Whether what is behind is to be tried now."""
        return bool(self.stale) and time.monotonic() >= self._not_before

    def _make_again(self, until: int, why: str) -> None:
        """Everything is in the journal. Where that fails too (a full disk), it is tried again later, and at the next
        start."""
        self.stale["projection"] = why
        self._database.damage = ""
        self._owed = Owed({}, [])
        if time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + AGAIN_AFTER
        try:
            aside = make_again(self._journal, self._database, until, why)
        except (Damaged, Fault, OSError) as error:
            log.error("the projection cannot be made again now: %s", error)
            return
        del self.stale["projection"]
        log.error("the projection was damaged (%s) and made again; the old one is %s", why, aside.name)

    def _post(self, changes: Changes, postings: list[Posting]) -> None:
        crash("post.before")
        try:
            if self._owed.postings:
                self._owe(changes, postings)
                if self._again():
                    self._pay(self.stale["projection"])
            elif self.stale:
                raise Damaged(self.stale["projection"])  # entries are missing before these: all or none
            else:
                self._database.post(changes, postings)
        except Damaged as damage:
            if damage.no_room():
                self._owe(changes, postings)
                self._pay(str(damage))
            else:
                self._make_again(postings[-1].entry.seq, str(damage))
        crash("post.after")
        self._anchor.note(Head(postings[-1].entry.seq, postings[-1].hash))
        with self._wake:
            self.posted = postings[-1].entry.seq
            self._wake.notify_all()

    def _owe(self, changes: Changes, postings: list[Posting]) -> None:
        self._owed = Owed({**self._owed.changes, **changes}, self._owed.postings + postings)

    def _pay(self, why: str) -> None:
        """Post what found no room, after the file was opened again: until then DuckDB answers nothing. What the file
        holds already (a commit that failed after it was done) is not posted twice."""
        if "projection" not in self.stale:
            log.error("the projection finds no room (%s); it is behind, and shows so", why)
        self.stale["projection"] = why
        self._not_before = time.monotonic() + AGAIN_AFTER
        try:
            head = self._database.reopen().head
            postings = [posting for posting in self._owed.postings if posting.entry.seq > head.seq]
            self._database.post(self._owed.changes, postings)
        except Damaged as damage:
            if not damage.no_room():
                self._make_again(self._owed.postings[-1].entry.seq, str(damage))
                return
            self.stale["projection"] = str(damage)
            self._read_only_again()
            return
        self._owed = Owed({}, [])
        del self.stale["projection"]
        log.warning("the projection found room again and has every entry")

    def _read_only_again(self) -> None:
        try:
            self._database.reopen()
        except Damaged as damage:
            log.error("the projection cannot be opened now: %s", damage)
