"""A version that cannot answer what callers ask of the live one: a canary of it is refused, a switch to it is said."""

from __future__ import annotations

from typing import Any

import pytest

from quarterstore.records import deployments, registry, trials
from quarterstore.records.faults import Refused
from tests.ruling import Ruling
from tests.services.test_registry import shape, version


def live(**about: Any) -> Ruling:
    """`m@1` answers at `m`; `m@2`, in Staging, was registered with what is given."""
    ruling = Ruling()
    version(ruling)
    version(ruling, **about)
    ruling.act(registry.MoveStage(version="m@1", stage="Production", skip_stage=True, reason="r"))
    ruling.act(deployments.Deploy(version="m@1"))
    ruling.act(deployments.AdmitVersion(endpoint="m", version="m@1", ok=True))
    ruling.act(registry.MoveStage(version="m@2", stage="Staging"))
    return ruling


def test_a_canary_that_callers_of_the_live_version_cannot_ask_is_refused() -> None:
    ruling = live(signature=shape(width=3))
    with pytest.raises(Refused, match=r"m@2 cannot answer what callers ask of m@1: input x .*--endpoint NAME"):
        ruling.act(deployments.StartCanary(version="m@2"))


def test_an_ab_test_or_bandit_that_callers_cannot_ask_is_refused_and_a_shadow_is_not() -> None:
    ruling = live(signature=shape(width=3))
    for act in (
        trials.StartAb(version="m@2", against="m@1", rule=trials.AbRule(metric="bought", effect=0.02)),
        trials.StartBandit(version="m@2", against="m@1", rule=trials.BanditRule(metric="bought")),
    ):
        with pytest.raises(Refused, match=r"m@2 cannot answer what callers ask of m@1: input x .*--endpoint NAME"):
            ruling.act(act)
    assert ruling.act(trials.StartShadow(version="m@2")).kind == "shadow"


def test_a_switch_that_breaks_callers_raises_an_alert_with_the_way_back() -> None:
    ruling = live(signature=shape(width=3))
    ruling.act(registry.MoveStage(version="m@2", stage="Production", reason="r"))
    ruling.act(deployments.Deploy(version="m@2"))
    (alert,) = ruling.state.alerts
    assert (alert.kind, alert.next) == ("callers broken", "qd rollback m") and "input x" in alert.words


def test_a_retrained_version_is_tried_and_switched_to_without_a_word() -> None:
    ruling = live()
    ruling.act(deployments.StartCanary(version="m@2"))
    ruling.act(deployments.RollBack(endpoint="m"))
    ruling.act(registry.MoveStage(version="m@2", stage="Production", reason="r"))
    ruling.act(deployments.Deploy(version="m@2"))
    assert not list(ruling.state.alerts)
