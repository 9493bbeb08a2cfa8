"""The gates of a canary as the deployments screen draws them."""

from __future__ import annotations

import pytest

from quarterdeck.tui.widgets.canary_lines import canary_lines
from quarterstore.records.canaries import CanaryVerdict, GateVerdict

HELD = GateVerdict("accuracy", "HOLD", "need 190 labels per arm, have 12", None, 0.2, 12, 190, "labels")
HOSTILE = GateVerdict("fairness:s\x1b[2J", "PASS", "differs by 0.01\x07 between groups", 0.01, 0.1, 90, 60, "labels")


@pytest.mark.parametrize("width", [40, 78, 158])
def test_every_gate_has_a_line_with_its_verdict_and_none_is_wider_than_the_card(width: int) -> None:
    judged = CanaryVerdict("HOLD", "accuracy: need 190", 190, 12, "accuracy", unit="labels", gates=(HELD, HOSTILE))
    found = canary_lines(judged, width)
    assert "12 of 190 labels needed" in found.plain and "\x1b" not in found.plain and "\x07" not in found.plain
    lines = found.plain.splitlines()[-2:]
    assert ["HOLD  accuracy" in lines[0], "PASS  fairness:s" in lines[1]] == [True, True]
    assert max(map(len, lines)) <= width
