"""Lineage: from a version up to its data, from data down to every model it reached."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from quarterstore.records import deployments, monitoring, registry, runs
from quarterstore.records.faults import Invalid, NotFound
from tests.ruling import Ruling

SHAPE = registry.Signature(
    inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
)
DATA = "ab12" * 16


def version(ruling: Ruling, model: str, **parts: str) -> registry.Version:
    made: registry.Version = ruling.act(
        registry.RegisterVersion(model=model, digest="0" * 64, size=1, format="onnx", signature=SHAPE, **parts)
    )
    return made


@pytest.fixture
def ruling() -> Ruling:
    made = Ruling()
    run = made.act(runs.StartRun(experiment="e", source=runs.Source(commit="c0ffee", patch="+x")))
    used = runs.DatasetInput(name="train", digest=DATA, source="s3://b/train.csv")
    made.act(runs.LogInputs(run=run.id, inputs=(used,)))
    version(made, "m", run=run.id)
    version(made, "small", parent="m@1")
    version(made, "other", dataset="cd34" * 16)
    return made


def test_a_version_is_followed_up_to_run_code_and_data(ruling: Ruling) -> None:
    found = ruling.ask(registry.ShowLineage(version="m@1"))
    assert [(node.kind, node.depth) for node in found.up] == [("run", 1), ("code", 2), ("dataset", 2)]
    assert "not committed" in found.up[1].words
    assert [(node.kind, node.id, node.words) for node in found.down] == [("child", "small@1", "1.0.0, None")]


def test_a_child_leads_to_its_parent_and_to_all_that_the_parent_came_from(ruling: Ruling) -> None:
    found = ruling.ask(registry.ShowLineage(version="small@1")).up
    assert [(node.kind, node.depth) for node in found] == [("parent", 1), ("run", 2), ("code", 3), ("dataset", 3)]
    assert (found[0].id, found[0].of, found[1].of) == ("m@1", "small@1", "m@1")


def test_three_thousand_generations_are_followed_up_and_twenty_down(ruling: Ruling) -> None:
    last = "m@1"
    first = version(ruling, "line", parent=last)
    for number in range(1, 3001):  # as if registered one by one, which takes seconds
        found = replace(first, id=f"line@{number}", number=number, parent=last)
        ruling.state.versions.rows[found.id] = found
        last = found.id
    up = ruling.ask(registry.ShowLineage(version=last)).up
    parents = [node for node in up if node.kind == "parent"]
    assert [node.depth for node in parents] == list(range(1, 3001))
    assert (parents[0].id, parents[-1].id, up[-1].kind, up[-1].depth) == ("line@2999", "m@1", "dataset", 3002)
    down = ruling.ask(registry.ShowLineage(version="m@1")).down
    assert max(node.depth for node in down) == 20


def test_what_came_of_a_version_is_told_with_what_came_of_its_children(ruling: Ruling) -> None:
    """A grandchild stands below its parent; traffic that was stands there as traffic that was."""
    version(ruling, "smaller", parent="small@1")
    for at in ("m@1", "m@2"):
        if at == "m@2":
            version(ruling, "m")
        ruling.act(registry.MoveStage(version=at, stage="Staging"))
        ruling.act(registry.MoveStage(version=at, stage="Production"))
        ruling.act(deployments.Deploy(version=at))
        ruling.act(deployments.AdmitVersion(endpoint="m", version=at, ok=True))
    ruling.act(monitoring.RaiseAlert(kind="drift", subject="m", severity="warning", words="it moved", next=""))
    found = ruling.ask(registry.ShowLineage(version="m@1")).down
    assert [(node.kind, node.depth, node.of) for node in found] == [
        ("child", 1, "m@1"),
        ("child", 2, "small@1"),
        ("production", 1, "m@1"),
        ("deployment", 1, "m@1"),
        ("alert", 2, "m@1"),
    ]
    assert found[3].words == "LIVE, answered before"
    assert ruling.ask(registry.ShowLineage(version="m@2")).down[1].words == "LIVE, answers live"


def test_data_is_followed_down_to_every_model_it_reached_and_to_no_other(ruling: Ruling) -> None:
    found = ruling.ask(registry.ShowLineage(version=f"data:{DATA[:12]}"))
    assert [node.id for node in found.down if node.kind == "version"] == ["m@1", "small@1"]
    assert [node.kind for node in found.down].count("run") == 1


def test_data_that_nobody_used_is_not_found_and_a_short_hash_is_refused(ruling: Ruling) -> None:
    with pytest.raises(NotFound, match="data:"):
        ruling.ask(registry.ShowLineage(version="data:ffffffff"))
    with pytest.raises(Invalid, match="at least 8"):
        ruling.ask(registry.ShowLineage(version="data:ab1"))
