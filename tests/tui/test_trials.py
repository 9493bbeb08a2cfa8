"""What is tried at an endpoint, as the deployments screen draws it at any width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from quarterdeck.tui.screens.deployment_cards import Shown, deployment_card
from quarterdeck.tui.snapshot import Snapshot, fold
from quarterdeck.tui.widgets import trial_lines
from quarterdeck.tui.widgets.latency_chart import UNITS, measure_chart
from quarterdeck.tui.widgets.traffic_bar import strip
from quarterstore.records.canaries import PassedStep
from quarterstore.records.deployments import LADDER, Canary, CanaryRule, CanaryVerdict, Deployment
from quarterstore.records.histories import ArmHistory, TrafficHistory
from quarterstore.records.trials import (
    AbRule,
    BanditRule,
    Disagreement,
    ShadowReport,
    Slice,
    Trial,
    TrialPoint,
    TrialReading,
    TrialVerdict,
)

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
    return deployment_card(Shown(ENDPOINT, snapshot, found), NOW, width, 24).plain


@pytest.mark.parametrize("width", [60, 78, 158])
def test_a_shadow_says_what_it_was_shown_and_that_all_traffic_is_live(width: int) -> None:
    shadow = trial("shadow", ("m@1", "m@2"), (100, 30))
    assert "nothing copied yet\n$ qd shadow report m" in card(shadow, None, width)
    found = card(shadow, TrialReading(trial="trl-1", endpoint="m", copied=1200, dropped=3), width)
    assert "shown 1,200 requests, 3 dropped" in found and "m@1 100 %" in found and "shadow m@2 at 30 %" in found


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
    assert "m@1 5 %   ▒ m@2 90 %   ░ m@3 5 %" in found


def readings(version: str, role: str, start: float, p95: tuple[float | None, ...], step: float = 10.0) -> ArmHistory:
    count = len(p95)
    at = tuple(start + step * index for index in range(count))
    asked = tuple(0 if each is None else 100 for each in p95)
    return ArmHistory(version, role, at, (step,) * count, asked, (1,) * count, p95, p95, p95)


def history(*arms: ArmHistory, window: float = 600.0) -> TrafficHistory:
    return TrafficHistory("m", window, 10.0, NOW, NOW - 300, arms)


@pytest.mark.parametrize("width", [60, 78, 158])
def test_two_versions_are_told_apart_without_colour_and_the_axis_says_how_long(width: int) -> None:
    arms = (readings("m@1", "live", NOW - 600, (1.0,) * 60), readings("m@2", "candidate", NOW - 600, (9.0,) * 60))
    for measure, unit in UNITS.items():
        found = measure_chart(history(*arms), measure, width, 8).plain.splitlines()
        assert max(map(len, found)) <= width and found[-1].split() == ["10", "min", "ago", "now"]
        assert "● m@1" in found[0] and "▲ m@2" in found[0] and unit in found[0]
        body = "".join(found[1:-2])
        assert "▲" in body and ("●" in body or measure in ("rate", "errors"))


def test_what_nobody_served_is_a_gap_and_not_a_line_at_zero() -> None:
    """A quarter of the axis has no reading; a latency that nobody asked for is none either."""
    arm = readings("m@1", "live", NOW - 600, (5.0,) * 30)
    later = readings("m@1", "live", NOW - 150, (5.0,) * 15)
    both = ArmHistory(
        "m@1", "live", *(getattr(arm, name) + getattr(later, name) for name in arm.__struct_fields__[2:])
    )  # fmt: skip
    for measure in ("P95", "rate"):
        lines = measure_chart(history(both), measure, 100, 6).plain.splitlines()[1:-2]
        columns = ["".join(line[index : index + 1] for line in lines)[:6] for index in range(8, 100)]
        empty = [not column.replace("⠀", " ").strip() for column in columns]
        assert 18 <= sum(empty) <= 28 and not any(empty[:40]) and not any(empty[-20:-2])
    unasked = readings("m@1", "live", NOW - 600, (None,) * 60)
    assert "nothing to draw yet" in measure_chart(history(unasked), "P95", 80, 6).plain
    assert "nothing to draw yet" not in measure_chart(history(unasked), "rate", 80, 6).plain


@pytest.mark.parametrize("width", [60, 78, 158])
def test_the_ladder_has_what_each_step_took_and_when_the_next_may_come(width: int) -> None:
    verdict = CanaryVerdict("HOLD", "need 2,319 per arm, have 319", 2319, 319)
    passed = PassedStep(5, NOW - 900, NOW - 300, CanaryVerdict("PASS", "as good", 2319, 2400))
    canary = Canary("m@2", LADDER, 1, CanaryRule(), NOW - 900, NOW - 300, "ana", judged=verdict, passed=(passed,))
    found = deployment_card(
        Shown(
            replace(ENDPOINT, canary=canary, state="CANARY"),
            Snapshot(),
            history=history(readings("m@2", "candidate", NOW - 300, (5.0,) * 30)),
        ),
        NOW,
        width,
        40,
    ).plain
    lines = found.splitlines()
    assert max(map(len, lines)) <= max(width, 62)
    assert any(line.startswith("✓    5 %") and "10 min" in line and "2,400 of 2,319" in line for line in lines)
    assert any(line.startswith("◉   10 %") and "5 min" in line for line in lines)
    assert sum("to come" in line for line in lines) == 3
    assert "319 of 2,319 requests needed" in found and "in about 3 min at 10 requests a second to it" in found
    assert "$ qd deployment history m --window 10m" in found and "the daemon listens since 5 min" in found


def test_an_ab_trial_draws_its_interval_over_time_and_whether_its_arms_are_as_dealt() -> None:
    kept = tuple(
        TrialPoint(NOW - 600 + 60 * look, "NEEDS", 100 * look, 0.01, 0.01 - 1 / look, 0.01 + 1 / look)
        for look in range(1, 8)
    )
    judged = TrialVerdict("NEEDS", "need more", 700, 7439, 0.01, -0.1, 0.1, callers=(801, 799), ratio=0.96)
    split = trial("ab", ("m@1", "m@2"), (50, 50), ab=AbRule("bought", 0.02), judged=judged, history=kept)
    found = card(split, None, 78)
    assert "callers 801 against 799, dealt 50 to 50: as dealt (p 0.96)" in found
    assert "700 of 7,439 outcomes per arm needed" in found
    assert "▲ high" in found and "■ low" in found and "9 min ago" in found and "$ qd trials show --endpoint m" in found
    skewed = replace(judged, verdict="HOLD", why="sample ratio", callers=(900, 700), ratio=1e-7)
    assert "NOT AS DEALT (p 1e-07)" in card(replace(split, judged=skewed), None, 78)


def test_a_bandits_shares_are_drawn_over_time() -> None:
    points = (TrialPoint(NOW - 500, "GOES ON", shares=(50, 50)), TrialPoint(NOW - 100, "GOES ON", shares=(5, 95)))
    bandit = trial("bandit", ("m@1", "m@2"), (5, 95), bandit=BanditRule("clicked"), history=points)
    found = card(bandit, None, 78)
    assert "● m@1 5 %   ▲ m@2 95 %" in found and "8 min ago" in found


@pytest.mark.parametrize("width", [60, 78, 158])
def test_a_shadow_shows_its_agreement_its_worst_slices_and_its_largest_disagreements(width: int) -> None:
    shadow = trial("shadow", ("m@1", "m@2"), (100, 100))
    kept = {"age": 20.100000381469727, "evil": "\x1b[2J"}
    report = ShadowReport(
        "trl-1", "m", "m@1", "m@2", 1000, 990, 0.99, 0.98, 0.995, 0, 1000, 0, "m@2 agrees with m@1 on 99.00%",
        slices=(Slice("age", "x < 30", 120, 100, 0.83, 0.7, 0.9),),
        disagreements=(Disagreement("p1", 0, NOW - 5, "0", "1", 0.2, 0.9, kept),),
    )  # fmt: skip
    found = deployment_card(Shown(ENDPOINT, Snapshot(), shadow, report=report), NOW, width, 24).plain
    assert "99.00% agree, 98.00% to 99.50%" in found and "83.0% (70% to 90%)" in found
    assert "0 → 1" in found and "age 20.1, evil" in found and "d lists them" in found and "\x1b" not in found


def test_a_trial_that_is_over_stays_below_with_its_end() -> None:
    over = trial("ab", ("m@1", "m@2"), (50, 50), ab=AbRule("bought", 0.02), ended=NOW - 60, why="WIN: bought 0.4")
    found = card(replace(over, state="ENDED"), None, 78)
    assert "ended 60 s ago after 9 min" in found and "WIN: bought 0.4" in found and "m@1 100 %" in found


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=10), st.integers(20, 200))
def test_the_bar_is_as_wide_as_the_card_and_who_has_a_share_is_seen(parts: list[float], width: int) -> None:
    shares = [100 * part / sum(parts) for part in parts]
    found = strip(shares, width).plain
    assert len(found) == width and len(set(found)) == len(shares)


def test_a_value_of_a_request_is_said_as_it_was_written() -> None:
    for value, words in ((0.17000000178813934, "0.17"), (16777216.0, "16777216"), (20.0, "20")):
        assert trial_lines.given(value) == words
    for value in (0.1, 1234567.89, 1e300, float("inf"), 3, "a", None):
        assert trial_lines.given(value) == value
