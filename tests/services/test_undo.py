"""Undo: what it takes back is the asker's own, and nothing that came since."""

from __future__ import annotations

import pytest

from quarterstore.records import logged_models, search, store
from quarterstore.records.experiments import CreateExperiment
from quarterstore.records.faults import Conflict
from tests.ruling import Ruling


def test_a_search_that_somebody_else_kept_by_now_is_not_taken_back() -> None:
    ruling = Ruling()
    ruling.act(search.SaveSearch(name="best", where="acc > 0.9"), actor="ana")
    ruling.act(search.SaveSearch(name="best", where="acc > 0.8"), actor="bob")
    with pytest.raises(Conflict, match="kept again by bob"):
        ruling.act(store.Undo(), actor="ana")
    ruling.act(search.RemoveSearch(name="best"), actor="bob")
    with pytest.raises(Conflict, match="removed by now"):
        ruling.act(store.Undo(), actor="ana")
    ruling.act(store.Undo(), actor="bob")
    assert ruling.state.searches["best"].where == "acc > 0.8"


def test_what_cannot_be_taken_back_any_more_is_passed_over_when_that_is_said() -> None:
    ruling = Ruling()
    ruling.act(CreateExperiment(name="e"), actor="ana")
    ruling.act(search.SaveSearch(name="mine", where="acc > 0.5"), actor="ana")
    ruling.act(search.SaveSearch(name="best", where="acc > 0.9"), actor="ana")
    ruling.act(search.SaveSearch(name="best", where="acc > 0.8"), actor="bob")
    with pytest.raises(Conflict, match=r"kept again by bob; or leave entry 3 .* as it is: qd undo --skip"):
        ruling.act(store.Undo(), actor="ana")
    passed = ruling.act(store.Undo(skip=True), actor="ana")
    assert (passed.entry, passed.passed_over) == (3, True) and ruling.state.searches["best"].created_by == "bob"
    ruling.act(store.Undo(), actor="ana")
    assert "mine" not in ruling.state.searches


def test_of_a_logged_model_the_tags_are_taken_back_and_what_came_since_stays() -> None:
    ruling = Ruling()
    ruling.act(CreateExperiment(name="e"))
    made = ruling.act(logged_models.CreateLoggedModel(experiment="e", name="net"))
    ruling.act(logged_models.TagLoggedModel(model=made.id, tags={"team": "fraud"}))
    ruling.act(logged_models.FinishLoggedModel(model=made.id, status="READY"))
    ruling.act(store.Undo())
    found = ruling.state.logged_models[made.id]
    assert (found.tags, found.status) == ({}, "READY")
