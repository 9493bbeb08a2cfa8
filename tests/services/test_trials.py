"""The rules of trials: one at a time, admitted first, ended by a rollback, by a crash, or with its endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from quarterdeckd.services.routing import table_of
from quarterstore.ledger.finding import last_trial_at
from quarterstore.records import deployments, governance, monitoring, registry, trials
from quarterstore.records.faults import Conflict, Invalid, NeedsApproval, NotFound, Refused
from quarterstore.records.outcomes import ArmOutcome
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


AB = trials.AbRule(metric="bought", effect=0.02)
BANDIT = trials.BanditRule(metric="bought", seed=7)


def earned(version: str, n: int, successes: int) -> ArmOutcome:
    """Outcomes of 0 and 1."""
    rate = successes / n if n else 0.0
    return ArmOutcome(version, n, rate, n * rate * (1 - rate), successes, 0)


def judged(ruling: Ruling, *arms: tuple[str, int, int], callers: tuple[int, ...] = (500, 500)) -> trials.Trial:
    """The trial at `m` after a look at these outcomes."""
    trial = last_trial_at(ruling.state, "m").id
    outcomes = tuple(earned(*arm) for arm in arms)
    found: trials.Trial = ruling.act(trials.JudgeTrial(trial=trial, outcomes=outcomes, callers=callers))
    return found


def slots(ruling: Ruling) -> list[tuple[str, str, int]]:
    """What the hosts are told of `m`."""
    [route] = table_of(ruling.state, lambda digest: f"/{digest}", Path("/online")).routes
    return [(slot.version, slot.role, slot.share) for slot in route.slots]


def test_a_shadow_stands_beside_the_live_version_and_takes_nothing_of_its_traffic() -> None:
    ruling = ready()
    trial = ruling.act(trials.StartShadow(version="m@2", share=30))
    assert (trial.state, trial.versions, trial.words()) == ("RUNNING", ("m@1", "m@2"), "shadow m@2 at 30 %")
    assert slots(ruling) == [("m@1", "live", 100), ("m@2", "shadow", 30)]
    assert ruling.state.deployments["m"].epoch == trial.epoch == len(ruling.entries)
    ruling.act(trials.StopTrial(endpoint="m", reason="enough"))
    assert slots(ruling) == [("m@1", "live", 100)]
    assert last_trial_at(ruling.state, "m").why == "stopped: enough"
    assert ruling.ask(trials.ListTrials()) == []
    assert [each.id for each in ruling.ask(trials.ListTrials(running=False))] == [trial.id]


def test_a_trial_waits_until_its_version_has_answered_its_golden_rows() -> None:
    ruling = ready()
    version(ruling)
    waiting = ruling.act(trials.StartShadow(version="m@3"))
    assert waiting.state == "ADMITTING" and len(slots(ruling)) == 1
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@3", ok=True))
    assert last_trial_at(ruling.state, "m").state == "RUNNING"
    version(ruling)
    ruling.act(trials.StopTrial(endpoint="m"))
    ruling.act(trials.StartShadow(version="m@4"))
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@4", ok=False, why="another answer in row 3"))
    found = last_trial_at(ruling.state, "m")
    assert (found.state, found.why) == ("ENDED", "m@4 was not admitted: another answer in row 3")


@pytest.mark.parametrize("end", [trials.StopTrial(endpoint="m"), deployments.StopEndpoint(endpoint="m")])
def test_the_alert_of_a_shadow_that_falls_behind_ends_with_it(end: Any) -> None:
    ruling = ready()
    ruling.act(trials.StartShadow(version="m@2"))
    behind = monitoring.RaiseAlert(kind=trials.BEHIND, subject="m", severity="warning", words="3 of 9")
    other = monitoring.RaiseAlert(kind=trials.BEHIND, subject="elsewhere", severity="warning", words="3 of 9")
    raised, kept = ruling.act(behind), ruling.act(other)
    ruling.act(end)
    assert ruling.state.alerts[raised.id].resolved == ruling.now
    assert ruling.state.alerts[raised.id].note == "shadow m@2 at 100 % ended"
    assert ruling.state.alerts[kept.id].resolved is None


def begin(ruling: Ruling, kind: str) -> None:
    """A rollout of that kind, of `m@2`."""
    acts: dict[str, Any] = {
        "canary": deployments.StartCanary(version="m@2"),
        "shadow": trials.StartShadow(version="m@2"),
        "ab": trials.StartAb(version="m@2", against="m@1", rule=AB),
        "bandit": trials.StartBandit(version="m@2", against="m@1", rule=BANDIT),
    }
    ruling.act(acts[kind])


RUNNING = {
    "canary": "canary m@2 at 5 %",
    "shadow": "shadow m@2 at 100 %",
    "ab": "A/B m@1 against m@2 at 50 %",
    "bandit": "bandit of m@1, m@2",
}


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
    assert last_trial_at(ruling.state, "m").why == "rolled back: enough"


def test_a_trial_ends_with_its_endpoint() -> None:
    ruling = ready()
    begin(ruling, "shadow")
    ruling.act(deployments.StopEndpoint(endpoint="m"))
    assert last_trial_at(ruling.state, "m").why == "the endpoint was stopped"


def test_a_shadow_that_crashes_once_is_taken_away_and_the_live_version_stays() -> None:
    ruling = ready()
    begin(ruling, "shadow")
    ruling.act(deployments.NoteCrash(endpoint="m", version="m@2", detail="ended with -11"))
    found = last_trial_at(ruling.state, "m")
    assert (found.state, found.why) == ("ENDED", "rolled back: 1 crash while m@2 was running (ended with -11)")
    assert ruling.state.deployments["m"].live == "m@1"
    assert [each.kind for each in ruling.ask(monitoring.ListAlerts())] == ["slot crashed"]


def test_an_ab_trial_splits_by_a_salt_of_its_own_and_ends_with_a_verdict() -> None:
    ruling = ready()
    before = ruling.state.deployments["m"].salt
    ruling.act(trials.StartAb(version="m@2", against="m@1", rule=AB, split=30))
    [route] = table_of(ruling.state, lambda digest: f"/{digest}", Path("/online")).routes
    assert slots(ruling) == [("m@1", "live", 70), ("m@2", "candidate", 30)]
    assert route.salt not in ("", before) and route.weights == ()
    found = judged(ruling, ("m@1", 700, 70), ("m@2", 300, 33), callers=(700, 300))
    assert found.judged is not None and (found.state, found.judged.verdict) == ("RUNNING", "NEEDS")
    found = judged(ruling, ("m@1", 7000, 700), ("m@2", 3000, 450), callers=(7000, 3000))
    assert found.state == "ENDED" and found.why.startswith("WIN: bought 0.15 (3,000) against 0.1 (7,000)")
    assert slots(ruling) == [("m@1", "live", 100)], "the winner is tried by canary, which moves the stages"
    [alert] = ruling.ask(monitoring.ListAlerts())
    assert (alert.kind, alert.next) == ("A/B ended", "qd canary m@2")


def test_arms_that_are_not_as_dealt_are_said_loudly_and_decide_nothing() -> None:
    ruling = ready()
    begin(ruling, "ab")
    found = judged(ruling, ("m@1", 9000, 900), ("m@2", 8000, 1200), callers=(9000, 8000))
    assert found.judged is not None and (found.state, found.judged.verdict) == ("RUNNING", "HOLD")
    [alert] = ruling.ask(monitoring.ListAlerts())
    assert (alert.kind, alert.severity) == ("sample ratio mismatch", "critical")
    assert "9,000 callers against 8,000" in alert.words


def test_a_bandit_deals_by_what_its_arms_earned_and_is_stopped_by_a_person() -> None:
    ruling = ready(3)
    ruling.act(trials.StartBandit(version="m@2", against="m@1", others=("m@3",), rule=BANDIT))
    [route] = table_of(ruling.state, lambda digest: f"/{digest}", Path("/online")).routes
    assert route.weights == pytest.approx((1 / 3, 1 / 3, 1 / 3)) and route.salt == "bandit/7"
    epoch = route.epoch
    found = judged(ruling, ("m@1", 1000, 100), ("m@2", 1000, 150), ("m@3", 1000, 90))
    assert found.shares == pytest.approx((5, 90, 5), abs=0.5) and found.state == "RUNNING"
    [route] = table_of(ruling.state, lambda digest: f"/{digest}", Path("/online")).routes
    assert route.weights == pytest.approx([share / 100 for share in found.shares]) and route.epoch > epoch
    assert found.epoch == epoch, "rewards count from its first request on, whatever the shares were then"
    ruling.act(trials.StopTrial(endpoint="m"))
    assert slots(ruling) == [("m@1", "live", 100)]


@pytest.mark.parametrize("kind", ["ab", "bandit"])
def test_an_arm_that_crashes_twice_ends_the_trial(kind: str) -> None:
    ruling = ready()
    begin(ruling, kind)
    ruling.act(deployments.NoteCrash(endpoint="m", version="m@2"))
    assert last_trial_at(ruling.state, "m").state == "RUNNING"
    ruling.act(deployments.NoteCrash(endpoint="m", version="m@2"))
    assert last_trial_at(ruling.state, "m").state == "ENDED"
    assert ruling.state.deployments["m"].live == "m@1"


def test_in_a_team_callers_are_given_to_a_version_only_after_another_person_said_yes() -> None:
    ruling = ready(3, "team")
    act = trials.StartAb(version="m@2", against="m@1", rule=AB)
    with pytest.raises(NeedsApproval):
        ruling.act(act)
    asked = ruling.act(governance.Propose(act=msgspec.to_builtins(act)))
    assert asked.words == "start an A/B test of m@2"
    ruling.act(governance.Approve(approval=asked.id, evidence=asked.evidence), actor="bob")
    found = last_trial_at(ruling.state, "m")
    assert (found.state, found.asked_by, found.approved_by) == ("RUNNING", "ana", "bob")
    ruling.act(trials.StopTrial(endpoint="m"))
    with pytest.raises(Refused, match="bound to the evidence of one version"):
        ruling.act(trials.StartBandit(version="m@2", against="m@1", others=("m@3",), rule=BANDIT))
    ruling.act(trials.StartShadow(version="m@2"))


def test_a_judgement_of_other_arms_or_of_a_trial_that_is_over_is_refused() -> None:
    ruling = ready()
    begin(ruling, "ab")
    with pytest.raises(Conflict, match="RUNNING with m@1, m@2"):
        judged(ruling, ("m@2", 1, 1), ("m@1", 1, 1))
    ruling.act(trials.StopTrial(endpoint="m"))
    with pytest.raises(Conflict, match="ENDED"):
        judged(ruling, ("m@1", 1, 1), ("m@2", 1, 1))


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
        (
            trials.StartAb(version="m@2", against="m@2", rule=AB),
            Conflict,
            "against: got m@2, expected m@1, which is live",
        ),
        (trials.StartAb(version="m@2", against="m@1", rule=AB, split=0), Invalid, "split: got 0"),
        (trials.StartAb(version="m@2", against="m@1", rule=trials.AbRule("", 0.1)), Invalid, "metric: got"),
        (trials.StartAb(version="m@3", against="m@1", rule=AB), Refused, "m@3 is in None, expected Staging"),
        (trials.StartBandit(version="m@2", against="m@1", others=("m@2",), rule=BANDIT), Invalid, "each version once"),
        (
            trials.StartBandit(version="m@2", against="m@1", others=("m@2",) * 9, rule=BANDIT),
            Invalid,
            "others: got 11 arms, expected at most 10",
        ),
        (
            trials.StartBandit(version="m@2", against="m@1", rule=trials.BanditRule("x", floor=0.6)),
            Invalid,
            "floor: got 0.6",
        ),
        (trials.StopTrial(endpoint="m"), NotFound, "no trial runs at m"),
        (trials.StopTrial(endpoint="x"), NotFound, "endpoint: got x"),
    ],
)
def test_what_cannot_be_tried_is_refused_and_changes_nothing(act: Any, fault: type, words: str) -> None:
    ruling = ready()
    version(ruling)
    before = ruling.kept()
    with pytest.raises(fault, match=words):
        ruling.act(act)
    assert ruling.kept() == before


def test_a_trial_keeps_how_it_stood_over_time_and_the_list_leaves_that_out() -> None:
    ruling = ready()
    begin(ruling, "ab")
    for n in (50, 400, 800):
        found = judged(ruling, ("m@1", n, n // 4), ("m@2", n, n // 4))
    assert [each.have for each in found.history] == [50, 400, 800]
    assert [each.at for each in found.history] == sorted(each.at for each in found.history)
    first, *others = found.history
    assert first.low is None and all(each.low < 0 < each.high for each in others)  # type: ignore[operator]
    assert found.judged and found.judged.callers == (500, 500) and found.judged.ratio == 1.0
    assert last_trial_at(ruling.state, "m").history == found.history
    assert ruling.ask(trials.ListTrials())[0].history == ()


def test_a_bandits_shares_are_kept_from_its_first_request_on() -> None:
    ruling = ready()
    begin(ruling, "bandit")
    found = judged(ruling, ("m@1", 500, 50), ("m@2", 500, 200))
    assert [each.shares for each in found.history] == [(50.0, 50.0), found.shares] and found.shares[1] == 95


def test_a_history_is_bounded_and_still_begins_where_it_began() -> None:
    ruling = ready()
    begin(ruling, "ab")
    for look in range(1000):
        found = judged(ruling, ("m@1", 400 + look, 100), ("m@2", 400 + look, 100))
    haves = [each.have for each in found.history]
    assert len(haves) <= 200 and haves[0] == 400 and haves[-100:] == list(range(1300, 1400))
    assert haves == sorted(set(haves))


def test_where_nothing_was_tried_is_said_so_and_another_endpoint_is_named() -> None:
    """An endpoint that is known is not called unknown."""
    ruling = ready()
    with pytest.raises(NotFound, match="no trial ran at m yet"):
        last_trial_at(ruling.state, "m")
    with pytest.raises(NotFound, match="no shadow ran at m yet"):
        last_trial_at(ruling.state, "m", "shadow")
    with pytest.raises(NotFound, match="got n, expected a known one"):
        last_trial_at(ruling.state, "n")
