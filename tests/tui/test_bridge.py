"""The bridge in its panels: what serves is seen of every endpoint, in full of those that there is room for."""

from __future__ import annotations

import pytest

from quarterdeck.tui.screens.bridge import serving
from quarterdeck.tui.snapshot import Snapshot
from quarterstore.records.canaries import CanaryVerdict
from quarterstore.records.deployments import LADDER, Canary, CanaryRule, Deployment
from quarterstore.records.trials import Trial

NOW = 1_700_000_600.0
HELD = CanaryVerdict("HOLD", "need about 2,300 per arm, have 254", 2319, 254)


def endpoint(name: str, canary: Canary | None = None) -> Deployment:
    return Deployment(
        id=f"dep-{name}", endpoint=name, model="m", environment="default", state="CANARY" if canary else "LIVE",
        live="m@1", epoch=9, created=1.0, changed=NOW - 60, asked_by="ana", canary=canary,
    )  # fmt: skip


FOUND = [
    endpoint("one", Canary("m@2", LADDER, 0, CanaryRule(), NOW, NOW, "ana", judged=HELD)),
    endpoint("two"),
    endpoint("three"),
    endpoint("four"),
]
SHADOW = Trial(
    id="trl-1", kind="shadow", endpoint="four", model="m", state="RUNNING", versions=("m@1", "m@2"), shares=(100, 60),
    salt="s", since=NOW, changed=NOW, asked_by="ana", epoch=9,
)  # fmt: skip


@pytest.mark.parametrize("width", [36, 38, 76])
def test_every_endpoint_is_in_sight_where_there_is_room_for_two_lines_of_each(width: int) -> None:
    lines = serving(FOUND, {"four": SHADOW}, Snapshot(), NOW)(width, 8).plain.splitlines()
    assert len(lines) == 8 and max(map(len, lines)) <= width
    assert lines[0] == "one  ◔ CANARY  ◌ HOLD" and lines[1] == "  m@1 95 % · m@2 5 %"
    assert lines[6] == "four  ◔ SHADOW" and lines[7] == "  m@1 100 % · shadow m@2"


def test_those_that_there_is_room_for_are_said_in_full() -> None:
    text = serving(FOUND, {"four": SHADOW}, Snapshot(), NOW)(76, 19).plain
    assert "254 of 2,319 requests needed" in text and len(text.splitlines()) <= 19 and "shadow m@2" in text
    alone = serving(FOUND[:1], {}, Snapshot(), NOW)(36, 4).plain
    assert "◌ HOLD  need about" in alone, "one endpoint is scrolled through"


@pytest.mark.parametrize("width", [36, 40, 60])
def test_how_far_a_canary_is_stays_on_one_line_in_a_panel(width: int) -> None:
    found = serving(FOUND[:1], {}, Snapshot(), NOW)(width, 20).plain.splitlines()
    line = next(line for line in found if "254 of 2,319 requests needed" in line)
    assert len(line) <= width
