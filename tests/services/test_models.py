"""The rules of models: names, words for versions, removal and back, undo."""

from __future__ import annotations

import pytest

from quarterstore.ledger.finding import version_of
from quarterstore.records import models, registry, store
from quarterstore.records.faults import Conflict, Invalid, NotFound, Refused
from tests.ruling import Ruling

SHAPE = registry.Signature(
    inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
)


@pytest.fixture
def ruling() -> Ruling:
    made = Ruling()
    made.act(models.CreateModel(model="m"))
    for number in range(2):
        made.act(registry.RegisterSource(model="m", source=f"s3://bucket/{number}"))
    return made


def test_an_alias_names_one_version_and_moves(ruling: Ruling) -> None:
    ruling.act(models.SetAlias(version="m@1", alias="champion"))
    assert version_of(ruling.state, "m@champion").id == "m@1"
    ruling.act(models.SetAlias(version="m@2", alias="champion"))
    assert version_of(ruling.state, "m@champion").id == "m@2"
    ruling.act(store.Undo())
    assert version_of(ruling.state, "m@champion").id == "m@1"


@pytest.mark.parametrize("alias", ["1", "1.2.0", "v3", "latest", "Production", "none", "a b", "", "a/b"])
def test_a_word_that_means_something_already_is_no_alias(ruling: Ruling, alias: str) -> None:
    with pytest.raises(Invalid, match="alias"):
        ruling.act(models.SetAlias(version="m@1", alias=alias))


def test_a_removed_model_comes_back_with_the_versions_that_went_with_it(ruling: Ruling) -> None:
    ruling.act(registry.RemoveVersion(version="m@1"))
    ruling.act(models.RemoveModel(model="m"))
    with pytest.raises(NotFound, match="models restore"):
        version_of(ruling.state, "m@2")
    with pytest.raises(Conflict, match="was removed"):
        ruling.act(registry.RegisterVersion(model="m", digest="0" * 64, size=1, format="onnx", signature=SHAPE))
    ruling.act(models.RestoreModel(model="m"))
    assert [each.id for each in ruling.ask(registry.ListVersions(model="m"))] == ["m@2"]


def test_a_name_that_is_taken_again_gives_new_numbers_and_brings_nothing_back(ruling: Ruling) -> None:
    """What `m@1` was in a report of last year must not become another file."""
    ruling.act(models.RemoveModel(model="m"))
    made = ruling.act(models.CreateModel(model="m", description="again"))
    assert (made.description, made.aliases, made.removed) == ("again", {}, None)
    assert ruling.ask(registry.ListVersions(model="m")) == []
    assert ruling.act(registry.RegisterSource(model="m", source="s3://b/x")).id == "m@3"


def test_a_model_with_a_version_in_production_stays(ruling: Ruling) -> None:
    ruling.act(registry.MoveStage(version="m@1", stage="Production", skip_stage=True, reason="r"))
    with pytest.raises(Refused, match="in Production"):
        ruling.act(models.RemoveModel(model="m"))


def test_only_a_model_without_versions_gets_another_name(ruling: Ruling) -> None:
    with pytest.raises(Refused, match="whose ids bear its name"):
        ruling.act(models.RenameModel(model="m", name="n"))
    ruling.act(models.CreateModel(model="empty"))
    assert ruling.act(models.RenameModel(model="empty", name="n")).name == "n"
    with pytest.raises(Conflict, match="there already"):
        ruling.act(models.CreateModel(model="n"))
    assert [each.name for each in ruling.ask(registry.ListModels())] == ["m", "n"]
    ruling.act(store.Undo())
    assert [each.name for each in ruling.ask(registry.ListModels())] == ["empty", "m"]


@pytest.mark.parametrize("name", ["", " ", " a", "a/b", "a:b", "a@b", "a\nb", "a\u202eb", "x" * 201])
def test_a_name_that_would_break_an_id_is_refused(ruling: Ruling, name: str) -> None:
    before = ruling.kept()
    with pytest.raises(Invalid, match="model"):
        ruling.act(models.CreateModel(model=name))
    assert ruling.kept() == before


def test_an_empty_tag_is_kept_and_one_without_a_value_goes(ruling: Ruling) -> None:
    assert ruling.act(models.TagModel(model="m", tags={"a": "", "b": "1"})).tags == {"a": "", "b": "1"}
    assert ruling.act(models.TagModel(model="m", tags={"a": None})).tags == {"b": "1"}
    ruling.act(store.Undo())
    assert ruling.state.models["m"].tags == {"a": "", "b": "1"}
