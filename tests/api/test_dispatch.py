"""The dispatch: one work for a request however often it is sent, and one sync for everybody who waits for one."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from quarterdeckd.api.clock import Clock
from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.api.permissions import Speaker
from quarterdeckd.api.syncing import Syncing
from quarterdeckd.api.writer import Outcome
from quarterdeckd.bus import Bus
from quarterstore.ledger.state import State
from quarterstore.records.datasets import AddDataset
from quarterstore.records.faults import Unknown
from quarterstore.records.runs import ListRuns

ANA = Speaker(person="ana", roles=("viewer",), key="k")


async def test_a_question_that_is_sent_again_meanwhile_waits_with_the_first() -> None:
    """A client sends again after 2 s: thirty counts of a minute each would hold every reader."""
    dispatch = Dispatch(State(), {}, Bus(), "solo", Clock())
    asked, go = [], threading.Event()

    def reader(message: Any, speaker: Any, seen: int) -> int:
        asked.append(message)
        assert go.wait(10)
        return len(asked)

    dispatch.wide[ListRuns] = reader
    answers: asyncio.Queue[Outcome] = asyncio.Queue()
    for request, text in (("one", ""), ("one", ""), ("one", "other"), ("two", "")):
        dispatch.ask(ListRuns(text=text), request, ANA, 0, answers.put_nowait)
    go.set()
    found = [await asyncio.wait_for(answers.get(), 10) for _ in range(4)]
    assert len(asked) == 3 and all(outcome.fault is None for outcome in found)
    dispatch.ask(ListRuns(), "one", ANA, 0, answers.put_nowait)
    await asyncio.wait_for(answers.get(), 10)
    assert len(asked) == 4, "an answered one is asked anew"


async def test_rows_that_need_no_count_wait_for_none_that_are_counted() -> None:
    """A run that names its data waits two seconds for an answer, a count takes minutes."""
    dispatch = Dispatch(State(), {}, Bus(), "solo", Clock())
    queued: asyncio.Queue[Any] = asyncio.Queue()
    dispatch.writer = SimpleNamespace(ask=queued.put_nowait, read_only=None)  # type: ignore[assignment]
    go = threading.Event()

    def counted(act: AddDataset) -> AddDataset:
        assert not act.count or go.wait(30)
        return act

    dispatch.prepare[AddDataset] = counted
    for request, count in (("counted", True), ("not", False)):
        act = AddDataset(digest="a" * 64, name="d", format="csv", count=count)
        dispatch.ask(act, request, ANA._replace(roles=("admin",)), 0, lambda outcome: None)
    assert (await asyncio.wait_for(queued.get(), 30)).request == "not"
    go.set()
    assert (await asyncio.wait_for(queued.get(), 30)).request == "counted"


async def test_whoever_comes_while_a_sync_runs_waits_for_the_next() -> None:
    """The one that runs may have begun before their bytes were written."""
    began, go, synced = threading.Semaphore(0), threading.Semaphore(0), []

    def sync() -> None:
        began.release()
        assert go.acquire(timeout=10)
        synced.append(1)

    syncing = Syncing(sync)
    told: list[tuple[str, int]] = []
    syncing.then(lambda error: told.append(("first", len(synced))))
    await asyncio.to_thread(began.acquire)
    for name in ("second", "third"):
        syncing.then(lambda error, name=name: told.append((name, len(synced))))
    go.release(2)
    go.release()
    await syncing.close()
    assert told == [("first", 1), ("second", 2), ("third", 2)]


async def test_a_sync_that_fails_is_told_to_all_who_waited_for_it() -> None:
    def sync() -> None:
        raise Unknown("the disk is gone", field="samples")

    syncing = Syncing(sync)
    told: asyncio.Queue[BaseException | None] = asyncio.Queue()
    syncing.then(told.put_nowait)
    with pytest.raises(Unknown):
        raise await asyncio.wait_for(told.get(), 10) or AssertionError("no error")
    await syncing.close()
