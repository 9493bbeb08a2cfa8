"""A version that was rejected on held-out rows: no way to traffic goes round it; a reason that overrides is kept."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from quarterdeckd.services.releasing import rejections
from quarterstore.records import governance, pipelines, registry
from quarterstore.records.faults import Refused
from quarterstore.records.pipeline_results import PipelineResult
from tests.ruling import Ruling
from tests.services.test_registry import version

WHY = "worse: accuracy against m@1 on the same rows -0.1 (-0.12 to -0.08)"
STAGING = registry.MoveStage(version="m@1", stage="Staging")
UP = registry.MoveStage(version="m@1", stage="Production")


def test_each_stage_needs_a_reason_which_is_kept() -> None:
    ruling = Ruling("solo")
    version(ruling, rejected=WHY)
    assert not ruling.ask(governance.JudgeGate(version="m@1")).ok
    for act in (STAGING, UP):
        with pytest.raises(Refused, match="REJECTED: worse"):
            ruling.act(act)
        ruling.act(replace(act, reason="a rehearsal"))
        assert b"governance.gate_overridden" in bytes(ruling.entries[-1].events)
    assert ruling.state.versions["m@1"].stage == "Production"


def test_in_team_no_reason_brings_it_to_production() -> None:
    ruling = Ruling("team")
    version(ruling, rejected=WHY)
    ruling.act(replace(STAGING, reason="a rehearsal"))
    with pytest.raises(Refused, match="REJECTED"):
        ruling.act(replace(UP, reason="please"))


def test_what_is_made_of_it_is_refused_with_it() -> None:
    ruling = Ruling("solo")
    version(ruling, rejected=WHY)
    version(ruling, parent="m@1")
    with pytest.raises(Refused, match="m@1, which it was made from, is REJECTED"):
        ruling.act(replace(STAGING, version="m@2"))


@pytest.mark.parametrize(
    ("value", "limit", "said"),
    [(0.1, 0.1, ""), (0.11, 0.1, "unfair: demographic parity 0.11"), (None, 0.1, "not known to be fair")],
)
def test_a_fairness_limit_that_does_not_hold_rejects_and_one_that_is_met_does_not(
    value: float | None, limit: float, said: str
) -> None:
    gate = pipelines.GateSection(limits={"demographic_parity": limit, "accuracy": 2.0})
    metrics = () if value is None else (registry.Metric("demographic parity", value, value - 0.01, value + 0.01, 50),)
    made = PipelineResult(
        model="",
        reference="",
        golden="",
        format="onnx",
        signature=registry.Signature((), ()),
        metrics=metrics,
        params={},
        dataset="",
        rows=1,
        parity=0.0,
        device="",
        framework="",
    )
    found = rejections(pipelines.Definition(name="p", model="m", gate=gate), made)
    assert found.startswith(said) and bool(found) == bool(said)
    both = rejections(pipelines.Definition(name="p", model="m", gate=gate), replace(made, rejected=WHY))
    assert both.startswith(WHY)
