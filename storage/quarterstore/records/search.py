"""Search: runs by an expression over their metrics, parameters, tags and attributes."""

from __future__ import annotations

from typing import Literal

from quarterstore.records.base import Query, Record
from quarterstore.records.runs import RunPage


class SearchRuns(Query[RunPage], tag="search.runs", frozen=True):
    """A page of runs that `where` holds of, in the order of the columns in `order` (`-` before one for descending; NaN
    and missing come last either way; the newest first where nothing is given). `after` is the `next` of the page
    before: a key, so that runs that come in between are neither left out nor shown twice. `vocabulary` says whether the
    texts are ours or MLflow's filter strings; `experiments` are names or ids, all of them where none is given."""

    experiments: tuple[str, ...] = ()
    where: str = ""
    order: tuple[str, ...] = ()
    vocabulary: Literal["deck", "mlflow"] = "deck"
    view: Literal["active", "removed", "all"] = "active"
    limit: int = 100
    after: str | None = None


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
