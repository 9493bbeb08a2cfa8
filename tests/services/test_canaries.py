"""The rules of a canary: what each of its steps leaves behind."""

from __future__ import annotations

from quarterdeckd.measures import latency
from quarterstore.records import deployments, registry
from quarterstore.records.canaries import CanaryEnd
from quarterstore.records.deployments import ArmCounts, CanaryRule
from tests.services.test_trials import ready, version


def counts(version: str, requests: int) -> ArmCounts:
    """So many requests of 5 ms, without an error."""
    histogram = latency.empty()
    histogram[latency.bucket(5.0)] = requests
    return ArmCounts(version, requests, 0, tuple(histogram))


def test_a_step_that_is_passed_keeps_its_share_its_times_and_how_many_requests_it_took() -> None:
    ruling = ready()
    rule = CanaryRule(effect=0.3, baseline=0.02, least=50)
    ruling.act(deployments.StartCanary(version="m@2", ladder=(10, 50, 80, 100), rule=rule))
    begun = ruling.now
    for requests in (5, 300, 400):
        epoch = ruling.state.deployments["m"].epoch
        judge = deployments.JudgeStep("m", epoch, counts("m@1", requests), counts("m@2", requests))
        found = ruling.act(judge)
    canary = found.canary
    assert canary is not None and canary.step == 2
    assert [(each.share, each.verdict.have, each.verdict.verdict) for each in canary.passed] == [
        (10, 300, "PASS"),
        (50, 400, "PASS"),
    ]
    first, second = canary.passed
    assert (first.since, first.until) == (begun, begun + 2) and second.since == first.until < second.until
    assert canary.step_since == second.until


def test_how_a_canary_ended_stays_with_its_endpoint_until_the_next_one_begins() -> None:
    ruling = ready()
    rule = CanaryRule(effect=0.3, baseline=0.02, least=50)

    def began() -> int:
        found = ruling.act(deployments.StartCanary(version="m@2", ladder=(10, 100), rule=rule))
        assert found.canary is not None and found.last_canary is None
        return int(found.epoch)

    began()
    found = ruling.act(deployments.RollBack(endpoint="m", reason="enough"))
    assert found.last_canary == CanaryEnd("m@2", live=False, share=10, at=ruling.now, why="enough", by="ana")
    failing = latency.empty()
    failing[latency.bucket(5.0)] = 300
    worse = ArmCounts("m@2", 300, 300, tuple(failing))
    found = ruling.act(deployments.JudgeStep("m", began(), counts("m@1", 300), worse))
    assert found.canary is None and found.last_canary is not None
    assert (found.last_canary.live, found.last_canary.by) == (False, "") and "error" in found.last_canary.why
    found = ruling.act(deployments.JudgeStep("m", began(), counts("m@1", 300), counts("m@2", 300)))
    assert found.last_canary is not None and found.live == "m@2"
    assert (found.last_canary.candidate, found.last_canary.live, found.last_canary.share) == ("m@2", True, 100)


def test_a_canary_that_waits_for_its_golden_rows_is_there_and_so_is_its_end() -> None:
    ruling = ready()
    version(ruling)
    ruling.act(registry.MoveStage(version="m@3", stage="Staging"))
    found = ruling.act(deployments.StartCanary(version="m@3", ladder=(10, 100)))
    assert found.canary is None and found.pending_canary is not None and found.pending == "m@3"
    found = ruling.act(deployments.AdmitVersion(endpoint="m", version="m@3", ok=False, why="a row differs"))
    assert found.last_canary == CanaryEnd("m@3", live=False, share=0, at=ruling.now, why="a row differs")
