"""A step that asks a person says no in time for whoever does not answer, by a clock that nobody sets."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeckd.bus import Bus
from quarterdeckd.work.steps import LONGEST, Deadlines
from tests.ruling import Ruling
from tests.services.test_pipelines import waits


class Speaking(Ruling):
    """Rules that are spoken to as a daemon is, and tell the time."""

    async def speak(self, act: Any, request: str | None = None) -> Any:
        return self.act(act)


@pytest.mark.parametrize("jump", [-1e8, -30.0, 30.0, 1e8])
async def test_a_clock_that_jumps_neither_says_no_for_a_person_nor_waits_longer(jump: float) -> None:
    deck: Any = Speaking()
    run, clock = waits(deck, timeout=50.0), type("Clock", (), {"now": staticmethod(deck.time)})()
    deadlines = Deadlines(deck.state, deck, Bus(), clock)
    assert await deadlines.look() == 50.0
    deck.put(jump)
    assert await deadlines.look() == 50.0 and deck.state.pipeline_runs[run.id].state == "WAITING"
    deck.now += 49.0
    assert await deadlines.look() == 1.0
    deck.now += 1.0
    await deadlines.look()
    over = deck.state.pipeline_runs[run.id]
    assert over.state == "FAILED" and "nobody answered in time" in str(over.error)
    assert await deadlines.look() == LONGEST
