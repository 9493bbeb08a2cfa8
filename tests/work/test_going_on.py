"""What is looked after for ever goes on after a fault: a task that ended would end the daemon, or fire no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from quarterdeckd.api.clock import Clock
from quarterdeckd.bus import Bus
from quarterdeckd.work import scheduler as scheduling
from quarterdeckd.work.online import OnlineFeatures
from quarterdeckd.work.retraining import Retraining
from quarterdeckd.work.scheduler import Scheduler
from quarterstore.ledger.state import State
from quarterstore.records import ct, schedules
from quarterstore.records.faults import Full
from quarterstore.records.places import Home
from quarterstore.shelf.artefacts import Artefacts
from tests.ruling import Ruling
from tests.services.test_ct import Deck


class Refusing:
    """A dispatch of a full disk; `enough` is set once so many acts were asked of it."""

    def __init__(self, count: int) -> None:
        self.left, self.enough = count, asyncio.Event()

    async def speak(self, act: Any, request: str | None = None) -> Any:
        self.left -= 1
        if self.left <= 0:
            self.enough.set()
        raise Full("the disk is full", field="disk")


def test_a_firing_that_cannot_be_kept_nor_noted_as_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its alarm is used up: the schedule would fire no more until the next start, with room on the disk or not."""
    monkeypatch.setattr(scheduling, "AGAIN", 0.01)
    deck = Ruling()
    deck.act(schedules.AddSchedule(name="s", act={"type": "runs.start", "experiment": "e"}, every=60.0))

    async def fired() -> None:
        dispatch: Any = Refusing(6)  # each try asks for the firing, then for its failure to be noted
        clock = Scheduler(deck.state, dispatch, Bus(), lambda: deck.now + 61.0)
        clock.start()
        async with asyncio.timeout(10):
            await dispatch.enough.wait()
        clock.stop()

    asyncio.run(fired())


def test_a_model_whose_files_cannot_be_read_is_said_and_the_others_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deck = Deck()
    deck.on(rows=ct.OnRows(least=10))

    class Labels:
        on_added: Callable[[], None]

    labels: Any = Labels()
    dispatch: Any = None
    watcher = Retraining(deck.state, dispatch, Bus(), labels, Clock())

    def damaged(policy: ct.Policy) -> ct.Readings:
        raise pl.exceptions.ComputeError("parquet: File out of specification")

    monkeypatch.setattr(watcher, "_read", damaged)
    asyncio.run(watcher._look("m"))
    assert "out of specification" in watcher._faults["m"]


def test_features_online_are_looked_after_again_after_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    for folder in (home.artefacts, home.incoming):
        folder.mkdir(parents=True, exist_ok=True)

    async def looked_after() -> None:
        dispatch: Any = None
        online = OnlineFeatures(home, State(), dispatch, Bus(), Artefacts(home.artefacts, home.incoming))
        again, calls = asyncio.Event(), []
        loop = asyncio.get_running_loop()

        def tidy() -> None:
            calls.append(1)
            if len(calls) == 1:
                raise Full("the disk is full", field="disk")
            loop.call_soon_threadsafe(again.set)

        monkeypatch.setattr(online, "tidy", tidy)
        task = asyncio.create_task(online.run(0.01))
        async with asyncio.timeout(10):
            await again.wait()
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        online.close()

    asyncio.run(looked_after())
