"""The book of searches that were kept."""

from __future__ import annotations

from quarterstore.ledger.state import Fold, State, undoable
from quarterstore.records import search
from quarterstore.records.base import Event


def _saved(state: State, event: search.SearchSaved) -> None:
    name = event.search.name
    former = state.searches.get(name)
    inverse: Event = search.SearchRemoved(name=name) if former is None else search.SearchSaved(search=former)
    undoable(state, inverse)
    state.searches.put(event.search)


def _removed(state: State, event: search.SearchRemoved) -> None:
    undoable(state, search.SearchSaved(search=state.searches[event.name]))
    state.searches.drop(event.name)


FOLDS: dict[type, Fold] = {search.SearchSaved: _saved, search.SearchRemoved: _removed}
