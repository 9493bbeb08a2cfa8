"""Replays and drills as a person sees them, and what is in them that nobody should obey."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck.tui.screens.replay_cards import drill_words, replays_card
from quarterdeck.tui.widgets.histogram import histogram
from quarterstore.records import drills, registry, replays
from quarterstore.records.trials import Slice
from tests.tui.conftest import SIGNATURE

NOW = 1_700_000_000.0
EVIL = "\x1b]0;pwned\x07"


def version() -> registry.Version:
    return registry.Version(
        id="m@2", model="m", number=2, semver="1.1.0", stage="Staging", digest="d", size=1, format="onnx",
        signature=SIGNATURE, created=NOW, created_by="ana", environment="default", reason="r",
    )  # fmt: skip


def found(**about: Any) -> replays.ReplayResult:
    fields = {
        "rows": 1000, "agreed": 930, "rate": 0.93, "low": 0.912, "high": 0.944, "words": "m@2 agrees with most",
        "hash": "ab" * 32, "psi": 0.034, "mean_difference": 0.012, "largest_difference": 0.4,
        "left_out": {f"plan{EVIL} was kept as a hash": 12},
        "histogram": replays.Histogram(reach=0.4, counts=(1, *[0] * 9, 900, *[0] * 9, 99)),
        "flips": (replays.Flip(recorded="0", candidate="1", rows=70),),
        "slices": (Slice(field="plan", value=f"gold{EVIL}", pairs=100, agreed=60, rate=0.6, low=0.4, high=0.7),),
        "differences": (replays.Difference("p1", 0, NOW, "0", "1", 0.1, 0.9),),
        "timings": (replays.Timing("m@1", True, 1000, 1.2, 3.4), replays.Timing("m@2", False, 200, 0.1, 0.2)),
        "scored": (replays.Scored("accuracy", 200, 0.8, 0.7, 0.9, 0.9, 0.8, 0.95),), "checked": 200, "reproduced": 200,
    }  # fmt: skip
    return replays.ReplayResult(**fields | about)


def kept(**about: Any) -> replays.Replay:
    return replays.Replay(
        id="replay-1", endpoint="m", version="m@2", at=NOW, since=NOW - 86_400, until=NOW, limit=1000,
        tolerance=0.01, found=found(**about),
    )  # fmt: skip


@pytest.mark.parametrize("width", [60, 78, 150])
def test_a_replay_is_drawn_with_its_picture_within_the_width(width: int) -> None:
    text = replays_card(version(), [kept(), kept(words="an earlier one")], NOW, width).plain
    for words in ("93.00% of 1,000 rows", "log scale", "12 plan", "gold", "an earlier one", "accuracy", "200 of 200"):
        assert words in text, words
    assert "\x1b" not in text and "\x07" not in text
    assert max(map(len, text.splitlines())) <= width


def test_a_version_that_nothing_was_replayed_against_says_how() -> None:
    assert "qd replay m@2 --window 24h" in replays_card(version(), [], NOW, 80).plain


def test_a_replay_without_rows_is_drawn_as_well() -> None:
    nothing = kept(rows=0, agreed=0, rate=None, low=None, high=None, psi=None, mean_difference=None, histogram=None,
                   largest_difference=None, flips=(), slices=(), differences=(), timings=(), scored=())  # fmt: skip
    assert "agreement    -" in replays_card(version(), [nothing], NOW, 80).plain


def test_every_bin_with_a_row_in_it_is_seen_and_an_empty_one_is_not() -> None:
    rows = histogram((1, 0, 1_000_000), 2.5, 30, 4).plain.splitlines()
    assert rows[3][0] != " " and rows[3][5] == " " and rows[0][10] == "█"
    assert rows[5].split() == ["-2.5", "0", "+2.5"]


def drill(at: float, **about: Any) -> drills.Drill:
    result = drills.DrillResult(ok=True, words="", requests=200, first_new=9.5, last_old=0.0)
    fields = {"id": "d", "kind": "rollback", "endpoint": "m", "at": at, "live": "m@2", "to": "m@1", "rate": 50.0,
              "seconds": 2.0, "hosts": 1, "within": 1.0, "found": result}  # fmt: skip
    return drills.Drill(**fields | about)


def test_the_last_drill_of_an_endpoint_is_a_line() -> None:
    assert "qd drill rollback m" in drill_words([drill(NOW, endpoint="other")], "m", NOW).plain
    good = drill_words([drill(NOW - 7200)], "m", NOW).plain
    assert "PASS 2 h ago, to m@1, 0 of 200 failed, first new answer 9.5 ms" in good
    bad = drills.DrillResult(ok=False, words="w", wrong=(f"3 of 200 requests failed{EVIL}",))
    line = drill_words([drill(NOW - 7200), drill(NOW, found=bad)], "m", NOW).plain
    assert "FAIL" in line and "3 of 200 requests failed" in line and "\x1b" not in line
