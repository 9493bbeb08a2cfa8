"""Studies as a person sees them: of a real daemon by keys, and drawn from records that nobody should obey."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len

from quarterdeck.tui.screens.studies import how_far
from quarterdeck.tui.screens.study_cards import study_card
from quarterstore.records import studies
from quarterstore.records.jobs import Progress
from quarterstore.records.names import drawn
from quarterstore.records.spaces import Budget, Parameter
from tests.decks import until
from tests.tui.hostile import ODD

NOW = 1_700_000_000.0
EVIL = "\x1b]0;pwned\x07"


def study(**more: Any) -> studies.Study:
    """One of two objectives, with a winner scored again."""
    definition = studies.StudyDefinition(
        name="churn",
        objectives={"accuracy": "maximise", f"loss{EVIL}": "minimise"},
        space={"rate": Parameter(kind="float", low=0.1, high=1)},
        objective="o.py:o",
        budget=Budget(trials=60, workers=2),
    )
    best = studies.Rescored(
        7, {"rate": 0.3, f"k{EVIL}": EVIL}, (0.97, 0.1), (0.91, 0.2), (0.9, 0.1), (0.92, 0.3), 3, 142
    )
    result = studies.StudyResult(50, 8, 2, (best,), {"rate": 0.8, f"k{EVIL}": 0.2}, True, 3.0, f"found{EVIL}")
    made = studies.Study("study-1", f"churn{EVIL}", definition, "SUCCEEDED", NOW, "ana", "job-1", result=result)
    return msgspec.structs.replace(made, **more)


def trials(count: int = 60) -> list[studies.StudyTrial]:
    found = []
    for number in range(count):
        state: Any = ("COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "FAILED")[number % 5]
        values = (0.5 + number / 200, math.sin(number) ** 2) if state == "COMPLETE" else ()
        error = f"bad{EVIL}" if state == "FAILED" else None
        found.append(studies.StudyTrial(number, state, {"rate": number / 60, "k": EVIL}, values, (), 0.5, error))
    return found


@pytest.mark.parametrize("width", [60, 78, 100, 150])
def test_a_study_is_drawn_within_the_width_and_obeys_nobody(width: int) -> None:
    text = study_card(study(), trials(), None, NOW, width).plain
    for words in ("142 rows that no trial saw", "honest", "0.91", "best accuracy so far", "in both", "importance",
                  "the best of 60 trials", "the newest", "order-dependent", "PRUNED"):  # fmt: skip
        assert words in text, words
    assert "\x1b" not in text and "\x07" not in text
    assert max(map(cell_len, text.splitlines())) <= width


@pytest.mark.fault
def test_no_hostile_name_gets_out_of_a_card() -> None:
    for odd in ODD:
        result = study().result
        assert result is not None
        best = msgspec.structs.replace(result.best[0], params={odd: odd}, error=odd)
        found = msgspec.structs.replace(result, best=(best,), importance={odd: 1.0}, words=odd)
        definition = msgspec.structs.replace(study().definition, objectives={odd: "maximise", "b": "minimise"})
        evil = study(name=odd, actor=odd, error=odd, definition=definition, result=found, pipeline_run=odd)
        tried = [msgspec.structs.replace(trial, params={odd: odd}, error=odd) for trial in trials(10)]
        for width in (60, 120):
            text = study_card(evil, tried, Progress("job-1", odd, 0.1, odd), NOW, width)
            assert all(drawn(line) == line for line in text.plain.split("\n")), odd


def test_a_study_that_runs_says_how_far_it_is() -> None:
    running = study(state="RUNNING", result=None)
    progress = Progress("job-1", "tune", 0.5, f"30 of 60 trials{EVIL}")
    assert how_far(running, None) == "is being started"
    assert how_far(running, progress).startswith("30 of 60")
    text = study_card(running, trials(30), progress, NOW, 80).plain
    assert "30 of 60 trials\ufffd" in text and "scored again" not in text
    assert "nothing to draw yet" in study_card(running, [], None, NOW, 80).plain
    assert how_far(study(state="FAILED", error="no rows"), None) == "no rows"


async def test_a_search_is_watched_stopped_and_gone_on_with_by_keys(daemon: Any, made: Any, console: Any) -> None:
    code = b"import time\ndef objective(trial):\n    time.sleep(0.05)\n    return trial.params['x']\n"
    with daemon.client() as owner:
        digest, _ = owner.put(code)
        definition = studies.StudyDefinition(
            name="watched",
            objectives={"loss": "minimise"},
            space={"x": Parameter(kind="float", low=0, high=1)},
            objective="o.py:objective",
            budget=Budget(trials=100_000),
        )
        asked = owner.ask(studies.StartStudy(definition=definition, sources={"o.py": digest}))
        until(lambda: owner.ask(studies.ListTrials(study=asked.id)))
        async with console(daemon.home).run_test(size=(120, 40)) as pilot:
            await made.gone_to(pilot, "9", "studies")
            await made.shown(pilot, "of 100,000 trials, best loss")
            await made.shown(pilot, f"qd tune show {asked.id}")
            await pilot.press("x")
            await made.shown(pilot, "■ CANCELLED")
            await pilot.press("c")
            await made.shown(pilot, "▶ RUNNING")
            await pilot.press("enter")
            await made.shown(pilot, "the newest")
            await pilot.press("escape")
            await made.shown(pilot, "how far")
        assert owner.ask(studies.StopStudy(study=asked.id)).state == "CANCELLED"
