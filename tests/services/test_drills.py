"""A gate that asks for a drill, and when a rollback can be drilled at all."""

from __future__ import annotations

import msgspec
import pytest

from quarterstore.records import deployments, drills, governance, registry
from quarterstore.records.faults import Conflict, Invalid, NotFound, Refused
from quarterstore.records.jobs import EndJob, Job
from tests.ruling import Ruling
from tests.services.test_registry import version

DAY = 86_400.0
RULE = governance.GateRule(metric=drills.DRILLED, op="<=", limit=7, against="drill")


def live(ruling: Ruling, number: int) -> None:
    """`m@number` in Production and live at `m`."""
    ruling.act(registry.MoveStage(version=f"m@{number}", stage="Staging", reason="r"))
    ruling.act(registry.MoveStage(version=f"m@{number}", stage="Production", reason="r"))
    ruling.act(deployments.Deploy(version=f"m@{number}"))
    ruling.act(deployments.AdmitVersion(endpoint="m", version=f"m@{number}", ok=True))


@pytest.fixture
def ruling() -> Ruling:
    """`m@2` live with `m@1` behind it, `m@3` waits in Staging; the gate asks for a drill within a week."""
    made = Ruling("solo")
    for _ in range(3):
        version(made)
    live(made, 1)
    live(made, 2)
    made.act(registry.MoveStage(version="m@3", stage="Staging"))
    made.act(governance.SetGate(model="m", rules=(RULE,)))
    return made


def drilled(ruling: Ruling, ok: bool = True) -> Job:
    """A drill asked for and ended, as its job does."""
    job: Job = ruling.act(drills.DrillRollback(endpoint="m"))
    found = drills.DrillResult(ok=ok, words="as it went")
    ruling.act(EndJob(job=job.id, state="SUCCEEDED", result=msgspec.to_builtins(found)))
    return job


def judged(ruling: Ruling) -> governance.GateOutcome:
    found: governance.GateOutcome = ruling.ask(governance.JudgeGate(version="m@3"))
    return found


def test_a_gate_without_a_drill_says_no_and_names_the_command(ruling: Ruling) -> None:
    outcome = judged(ruling)
    assert not outcome.ok
    assert outcome.checks[0].why == "no drill at m, expected a good one: qd drill rollback m"
    with pytest.raises(Refused, match="qd drill rollback m"):
        ruling.act(registry.MoveStage(version="m@3", stage="Production"))


def test_a_good_drill_opens_the_gate_for_as_long_as_it_is_young(ruling: Ruling) -> None:
    drilled(ruling)
    assert judged(ruling).ok and judged(ruling).checks[0].why == "drilled within 7 days at m"
    ruling.now += 6.9 * DAY
    assert judged(ruling).ok
    ruling.now += 0.2 * DAY
    assert not judged(ruling).ok and "older than 7 days" in judged(ruling).checks[0].why
    drilled(ruling)
    ruling.act(registry.MoveStage(version="m@3", stage="Production"))


def test_a_newer_drill_that_failed_closes_it_and_is_an_alert_until_one_is_good(ruling: Ruling) -> None:
    drilled(ruling)
    drilled(ruling, ok=False)
    assert "the last drill at m failed" in judged(ruling).checks[0].why
    [alert] = [each for each in ruling.state.alerts if each.kind == "rollback drill failed"]
    assert (alert.severity, alert.next) == ("critical", "qd drill rollback m")
    drilled(ruling)
    assert judged(ruling).ok
    assert ruling.state.alerts[alert.id].resolved is not None


def test_in_team_a_first_version_is_approved_without_a_drill() -> None:
    ruling = Ruling("team")
    for _ in range(2):
        version(ruling)
    ruling.act(governance.SetGate(model="m", rules=(RULE,)))
    ruling.act(registry.MoveStage(version="m@1", stage="Staging"))
    up = registry.MoveStage(version="m@1", stage="Production")
    asked = ruling.act(governance.Propose(act=msgspec.to_builtins(up)))
    assert asked.outcome.ok and asked.outcome.checks[0].why == "nothing to roll back to yet"
    assert ruling.act(governance.Approve(approval=asked.id, evidence=asked.evidence), actor="bob").state == "APPROVED"


def test_evidence_stays_while_the_drill_is_good(ruling: Ruling) -> None:
    drilled(ruling)
    before = judged(ruling).evidence
    ruling.now += DAY
    drilled(ruling)
    assert judged(ruling).evidence == before


def test_the_gate_of_a_first_version_is_not_shut_by_what_cannot_be_drilled() -> None:
    ruling = Ruling("solo")
    for _ in range(2):
        version(ruling)
    ruling.act(governance.SetGate(model="m", rules=(RULE,)))
    live(ruling, 1)
    ruling.act(registry.MoveStage(version="m@2", stage="Staging"))
    assert ruling.ask(governance.JudgeGate(version="m@2")).ok
    with pytest.raises(NotFound, match="no version to go back to"):
        ruling.act(drills.DrillRollback(endpoint="m"))


def test_a_canary_is_drilled_back_to_the_live_version(ruling: Ruling) -> None:
    ruling.act(deployments.StartCanary(version="m@3"))
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@3", ok=True))
    spec = ruling.act(drills.DrillRollback(endpoint="m")).spec
    assert (spec["live"], spec["to"]) == ("m@2", "m@2")
    assert [slot["version"] for slot in spec["before"]["slots"]] == ["m@2", "m@3"]
    assert [slot["version"] for slot in spec["after"]["slots"]] == ["m@2"]
    assert spec["after"]["epoch"] == spec["before"]["epoch"] + 1


def test_bad_questions_change_nothing(ruling: Ruling) -> None:
    before = ruling.kept()
    for act, kind in (
        (drills.DrillRollback(endpoint="nowhere"), NotFound),
        (drills.DrillRollback(endpoint="m", rate=0), Invalid),
        (drills.DrillRollback(endpoint="m", seconds=1e9), Invalid),
        (drills.DrillRollback(endpoint="m", hosts=0), Invalid),
        (drills.DrillRollback(endpoint="m", within=float("nan")), Invalid),
        (governance.SetGate(model="m", rules=(msgspec.structs.replace(RULE, limit=0),)), Invalid),
        (governance.SetGate(model="m", rules=(msgspec.structs.replace(RULE, op=">="),)), Invalid),
    ):
        with pytest.raises(kind):
            ruling.act(act)
    assert ruling.kept() == before
    ruling.act(drills.DrillRollback(endpoint="m"))
    with pytest.raises(Conflict, match="does this already"):
        ruling.act(drills.DrillRollback(endpoint="m"))
