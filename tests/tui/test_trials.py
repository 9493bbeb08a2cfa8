"""What is tried at an endpoint, as the deployments screen draws it at any width."""

from __future__ import annotations

import pytest

from quarterdeck.tui.screens.deployments import deployment_card
from quarterdeck.tui.snapshot import Snapshot, fold
from quarterstore.records.deployments import Deployment
from quarterstore.records.trials import AbRule, BanditRule, Trial, TrialReading, TrialVerdict

NOW = 1_700_000_600.0
ENDPOINT = Deployment(
    id="dep-1", endpoint="m", model="m", environment="default", state="LIVE", live="m@1", epoch=9, created=1.0,
    changed=NOW - 60, asked_by="ana",
)  # fmt: skip


def trial(kind: str, versions: tuple[str, ...], shares: tuple[float, ...], **more: object) -> Trial:
    return Trial(
        id="trl-1", kind=kind, endpoint="m", model="m", state="RUNNING", versions=versions, shares=shares, salt="s",
        since=NOW - 600, changed=NOW, asked_by="ana", epoch=9, **more,
    )  # type: ignore[arg-type]  # fmt: skip


def card(found: Trial, reading: TrialReading | None, width: int) -> str:
    snapshot = fold(Snapshot(), reading) if reading else Snapshot()
    return deployment_card(ENDPOINT, found, snapshot, NOW, width, 24).plain


@pytest.mark.parametrize("width", [60, 78, 158])
def test_a_shadow_says_what_it_was_shown_and_that_all_traffic_is_live(width: int) -> None:
    shadow = trial("shadow", ("m@1", "m@2"), (100, 30))
    assert "nothing copied yet; qd shadow report m" in card(shadow, None, width)
    found = card(shadow, TrialReading(trial="trl-1", endpoint="m", copied=1200, dropped=3), width)
    assert "shown 1,200 requests, 3 dropped" in found and "m@1 100 %" in found and " 30 % m@2" in found


@pytest.mark.parametrize("width", [78, 158])
def test_an_ab_trial_says_its_verdict_of_now_and_why(width: int) -> None:
    kept = TrialVerdict("NEEDS", "need about 7,439 per arm")
    split = trial("ab", ("m@1", "m@2"), (60, 40), ab=AbRule("bought", 0.02), judged=kept)
    assert "A/B m@1 against m@2 at 40 %, for " in card(split, None, width)
    assert "NEEDS  need about 7,439 per arm" in card(split, None, width) and "m@2 40 %" in card(split, None, width)
    now = TrialReading(trial="trl-1", endpoint="m", verdict=TrialVerdict("HOLD", "sample ratio: 9 against 1"))
    assert "HOLD  sample ratio: 9 against 1" in card(split, now, width)


def test_a_bandit_shows_the_share_of_each_arm() -> None:
    bandit = trial("bandit", ("m@1", "m@2", "m@3"), (5, 90, 5), bandit=BanditRule("clicked"))
    found = card(bandit, None, 78)
    assert "not judged yet: outcomes of clicked are awaited" in found
    assert " 90 % m@2" in found and "m@1 5 %" in found and "m@2, m@3 95 %" in found
