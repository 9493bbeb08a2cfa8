"""The book of generations: the newest of each view and the one before it, which may still be read; the rows themselves
are on the shelf."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State
from quarterstore.records import online

KEPT = 2


def generations_of(state: State, view: str) -> list[online.Generation]:
    """The generations of a view that are kept, oldest first."""
    return sorted((each for each in state.generations if each.view == view), key=lambda each: each.at)


def newest_of(state: State, view: str) -> online.Generation | None:
    """The generation that is read."""
    return next(reversed(generations_of(state, view)), None)


def _made(state: State, event: online.GenerationMade) -> None:
    state.generations.put(event.generation)
    for old in generations_of(state, event.generation.view)[:-KEPT]:
        state.generations.drop(old.id)


FOLDS: dict[type, Fold] = {online.GenerationMade: _made}
