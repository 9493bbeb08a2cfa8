"""The book of replays."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State
from quarterstore.records import replays


def _replayed(state: State, event: replays.TrafficReplayed) -> None:
    state.replays.put(event.replay)


FOLDS: dict[type, Fold] = {replays.TrafficReplayed: _replayed}
