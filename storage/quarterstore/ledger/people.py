"""The book of people and keys."""

from __future__ import annotations

from msgspec.structs import replace

from quarterstore.ledger.state import Fold, State
from quarterstore.records import people


def _person(state: State, event: people.PersonChanged) -> None:
    state.people.put(event.person)


def _key_added(state: State, event: people.KeyAdded) -> None:
    state.keys.put(event.key)


def _key_revoked(state: State, event: people.KeyRevoked) -> None:
    state.keys.put(replace(state.keys[event.public], revoked=event.at))


FOLDS: dict[type, Fold] = {
    people.PersonChanged: _person,
    people.KeyAdded: _key_added,
    people.KeyRevoked: _key_revoked,
}
