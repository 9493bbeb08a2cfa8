"""Gate and four eyes: who may say yes, to what exactly, and for how long it holds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterstore.records import governance, registry
from quarterstore.records.faults import Conflict, Fault, Invalid, NeedsApproval, NotFound, Refused
from tests.ruling import Ruling
from tests.services.test_registry import version


def measured(value: float) -> registry.Metric:
    """An accuracy with an interval."""
    return registry.Metric(name="accuracy", value=value, low=value - 0.05, high=value + 0.05, n=100)


def staged(profile: str, accuracy: float | None = 0.9, limit: float | None = None) -> Ruling:
    """`m@1` in Staging, with a gate where a limit is given."""
    ruling = Ruling(profile)
    version(ruling, metrics=(measured(accuracy),) if accuracy is not None else ())
    if limit is not None:
        rule = governance.GateRule(metric="accuracy", op=">=", limit=limit)
        ruling.act(governance.SetGate(model="m", rules=(rule,)))
    ruling.act(registry.MoveStage(version="m@1", stage="Staging"))
    return ruling


UP = registry.MoveStage(version="m@1", stage="Production", reason="it is better")


def proposed(ruling: Ruling, actor: str = "ana") -> governance.Approval:
    """Ask for Production."""
    found: governance.Approval = ruling.act(governance.Propose(act=msgspec.to_builtins(UP)), actor=actor)
    return found


def yes(approval: governance.Approval) -> governance.Approve:
    """On the evidence as it was shown."""
    return governance.Approve(approval=approval.id, evidence=approval.evidence)


def test_in_team_production_needs_another_person() -> None:
    ruling = staged("team", limit=0.8)
    with pytest.raises(NeedsApproval):
        ruling.act(UP)
    asked = proposed(ruling)
    with pytest.raises(Refused):
        ruling.act(yes(asked), actor="ana")
    assert ruling.act(yes(asked), actor="bob").state == "APPROVED"
    tenure = ruling.ask(registry.ProductionAt(model="m", at=ruling.now))
    assert (tenure.asked_by, tenure.approved_by) == ("ana", "bob")


def test_in_solo_it_is_done_at_once_and_recorded_as_nobodys_approval() -> None:
    ruling = staged("solo")
    assert ruling.act(UP).stage == "Production"
    assert ruling.ask(registry.ProductionAt(model="m", at=ruling.now)).approved_by in (None, "ana")


@pytest.mark.parametrize("accuracy", [0.79, None])
def test_a_gate_that_is_not_passed_or_cannot_be_judged_refuses_in_team(accuracy: float | None) -> None:
    """A missing metric is no pass."""
    ruling = staged("team", accuracy, limit=0.8)
    with pytest.raises(Fault):
        ruling.act(UP)
    assert not ruling.ask(governance.JudgeGate(version="m@1")).ok
    assert ruling.ask(registry.ShowVersion(version="m@1")).stage == "Staging"


def test_a_failed_gate_in_solo_wants_a_reason_and_is_recorded_as_overridden() -> None:
    ruling = staged("solo", 0.5, limit=0.8)
    with pytest.raises(Fault):
        ruling.act(registry.MoveStage(version="m@1", stage="Production"))
    ruling.act(UP)
    events = msgspec.msgpack.decode(ruling.entries[-1].events)
    assert "governance.gate_overridden" in [event["type"] for event in events]


def test_a_bound_gate_judges_the_worse_end_of_the_interval() -> None:
    ruling = staged("team", 0.84)
    rule = governance.GateRule(metric="accuracy", op=">=", limit=0.8, bound=True)
    ruling.act(governance.SetGate(model="m", rules=(rule,)))
    assert not ruling.ask(governance.JudgeGate(version="m@1")).ok


def test_evidence_that_changed_makes_the_yes_void() -> None:
    """The gate was set after the evidence was shown."""
    ruling = staged("team", limit=0.8)
    asked = proposed(ruling)
    rule = governance.GateRule(metric="accuracy", op=">=", limit=0.1)
    ruling.act(governance.SetGate(model="m", rules=(rule,)), actor="bob")
    with pytest.raises(Refused):
        ruling.act(yes(asked), actor="bob")
    assert ruling.ask(registry.ShowVersion(version="m@1")).stage == "Staging"


def test_another_hash_than_the_shown_one_is_refused() -> None:
    ruling = staged("team", limit=0.8)
    asked = proposed(ruling)
    with pytest.raises(Refused):
        ruling.act(governance.Approve(approval=asked.id, evidence="0" * 64), actor="bob")


def test_a_yes_is_used_once_and_a_no_is_final() -> None:
    ruling = staged("team", limit=0.8)
    first = proposed(ruling)
    ruling.act(governance.Reject(approval=first.id, reason="not today"), actor="bob")
    with pytest.raises(Fault):
        ruling.act(yes(first), actor="bob")
    second = proposed(ruling)
    ruling.act(yes(second), actor="bob")
    with pytest.raises(Fault):
        ruling.act(yes(second), actor="bob")


def test_a_no_needs_a_reason() -> None:
    ruling = staged("team", limit=0.8)
    asked = proposed(ruling)
    with pytest.raises(Invalid):
        ruling.act(governance.Reject(approval=asked.id, reason=" "), actor="bob")


BAD: list[tuple[str, Any, type[Fault]]] = [
    ("an approval that is none", governance.Approve(approval="ask-x", evidence="0" * 64), NotFound),
    ("an act that cannot be proposed", governance.Propose(act={"type": "store.undo"}), Fault),
    ("an act that is none", governance.Propose(act={"type": "no.such"}), Fault),
    ("an act of an unknown version", governance.Propose(act={**msgspec.to_builtins(UP), "version": "m@8"}), NotFound),
    (
        "a limit that is no number",
        governance.SetGate(model="m", rules=(governance.GateRule(metric="a", op=">=", limit=float("nan")),)),
        Invalid,
    ),
]


@pytest.mark.parametrize(("act", "kind"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_is_wrong_is_refused_and_changes_nothing(act: Any, kind: type[Fault]) -> None:
    ruling = staged("team", limit=0.8)
    before = ruling.kept()
    with pytest.raises(kind):
        ruling.act(act, actor="bob")
    assert ruling.kept() == before


@pytest.mark.parametrize(
    ("metric", "op", "limit", "against", "words"),
    [
        ("accuracy", ">=", 1.7, "value", "got 1.7, expected a limit of accuracy, which is 0 to 1"),
        ("accuracy", "<=", -0.5, "value", "accuracy, which is 0 to 1"),
        ("equalised odds", "<=", 3.0, "value", "equalised odds, which is 0 to 1"),
        ("latency p99 ms", "<=", -1.0, "value", "latency p99 ms, which is 0 or more"),
        ("r2", ">=", 2.0, "value", "r2, which is 1 or less"),
        ("accuracy", ">=", 1.5, "production", "the loss of accuracy, which is -1 to 1"),
    ],
)
def test_a_limit_that_no_value_can_reach_is_refused(
    metric: str, op: Any, limit: float, against: Any, words: str
) -> None:
    ruling = staged("team", limit=0.8)
    before = ruling.kept()
    rule = governance.GateRule(metric=metric, op=op, limit=limit, against=against)
    with pytest.raises(Invalid, match=words) as refused:
        ruling.act(governance.SetGate(model="m", rules=(rule,)))
    assert refused.value.field == "rules.limit" and ruling.kept() == before


@given(limit=st.floats(0, 1), metric=st.sampled_from(["accuracy", "roc auc", "calibration gap", "f1"]))
def test_a_limit_that_a_metric_can_have_is_taken(limit: float, metric: str) -> None:
    rules = tuple(
        governance.GateRule(metric=metric, op=">=", limit=limit, against=against) for against in ("value", "production")
    )
    assert Ruling().act(governance.SetGate(model="m", rules=rules)).rules == rules


def test_a_metric_that_a_person_measures_in_another_unit_has_limits_in_that_unit() -> None:
    ruling = staged("team", accuracy=93.5)
    rule = governance.GateRule(metric="accuracy", op=">=", limit=90.0)
    assert ruling.act(governance.SetGate(model="m", rules=(rule,))).rules == (rule,)


def test_the_same_proposal_twice_is_one() -> None:
    """Asking again does not make two."""
    ruling = staged("team", limit=0.8)
    proposed(ruling)
    with pytest.raises(Conflict):
        proposed(ruling)


def test_a_child_in_another_model_has_to_pass_the_gate_of_its_parent_again() -> None:
    """A fine-tuned or smaller one under another name does not leave its parent's rules behind."""
    ruling = staged("team", accuracy=0.9, limit=0.8)
    child = version(ruling, model="small", parent="m@1", metrics=(measured(0.6),))
    grandchild = version(ruling, model="tiny", parent=child.id, metrics=(measured(0.9),))
    bare = version(ruling, model="tiny", parent=child.id)
    for found, passes in ((child, False), (grandchild, True), (bare, False)):
        outcome = ruling.ask(governance.JudgeGate(version=found.id))
        assert outcome.ok is passes
        assert all("the gate of m" in check.why for check in outcome.checks) and len(outcome.checks) == 1
    ruling.act(registry.MoveStage(version=child.id, stage="Staging"))
    with pytest.raises(Refused, match="the gate of m"):
        ruling.act(registry.MoveStage(version=child.id, stage="Production"))


def test_a_parents_gate_that_is_set_later_voids_an_approval_of_the_child() -> None:
    ruling = staged("team")
    child = version(ruling, model="small", parent="m@1", metrics=(measured(0.6),))
    ruling.act(registry.MoveStage(version=child.id, stage="Staging"))
    up = registry.MoveStage(version=child.id, stage="Production")
    asked = ruling.act(governance.Propose(act=msgspec.to_builtins(up)))
    rule = governance.GateRule(metric="accuracy", op=">=", limit=0.5)
    ruling.act(governance.SetGate(model="m", rules=(rule,)))
    with pytest.raises(Refused, match="evidence has changed"):
        ruling.act(yes(asked), actor="bob")


def test_a_model_without_a_gate_is_no_unknown_model() -> None:
    ruling = staged("solo")
    with pytest.raises(NotFound, match="no gate is set for m"):
        ruling.ask(governance.ShowGate(model="m"))
    with pytest.raises(NotFound, match="got n, expected a known one"):
        ruling.ask(governance.ShowGate(model="n"))
