"""The book of streams."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, copy_of
from quarterstore.records import streams


def _started(state: State, event: streams.StreamStarted) -> None:
    state.streams.put(event.stream)


def _restarted(state: State, event: streams.StreamRestarted) -> None:
    stream = state.streams[event.stream]
    state.streams.put(copy_of(stream, job=event.job, restarts=event.restarts, why=event.why))


def _ended(state: State, event: streams.StreamEnded) -> None:
    stream = state.streams[event.stream]
    state.streams.put(copy_of(stream, state=event.state, ended=event.at, why=event.why))


FOLDS: dict[type, Fold] = {
    streams.StreamStarted: _started,
    streams.StreamRestarted: _restarted,
    streams.StreamEnded: _ended,
}
