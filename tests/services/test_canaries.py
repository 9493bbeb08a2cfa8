"""The rules of a canary: what each of its steps leaves behind."""

from __future__ import annotations

from quarterdeckd.measures import latency
from quarterstore.records import deployments
from quarterstore.records.deployments import ArmCounts, CanaryRule
from tests.services.test_trials import ready


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
