"""Searches that are kept, and runs nested in runs, decided in memory."""

from __future__ import annotations

import pytest

from quarterstore.records import packages, runs, search, store
from quarterstore.records.faults import Invalid, NotFound
from tests.ruling import Ruling


@pytest.fixture
def deck() -> Ruling:
    return Ruling()


def opened(deck: Ruling, name: str, **fields: object) -> str:
    return str(deck.act(runs.StartRun(experiment="e", run=name, **fields)).id)  # type: ignore[arg-type]


def drawn(deck: Ruling, *asked: str, below: bool = False) -> list[tuple[int, str, bool]]:
    from quarterdeckd.services.search import tree

    return [(each.depth, each.run.id, each.found) for each in tree(deck.state, search.RunTree(runs=asked, below=below))]


def test_a_search_is_kept_replaced_and_brought_back_by_undo(deck: Ruling) -> None:
    deck.act(runs.StartRun(experiment="e"))
    kept = deck.act(search.SaveSearch(name="good", where="acc > 0.9", order=("-acc",), experiments=("e",)))
    assert (kept.created_by, deck.ask(search.ShowSearch(name="good"))) == ("ana", kept)
    deck.act(search.SaveSearch(name="good", where="acc > 0.8"), "bob")
    assert deck.ask(search.ShowSearch(name="good")).created_by == "bob"
    deck.act(store.Undo(), "bob")
    assert deck.ask(search.ListSearches()) == [kept]
    deck.act(search.RemoveSearch(name="good"))
    assert deck.ask(search.ListSearches()) == []
    deck.act(store.Undo())
    assert deck.ask(search.ListSearches()) == [kept]


def test_a_search_that_cannot_be_asked_is_not_kept(deck: Ruling) -> None:
    with pytest.raises(Invalid, match="where"):
        deck.act(search.SaveSearch(name="bad", where="acc >"))
    with pytest.raises(Invalid):
        deck.act(search.SaveSearch(name="bad", order=("acc acc",)))
    with pytest.raises(NotFound, match="experiment"):
        deck.act(search.SaveSearch(name="bad", experiments=("nowhere",)))
    deck.act(search.SaveSearch(name="good"))
    with pytest.raises(NotFound, match=r"search: got goud.*nearest: good"):
        deck.ask(search.ShowSearch(name="goud"))
    with pytest.raises(NotFound, match="nearest: good"):
        deck.act(search.RemoveSearch(name="god"))
    assert [each.name for each in deck.ask(search.ListSearches())] == ["good"]


def test_runs_hang_below_their_parents_and_a_parent_that_only_leads_there_is_marked(deck: Ruling) -> None:
    top = opened(deck, "run-top")
    first, second = opened(deck, "run-one", parent=top), opened(deck, "run-two", parent="run-top")
    inner = opened(deck, "run-inner", parent=first)
    alone = opened(deck, "run-alone")
    assert drawn(deck, inner, alone) == [
        (0, alone, True),
        (0, top, False),
        (1, first, False),
        (2, inner, True),
    ]
    assert drawn(deck, top, below=True) == [(0, top, True), (1, first, True), (2, inner, True), (1, second, True)]
    deck.act(runs.EndRun(run=first))
    deck.act(runs.RemoveRun(run=first))
    assert drawn(deck, top, below=True) == [(0, top, True), (1, second, True)]


def test_a_run_that_mlflow_nested_is_nested_and_a_circle_of_them_ends(deck: Ruling) -> None:
    top = opened(deck, "run-top")
    below = opened(deck, "run-below", tags={"mlflow.parentRunId": top})
    assert drawn(deck, top, below=True) == [(0, top, True), (1, below, True)]
    deck.act(runs.SetTags(run=top, tags={"mlflow.parentRunId": below}))
    assert sorted(name for _, name, _ in drawn(deck, top, below, below=True)) == [below, top]


def test_a_tree_a_thousand_deep_is_drawn(deck: Ruling) -> None:
    name = opened(deck, "run-0000")
    for number in range(1, 1500):
        name = opened(deck, f"run-{number:04d}", parent=name)
    assert drawn(deck, "run-0000", below=True)[-1] == (1499, "run-1499", True)


def test_a_parent_is_found_by_the_start_of_its_id_and_kept_by_the_whole(deck: Ruling) -> None:
    opened(deck, "run-long-name")
    assert deck.act(runs.StartRun(experiment="e", parent="run-long")).parent == "run-long-name"
    with pytest.raises(NotFound, match="parent: got run-lung"):
        deck.act(runs.StartRun(experiment="e", parent="run-lung"))


def test_a_list_of_packages_is_kept_once_and_differences_are_told_by_name(deck: Ruling) -> None:
    from quarterdeckd.services.runs import compare

    before = deck.act(packages.KeepPackages(packages=("numpy==2.0", "same==1", "gone==1")))
    assert deck.act(packages.KeepPackages(packages=("same==1", "gone==1", "numpy==2.0"))) == before
    after = deck.act(packages.KeepPackages(packages=("numpy==2.1", "same==1", "new==3")))
    one = opened(deck, "run-one", source=runs.Source(packages=before.digest))
    two = opened(deck, "run-two", source=runs.Source(packages=after.digest))
    assert deck.ask(packages.ShowPackages(packages=one)) == before
    rows = compare(deck.state, runs.CompareRuns(runs=(one, two)), lambda run: {}).rows
    assert {row.name: row.values for row in rows if row.where == "package"} == {
        "gone": ("1", None),
        "numpy": ("2.0", "2.1"),
        "new": (None, "3"),
    }
    for bad in ((), ("numpy",), ("a\x1b==1",)):
        with pytest.raises(Invalid, match="packages"):
            deck.act(packages.KeepPackages(packages=bad))


def test_a_run_whose_list_of_packages_is_not_known_does_not_seem_to_have_none(deck: Ruling) -> None:
    from quarterdeckd.services.runs import compare

    known = deck.act(packages.KeepPackages(packages=("numpy==2.0",)))
    one = opened(deck, "run-one", source=runs.Source(packages=known.digest))
    two = opened(deck, "run-two", source=runs.Source(packages="0" * 64))
    rows = compare(deck.state, runs.CompareRuns(runs=(one, two)), lambda run: {}).rows
    assert [(row.where, row.name) for row in rows] == [("source", "packages")]
