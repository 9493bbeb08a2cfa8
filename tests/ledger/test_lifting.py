"""Old versions of an event meet the fold in their newest form."""

from __future__ import annotations

import pytest

from quarterstore.ledger import folding
from quarterstore.ledger.state import Context, State
from quarterstore.records.base import Event
from quarterstore.records.messages import EVENTS


class Named(Event, tag="test.named", frozen=True):
    """The first version: one word."""

    name: str

    def lift(self) -> Event:
        """First and last name apart."""
        first, _, last = self.name.partition(" ")
        return NamedInFull(first=first, last=last)


class NamedInFull(Event, tag="test.named.2", frozen=True):
    """The second version."""

    first: str
    last: str


def test_an_old_version_is_folded_as_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fold knows the newest only: without the lift a store of last year is a KeyError."""
    seen: list[Event] = []
    monkeypatch.setitem(folding.FOLDS, NamedInFull, lambda state, event: seen.append(event))
    folding.fold(State(), [Named(name="Ada Lovelace"), NamedInFull("Grace", "Hopper")], Context(1, 1.0, "ana", "t", ""))
    assert seen == [NamedInFull("Ada", "Lovelace"), NamedInFull("Grace", "Hopper")]


def test_every_event_is_folded_or_lifted_to_one_that_is() -> None:
    """An event that nothing folds would stop a daemon at its next start."""
    assert {kind.__name__ for kind in EVENTS if kind not in folding.FOLDS and kind.lift is Event.lift} == set()
