"""Request ids remembered, so that one asked again has one effect and the same answer: 24 hours or a million of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from quarterstore.ledger.database import Database
from quarterstore.ledger.journal import Entry
from quarterstore.records.faults import IdReused

MOST = 1_000_000
LONGEST = 86_400.0
AT_ONCE = 2_000
"""Rows read at a time: 3 ms in which nothing else of the process runs."""
GIVES_WAY = 0.001


class Place(NamedTuple):
    """Where the answer to a request is."""

    body: bytes
    seq: int
    at: float
    answer: bytes | None


class Remembered:
    """Requests by `key:id`. Those of this process are in memory; those from before are asked of the projection once,
    until `fill` has read them in."""

    def __init__(self, database: Database, answer_at: Callable[[int], bytes]) -> None:
        self._database = database
        self._answer_at = answer_at
        self._places: dict[str, Place] = {}
        self._filled = False

    def find(self, name: str, body: bytes) -> tuple[int, bytes] | None:
        """The seq and the answer given before, or None; `IdReused` when the id was used for another request."""
        place = self._places.get(name)
        if place is None and not self._filled:
            place = self._from_projection(name)
        if place is None:
            return None
        if place.body != body:
            raise IdReused(
                f"got {name.partition(':')[2]} with another request, it was used for entry {place.seq}", field="id"
            )
        return place.seq, self._answer_at(place.seq) if place.answer is None else place.answer

    def add(self, name: str, entry: Entry) -> None:
        """Remember an answered request; the newest 10,000 with their answers."""
        self._places[name] = Place(entry.body, entry.seq, entry.at, bytes(entry.answer))
        if len(self._places) % 1000 == 0:
            self._forget()

    def fill(self) -> None:
        """Read the ids of before from the projection; called once, behind the first answer. Some at a time, giving way
        between: who opens a console now would wait for it."""
        ((newest,),) = self._database.query("SELECT coalesce(max(seq), 0) FROM entries")
        oldest, after = time.time() - LONGEST, newest - MOST
        while rows := self._database.query(
            'SELECT key, request, body, seq, "at" FROM entries WHERE seq > ? AND "at" > ? ORDER BY seq LIMIT ?',
            [after, oldest, AT_ONCE],
        ):
            for key, request, body, seq, at in rows:
                self._places.setdefault(f"{key}:{request}", Place(bytes.fromhex(body), seq, at, None))
            after = rows[-1][3]
            time.sleep(GIVES_WAY)
        self._filled = True

    def _from_projection(self, name: str) -> Place | None:
        key, _, request = name.partition(":")
        rows = self._database.query('SELECT body, seq, "at" FROM entries WHERE request = ? AND key = ?', [request, key])
        return Place(bytes.fromhex(rows[0][0]), rows[0][1], rows[0][2], None) if rows else None

    def _forget(self) -> None:
        oldest = time.time() - LONGEST
        names = list(self._places)
        for name in names[: max(0, len(names) - MOST)]:
            del self._places[name]
        for name in [name for name, place in list(self._places.items()) if place.at < oldest]:
            del self._places[name]
        for name in names[-11_000:-10_000]:
            if name in self._places and self._places[name].answer is not None:
                self._places[name] = self._places[name]._replace(answer=None)
