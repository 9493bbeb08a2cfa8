"""One version can be in Production of several environments; each place is taken and left on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quarterdeckd.services.routing import table_of
from quarterstore.records import deployments, registry, store, trials
from quarterstore.records.faults import Conflict, NeedsApproval, NotFound, Refused
from tests.ruling import Ruling
from tests.services.test_registry import version

AB = trials.AbRule(metric="bought", effect=0.02)


def live(ruling: Ruling, which: str, environment: str) -> Any:
    """The version goes to Production there."""
    return ruling.act(
        registry.MoveStage(version=which, stage="Production", reason="r", skip_stage=True, environment=environment)
    )


def at(ruling: Ruling, environment: str) -> str | None:
    """What is in Production there by the model, by the history and by name, which have to agree."""
    by_model = ruling.state.models["m"].production.get(environment)
    try:
        tenure = ruling.ask(registry.ProductionAt(model="m", at=ruling.now + 1, environment=environment))
        by_history = tenure.version if tenure.until is None else None
    except NotFound:
        by_history = None
    assert by_history == (None if by_model is None else f"m@{by_model}")
    return by_history


def two() -> Ruling:
    """`m@1` in Production of `default` and of `eu`, `m@2` registered."""
    ruling = Ruling()
    for _ in range(2):
        version(ruling)
    live(ruling, "m@1", "default")
    live(ruling, "m@1", "eu")
    return ruling


def test_a_version_is_in_production_of_two_environments_at_once() -> None:
    ruling = two()
    assert (at(ruling, "default"), at(ruling, "eu")) == ("m@1", "m@1")
    with pytest.raises(Conflict, match="in Production already"):
        live(ruling, "m@1", "default")


def test_a_successor_in_one_environment_leaves_the_other_as_it_was() -> None:
    ruling = two()
    live(ruling, "m@2", "default")
    assert (at(ruling, "default"), at(ruling, "eu")) == ("m@2", "m@1")
    assert ruling.state.versions["m@1"].stage == "Production"
    live(ruling, "m@2", "eu")
    assert ruling.state.versions["m@1"].stage == "Archived"


def test_archiving_takes_a_version_out_of_every_environment() -> None:
    ruling = two()
    ruling.act(registry.MoveStage(version="m@1", stage="Archived"))
    assert (at(ruling, "default"), at(ruling, "eu")) == (None, None)
    ruling.act(store.Undo())
    assert (at(ruling, "default"), at(ruling, "eu")) == ("m@1", "m@1")


def test_undoing_the_second_environment_keeps_the_first() -> None:
    ruling = two()
    live(ruling, "m@2", "default")
    ruling.act(store.Undo())
    assert (at(ruling, "default"), at(ruling, "eu")) == ("m@1", "m@1")
    ruling.act(store.Undo())
    assert (at(ruling, "default"), at(ruling, "eu")) == ("m@1", None)
    assert ruling.state.versions["m@1"].stage == "Production"


def test_a_version_goes_live_only_where_it_is_in_production() -> None:
    ruling = Ruling()
    version(ruling)
    live(ruling, "m@1", "eu")
    with pytest.raises(Refused, match=r"m@1 is in Production of eu, expected Production"):
        ruling.act(deployments.Deploy(version="m@1"))
    assert ruling.act(deployments.Deploy(version="m@1", environment="eu")).environment == "eu"


def beside(ruling: Ruling) -> None:
    """`m@1` answers all of `m-eu`, which is of `eu`; `m@2` is in Staging and has answered its golden rows there."""
    ruling.act(deployments.Deploy(version="m@1", endpoint="m-eu", environment="eu"))
    ruling.act(deployments.AdmitVersion(endpoint="m-eu", version="m@1", ok=True))
    ruling.act(registry.MoveStage(version="m@2", stage="Staging"))
    ruling.act(deployments.AdmitVersion(endpoint="m-eu", version="m@2", ok=True))


@pytest.mark.parametrize(
    "act",
    [
        deployments.StartCanary(version="m@2", endpoint="m-eu"),
        trials.StartShadow(version="m@2", endpoint="m-eu"),
        trials.StartAb(version="m@2", against="m@1", endpoint="m-eu", rule=AB),
        trials.StartBandit(
            version="m@2", against="m@1", endpoint="m-eu", rule=trials.BanditRule(metric="bought", seed=1)
        ),
    ],
    ids=["canary", "shadow", "ab", "bandit"],
)
def test_what_is_tried_in_one_environment_leaves_the_others_as_they_were(act: Any) -> None:
    ruling = two()
    beside(ruling)
    before = (at(ruling, "default"), at(ruling, "eu"))
    ruling.act(act)
    routes = {route.endpoint: [slot.version for slot in route.slots] for route in routed(ruling)}
    assert routes == {"m-eu": ["m@1", "m@2"]}
    assert (at(ruling, "default"), at(ruling, "eu")) == before
    ruling.act(deployments.RollBack(endpoint="m-eu", reason="enough"))
    assert [slot.version for slot in routed(ruling)[0].slots] == ["m@1"]
    assert (at(ruling, "default"), at(ruling, "eu")) == before


def routed(ruling: Ruling) -> tuple[deployments.Route, ...]:
    """What the hosts are told."""
    return table_of(ruling.state, lambda digest: f"/{digest}", Path("/online")).routes


def test_outside_solo_a_trial_in_another_environment_needs_the_approval_of_that_one() -> None:
    ruling = two()
    beside(ruling)
    ruling.profile = "team"
    with pytest.raises(NeedsApproval, match="another person's approval for Production of eu"):
        ruling.act(trials.StartAb(version="m@2", against="m@1", endpoint="m-eu", rule=AB))
