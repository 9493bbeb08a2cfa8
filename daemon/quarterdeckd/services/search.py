"""The rules of searches that are kept, and the tree of nested runs."""

from __future__ import annotations

from collections.abc import Iterator

from quarterdeckd.services.deciding import Answerers, Asking, Decision, Rules
from quarterstore.ledger.finding import experiment_of, run_of
from quarterstore.ledger.state import State
from quarterstore.records import search
from quarterstore.records.faults import got, missing
from quarterstore.records.names import checked_name, composed
from quarterstore.records.runs import Run
from quarterstore.search.matching import parent_of
from quarterstore.search.parsing import ordered, parsed

MOST_SEARCHES = 1000
MOST_IN_A_TREE = 5000
MOST_COLUMNS = 20


def _save(state: State, act: search.SaveSearch, asking: Asking) -> Decision:
    name = checked_name("name", act.name)
    parsed(act.where, "deck")
    if len(act.order) > MOST_COLUMNS:
        raise got("order", f"{len(act.order)} columns", f"at most {MOST_COLUMNS}")
    for text in act.order:
        ordered(text, "deck")
    if name not in state.searches and len(state.searches) >= MOST_SEARCHES:
        raise got("name", f"a search beside {MOST_SEARCHES} others", f"at most {MOST_SEARCHES}")
    saved = search.SavedSearch(
        name=name,
        where=act.where,
        order=act.order,
        experiments=tuple(experiment_of(state, text).name for text in act.experiments),
        created=asking.now,
        created_by=asking.actor,
    )
    return Decision([search.SearchSaved(search=saved)], f"kept the search {name}", lambda after: saved)


def _found(state: State, name: str) -> search.SavedSearch:
    found = state.searches.get(composed(name))
    if found is None:
        raise missing("search", name, state.searches.rows)
    return found


def _remove(state: State, act: search.RemoveSearch, asking: Asking) -> Decision:
    found = _found(state, act.name)
    return Decision([search.SearchRemoved(name=found.name)], f"forgot the search {found.name}", lambda after: found)


def tree(state: State, query: search.RunTree) -> list[search.Branch]:
    """Runs below their parents, top first; a parent that is not here, or was removed and purged, leaves its children
    at the top."""
    asked = {run.id: run for run in (run_of(state, text, removed=True) for text in query.runs)}
    shown = dict(asked)
    children = _children(state) if query.below else {}
    waiting = list(asked) if query.below else []
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child.id not in shown:
                shown[child.id] = asked[child.id] = child
                waiting.append(child.id)
        if len(shown) > MOST_IN_A_TREE:
            raise got("runs", f"more than {MOST_IN_A_TREE} runs in one tree", f"at most {MOST_IN_A_TREE}")
    for run in list(asked.values()):
        above = state.runs.get(parent_of(run) or "")
        while above is not None and above.id not in shown:
            shown[above.id] = above
            above = state.runs.get(parent_of(above) or "")
    return list(_branches(shown, set(asked)))


def _children(state: State) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in list(state.runs):  # read in a thread, while the loop goes on
        parent = parent_of(run)
        if parent is not None and run.removed is None:
            found.setdefault(parent, []).append(run)
    return found


def _branches(shown: dict[str, Run], asked: set[str]) -> Iterator[search.Branch]:
    below: dict[str | None, list[str]] = {}
    for run in shown.values():
        parent = parent_of(run)
        below.setdefault(parent if parent in shown else None, []).append(run.id)
    seen: set[str] = set()
    # runs that another tracker nested in a circle hang below nothing: each left over begins a tree of its own
    for top in (*below.get(None, ()), *shown):
        waiting = [(0, top)]
        while waiting:
            depth, id_ = waiting.pop()
            if id_ not in seen:
                seen.add(id_)
                yield search.Branch(depth=depth, run=shown[id_], found=id_ in asked)
                waiting.extend((depth + 1, child) for child in reversed(below.get(id_, ())))


RULES: Rules = {search.SaveSearch: _save, search.RemoveSearch: _remove}
ANSWERS: Answerers = {
    search.ListSearches: lambda state, query, asking: sorted(state.searches, key=lambda each: each.name),
    search.ShowSearch: lambda state, query, asking: _found(state, query.name),
}
