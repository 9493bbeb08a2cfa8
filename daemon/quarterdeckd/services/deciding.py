"""What a rule is given and what it answers: pure functions from the state and an act to the events that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from quarterdeckd.services.elapsed import Now
from quarterstore.ledger.state import State
from quarterstore.records.base import Act, Event, Query, Role
from quarterstore.records.ids import new_id


class Asking(NamedTuple):
    """Who asks, when (by two clocks, for what has to last), under which profile; `seq` is the number this entry will
    have. `approval` and `approved_by` are set while an approved act is done, `chained` while an act follows from
    another one in the same entry."""

    actor: str
    roles: tuple[Role, ...]
    time: Now
    seq: int
    profile: str
    key: str = ""
    run: str | None = None
    approval: str | None = None
    approved_by: str | None = None
    chained: bool = False

    @property
    def now(self) -> float:
        """Seconds since 1970, by the wall clock."""
        return self.time.moment.at

    def id(self, noun: str) -> str:
        """A new identifier of this moment."""
        return new_id(noun, self.now)


class Decision(NamedTuple):
    """What follows from an act: its events, the line of the audit trail, the answer (read after the fold), and acts
    that are done in the same entry, one after the other."""

    events: list[Event]
    words: str
    answer: Callable[[State], Any]
    then: Callable[[State, Asking], Iterator[tuple[Act[Any], Asking]]] | None = None


Rule = Callable[[State, Any, Asking], Decision]
"""Decides one kind of act; raises a `Fault` and changes nothing."""

Answerer = Callable[[State, Any, Asking], Any]
"""Answers one kind of query from the state in memory."""

Rules = dict[type[Act[Any]], Rule]
Answerers = dict[type[Query[Any]], Answerer]
