"""Stage and traffic where they part: what is said, and that there is always a way out that works."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from quarterstore.records import deployments, governance, registry, store
from quarterstore.records.deployments import BatchingRule
from quarterstore.records.faults import Conflict, Invalid, NotFound, Refused
from tests.ruling import Ruling
from tests.services.test_registry import version


def promoted(ruling: Ruling, name: str) -> None:
    """None, Staging, Production."""
    for stage in ("Staging", "Production"):
        ruling.act(registry.MoveStage(version=name, stage=stage, reason="r"))  # type: ignore[arg-type]


def live(ruling: Ruling, name: str) -> None:
    """In Production with all the traffic of `m`."""
    promoted(ruling, name)
    ruling.act(deployments.Deploy(version=name))
    ruling.act(deployments.AdmitVersion(endpoint="m", version=name, ok=True))


def parted() -> Ruling:
    """`m@1` answers, `m@2` was promoted and not deployed."""
    ruling = Ruling()
    version(ruling), version(ruling)
    live(ruling, "m@1")
    promoted(ruling, "m@2")
    return ruling


def state_of(ruling: Ruling) -> tuple[Any, ...]:
    """The stages of both versions, and who answers."""
    stages = tuple(ruling.ask(registry.ShowVersion(version=f"m@{number}")).stage for number in (1, 2))
    return (*stages, ruling.state.deployments["m"].live)


def test_a_promotion_beside_live_traffic_says_who_keeps_it_and_until_when() -> None:
    ruling = parted()
    assert ruling.entries[-1].words.endswith("; m@1 keeps its traffic at endpoint m until: qd deploy m@2")
    team = Ruling("team")
    version(team), version(team)
    team.profile = "solo"
    live(team, "m@1")
    team.profile = "team"
    team.act(registry.MoveStage(version="m@2", stage="Staging"))
    act = registry.MoveStage(version="m@2", stage="Production")
    asked = team.act(governance.Propose(act=msgspec.to_builtins(act)))
    assert asked.words == "move m@2 to Production; m@1 keeps its traffic at endpoint m until: qd deploy m@2"


def test_a_rollback_after_a_promotion_gives_production_back_to_what_still_answers() -> None:
    ruling = parted()
    assert state_of(ruling) == ("Archived", "Production", "m@1")
    ruling.act(deployments.RollBack(endpoint="m"))
    assert state_of(ruling) == ("Production", "Staging", "m@1")
    assert ruling.ask(registry.ProductionAt(model="m", at=ruling.now)).version == "m@1"


def test_a_rollback_where_there_is_nothing_before_says_how_to_take_it_down() -> None:
    ruling = Ruling()
    version(ruling)
    live(ruling, "m@1")
    with pytest.raises(NotFound, match="qd deployments stop --endpoint m"):
        ruling.act(deployments.RollBack(endpoint="m"))


def test_what_undo_says_of_a_version_with_traffic_works() -> None:
    """It once sent people to a rollback that had nothing to go back to."""
    ruling = Ruling()
    version(ruling), version(ruling)
    live(ruling, "m@1")
    with pytest.raises(Refused, match="qd deployments stop --endpoint m, then qd undo"):
        ruling.act(store.Undo())
    ruling.act(deployments.StopEndpoint(endpoint="m"))
    assert ruling.act(store.Undo()).act == "registry.move_stage"
    assert ruling.ask(registry.ShowVersion(version="m@1")).stage == "Staging"


def test_what_undo_says_of_a_version_that_took_the_place_of_another_works() -> None:
    ruling = Ruling()
    version(ruling), version(ruling)
    live(ruling, "m@1")
    live(ruling, "m@2")
    with pytest.raises(Refused, match="qd rollback m gives back traffic and stage"):
        ruling.act(store.Undo())
    ruling.act(deployments.RollBack(endpoint="m"))
    assert state_of(ruling) == ("Production", "Staging", "m@1")


def test_batches_are_the_endpoint_s_until_another_rule_is_given() -> None:
    ruling = Ruling()
    version(ruling), version(ruling)
    promoted(ruling, "m@1")
    rule = BatchingRule(max_batch=32, max_wait_ms=5)
    ruling.act(deployments.Deploy(version="m@1", batching=rule))
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@1", ok=True))
    live(ruling, "m@2")
    assert ruling.state.deployments["m"].batching == rule
    assert ruling.act(deployments.SetBatching(endpoint="m", batching=BatchingRule())).batching == BatchingRule()
    with pytest.raises(Conflict):
        ruling.act(deployments.SetBatching(endpoint="m", batching=BatchingRule()))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (BatchingRule(max_batch=0), "max_batch: got 0, expected 1 (no batching) to 4096 rows"),
        (BatchingRule(max_batch=4097), "max_batch: got 4097, expected 1 (no batching) to 4096 rows"),
        (BatchingRule(max_batch=8, max_wait_ms=-1), "max_wait_ms: got -1, expected 0 to 1000 ms"),
        (BatchingRule(max_batch=8, max_wait_ms=float("nan")), "max_wait_ms: got nan, expected 0 to 1000 ms"),
        (BatchingRule(max_wait_ms=5), "max_wait_ms: got 5, expected 0 beside a max_batch of 1"),
    ],
)
def test_batches_that_no_host_can_hold_to_change_nothing(rule: BatchingRule, words: str) -> None:
    ruling = Ruling()
    version(ruling)
    promoted(ruling, "m@1")
    with pytest.raises(Invalid) as deploying:
        ruling.act(deployments.Deploy(version="m@1", batching=rule))
    assert words in deploying.value.line()
    assert "m" not in ruling.state.deployments
    live(ruling, "m@1")
    with pytest.raises(Invalid):
        ruling.act(deployments.SetBatching(endpoint="m", batching=rule))
    assert ruling.state.deployments["m"].batching == BatchingRule()
