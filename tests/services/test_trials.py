"""The rules of trials: one at a time, admitted first, ended by a rollback, by a crash, or with its endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeckd.services.routing import table_of
from quarterstore.records import deployments, monitoring, registry, trials
from quarterstore.records.faults import Conflict, Invalid, NotFound, Refused
from tests.ruling import Ruling
from tests.services.test_registry import version
from tests.services.test_traffic import live


def ready(arms: int = 2, profile: str = "solo") -> Ruling:
    """`m@1` answers all of `m`; the others are in Staging and have answered their golden rows."""
    ruling = Ruling()
    for number in range(1, arms + 1):
        version(ruling)
        if number > 1:
            ruling.act(registry.MoveStage(version=f"m@{number}", stage="Staging"))
    live(ruling, "m@1")
    for number in range(2, arms + 1):
        ruling.act(deployments.AdmitVersion(endpoint="m", version=f"m@{number}", ok=True))
    ruling.profile = profile
    return ruling


def slots(ruling: Ruling) -> list[tuple[str, str, int]]:
    """What the hosts are told of `m`."""
    [route] = table_of(ruling.state, lambda digest: f"/{digest}").routes
    return [(slot.version, slot.role, slot.share) for slot in route.slots]


def test_a_shadow_stands_beside_the_live_version_and_takes_nothing_of_its_traffic() -> None:
    ruling = ready()
    trial = ruling.act(trials.StartShadow(version="m@2", share=30))
    assert (trial.state, trial.versions, trial.words()) == ("RUNNING", ("m@1", "m@2"), "shadow m@2 at 30 %")
    assert slots(ruling) == [("m@1", "live", 100), ("m@2", "shadow", 30)]
    assert ruling.state.deployments["m"].epoch == trial.epoch == len(ruling.entries)
    ruling.act(trials.StopTrial(endpoint="m", reason="enough"))
    assert slots(ruling) == [("m@1", "live", 100)]
    assert ruling.ask(trials.ShowTrial(endpoint="m")).why == "stopped: enough"
    assert ruling.ask(trials.ListTrials()) == []
    assert [each.id for each in ruling.ask(trials.ListTrials(running=False))] == [trial.id]


def test_a_trial_waits_until_its_version_has_answered_its_golden_rows() -> None:
    ruling = ready()
    version(ruling)
    waiting = ruling.act(trials.StartShadow(version="m@3"))
    assert waiting.state == "ADMITTING" and len(slots(ruling)) == 1
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@3", ok=True))
    assert ruling.ask(trials.ShowTrial(endpoint="m")).state == "RUNNING"
    version(ruling)
    ruling.act(trials.StopTrial(endpoint="m"))
    ruling.act(trials.StartShadow(version="m@4"))
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@4", ok=False, why="another answer in row 3"))
    found = ruling.ask(trials.ShowTrial(endpoint="m"))
    assert (found.state, found.why) == ("ENDED", "m@4 was not admitted: another answer in row 3")


def begin(ruling: Ruling, kind: str) -> None:
    """A rollout of that kind, of `m@2`."""
    acts: dict[str, Any] = {
        "canary": deployments.StartCanary(version="m@2"),
        "shadow": trials.StartShadow(version="m@2"),
    }
    ruling.act(acts[kind])


RUNNING = {"canary": "canary m@2 at 5 %", "shadow": "shadow m@2 at 100 %"}


@pytest.mark.parametrize("second", RUNNING)
@pytest.mark.parametrize("first", RUNNING)
def test_a_second_rollout_is_refused_while_one_runs(first: str, second: str) -> None:
    ruling = ready()
    begin(ruling, first)
    before = ruling.kept()
    with pytest.raises(Conflict, match=rf"{RUNNING[first]} since \d\d:\d\d; abort it \(qd rollback m\) or wait"):
        begin(ruling, second)
    with pytest.raises(Conflict, match="since"):
        ruling.act(deployments.Deploy(version="m@1"))
    assert ruling.kept() == before


@pytest.mark.parametrize("kind", [kind for kind in RUNNING if kind != "canary"])
def test_a_rollback_ends_a_trial_at_once_and_the_live_version_stays(kind: str) -> None:
    ruling = ready()
    begin(ruling, kind)
    found = ruling.act(deployments.RollBack(endpoint="m", reason="enough"))
    assert (found.live, slots(ruling)) == ("m@1", [("m@1", "live", 100)])
    assert ruling.ask(trials.ShowTrial(endpoint="m")).why == "rolled back: enough"


def test_a_trial_ends_with_its_endpoint() -> None:
    ruling = ready()
    begin(ruling, "shadow")
    ruling.act(deployments.StopEndpoint(endpoint="m"))
    assert ruling.ask(trials.ShowTrial(endpoint="m")).why == "the endpoint was stopped"


def test_a_shadow_that_crashes_once_is_taken_away_and_the_live_version_stays() -> None:
    ruling = ready()
    begin(ruling, "shadow")
    ruling.act(deployments.NoteCrash(endpoint="m", version="m@2", detail="ended with -11"))
    found = ruling.ask(trials.ShowTrial(endpoint="m"))
    assert (found.state, found.why) == ("ENDED", "rolled back: 1 crash while m@2 was running (ended with -11)")
    assert ruling.state.deployments["m"].live == "m@1"
    assert [each.kind for each in ruling.ask(monitoring.ListAlerts())] == ["slot crashed"]


def test_a_version_on_trial_cannot_be_removed() -> None:
    ruling = ready()
    begin(ruling, "shadow")
    with pytest.raises(Refused, match="m@2 is live at m"):
        ruling.act(registry.RemoveVersion(version="m@2"))


@pytest.mark.parametrize(
    ("act", "fault", "words"),
    [
        (trials.StartShadow(version="m@2", share=0), Invalid, "share: got 0, expected 1 to 100 percent"),
        (trials.StartShadow(version="m@2", share=101), Invalid, "share: got 101"),
        (trials.StartShadow(version="m@1"), Conflict, "m@1 is live at m already"),
        (trials.StartShadow(version="m@9"), NotFound, "version: got m@9"),
        (trials.StartShadow(version="m@2", endpoint="free"), Refused, "free has no live version; deploy one first"),
        (trials.StopTrial(endpoint="m"), NotFound, "no trial runs at m"),
        (trials.StopTrial(endpoint="x"), NotFound, "endpoint: got x"),
    ],
)
def test_what_cannot_be_tried_is_refused_and_changes_nothing(act: Any, fault: type, words: str) -> None:
    ruling = ready()
    before = ruling.kept()
    with pytest.raises(fault, match=words):
        ruling.act(act)
    assert ruling.kept() == before


def test_a_trial_that_never_was_is_not_found() -> None:
    with pytest.raises(NotFound, match="endpoint: got m"):
        ready().ask(trials.ShowTrial(endpoint="m"))
