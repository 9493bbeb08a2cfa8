"""Lineage: from a version up to its data, from data down to every model it reached."""

from __future__ import annotations

import pytest

from quarterstore.records import registry, runs
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
    assert [row[0] for row in found.up] == ["run", "code", "dataset"]
    assert "not committed" in found.up[1][2]
    assert ("child", "small@1", "1.0.0, None") in found.down
    assert ruling.ask(registry.ShowLineage(version="small@1")).up[0][:2] == ("parent", "m@1")


def test_data_is_followed_down_to_every_model_it_reached_and_to_no_other(ruling: Ruling) -> None:
    found = ruling.ask(registry.ShowLineage(version=f"data:{DATA[:12]}"))
    assert [row[1] for row in found.down if row[0] == "version"] == ["m@1", "small@1"]
    assert [row[0] for row in found.down].count("run") == 1


def test_data_that_nobody_used_is_not_found_and_a_short_hash_is_refused(ruling: Ruling) -> None:
    with pytest.raises(NotFound, match="data:"):
        ruling.ask(registry.ShowLineage(version="data:ffffffff"))
    with pytest.raises(Invalid, match="at least 8"):
        ruling.ask(registry.ShowLineage(version="data:ab1"))
