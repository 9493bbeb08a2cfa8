"""Search: runs by an expression over their metrics, parameters, tags and attributes; searches kept under a name."""

from __future__ import annotations

from typing import Literal

from quarterstore.records.base import Act, Event, Query, Record
from quarterstore.records.runs import Run, RunPage


class SearchRuns(Query[RunPage], tag="search.runs", frozen=True):
    """A page of runs that `where` holds of, in the order of the columns in `order` (`-` before one for descending; NaN
    and missing come last either way; the newest first where nothing is given). `after` is the `next` of the page
    before: a key, so that runs that come in between are neither left out nor shown twice. `backward` pages from the
    end: the last runs of all, with `after` (then the `previous` of a page) the last before that key, in the same order.
    `vocabulary` says whether the texts are ours or MLflow's filter strings; `experiments` are names or ids, all of them
    where none is given."""

    experiments: tuple[str, ...] = ()
    where: str = ""
    order: tuple[str, ...] = ()
    vocabulary: Literal["deck", "mlflow"] = "deck"
    view: Literal["active", "removed", "all"] = "active"
    limit: int = 100
    after: str | None = None
    backward: bool = False


class RunColumns(Record, frozen=True):
    """The names that runs have, each kind sorted."""

    metrics: tuple[str, ...]
    params: tuple[str, ...]
    tags: tuple[str, ...]


class ListColumns(Query[RunColumns], tag="search.columns", frozen=True):
    """The names of the metrics, parameters and tags that the runs of these experiments have (names or ids, all of them
    where none is given); at most `limit` of each kind, those that most runs have."""

    experiments: tuple[str, ...] = ()
    limit: int = 1000


class Branch(Record, frozen=True):
    """A run in a tree of nested runs: `depth` counts from the top, `found` says whether it was asked for or only leads
    to one that was."""

    depth: int
    run: Run
    found: bool = True


class RunTree(Query[list[Branch]], tag="search.tree", frozen=True):
    """Runs each below its parent, in the order given, with the parents that lead to them; with `below` also every run
    that is nested in them."""

    runs: tuple[str, ...]
    below: bool = False


class SavedSearch(Record, frozen=True):
    """A search under a name: what `search.runs` is asked, by whom it was kept and when."""

    name: str
    where: str
    order: tuple[str, ...]
    experiments: tuple[str, ...]
    created: float
    created_by: str


class SaveSearch(Act[SavedSearch], tag="search.save", frozen=True):
    """Keep a search under a name; one that is there already is replaced, and `undo` brings it back."""

    name: str
    where: str = ""
    order: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()


class RemoveSearch(Act[SavedSearch], tag="search.remove", frozen=True):
    """Forget a search that was kept; `undo` brings it back."""

    name: str


class ListSearches(Query[list[SavedSearch]], tag="search.list", frozen=True):
    """Every search that was kept, by name."""


class ShowSearch(Query[SavedSearch], tag="search.show", frozen=True):
    """One search by its name."""

    name: str


class SearchSaved(Event, tag="search.saved", frozen=True):
    """A search is kept under its name."""

    search: SavedSearch


class SearchRemoved(Event, tag="search.removed", frozen=True):
    """A search is forgotten."""

    name: str
