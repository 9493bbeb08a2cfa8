"""The one fold: an event changes the state, the same way for the writer, the rebuild and the crash model of the
tests."""

from __future__ import annotations

import functools

import msgspec

from quarterstore.ledger import (
    compression,
    ct,
    datasets,
    deployments,
    drills,
    experiments,
    feature_files,
    features,
    governance,
    hooks,
    jobs,
    logged_models,
    models,
    monitoring,
    online,
    outcomes,
    packages,
    people,
    pipelines,
    registry,
    remotes,
    replays,
    retention,
    runs,
    schedules,
    search,
    store,
    streams,
    studies,
    transfer,
    trials,
)
from quarterstore.ledger.journal import Entry
from quarterstore.ledger.state import Context, Fold, State
from quarterstore.records.base import Event
from quarterstore.records.messages import EVENTS, one_of

FOLDS: dict[type, Fold] = {}
for _book in (
    people,
    experiments,
    runs,
    search,
    packages,
    logged_models,
    datasets,
    features,
    online,
    feature_files,
    registry,
    models,
    governance,
    jobs,
    pipelines,
    studies,
    schedules,
    deployments,
    outcomes,
    trials,
    streams,
    monitoring,
    ct,
    compression,
    replays,
    drills,
    hooks,
    remotes,
    retention,
    store,
    transfer,
):
    FOLDS |= _book.FOLDS


@functools.cache
def _decoder() -> msgspec.msgpack.Decoder[list[Event]]:
    """Made (20 ms) when there is something to read: a start after a clean stop folds nothing."""
    return msgspec.msgpack.Decoder(list[one_of(EVENTS)])  # type: ignore[misc]


def events_of(packed: bytes | msgspec.Raw) -> list[Event]:
    """The events of an entry from their msgpack."""
    return _decoder().decode(packed)


def fold(state: State, events: list[Event], context: Context) -> None:
    """Change the state by the events of one entry; each is lifted to its newest version first."""
    state.context = context
    for event in events:
        newest = event.lift()
        FOLDS[type(newest)](state, newest)
        hooks.owe(state, newest)


def fold_entry(state: State, entry: Entry) -> None:
    """Fold an entry as it was read from the journal."""
    fold(state, events_of(entry.events), Context(entry.seq, entry.at, entry.actor, entry.act, entry.words))
