"""The scheduler with a clock that is set by hand and the rules as they are: what is said, once, at which time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from quarterdeckd.bus import Bus, Kept
from quarterdeckd.work.scheduler import Scheduler
from quarterstore.ledger.folding import events_of
from quarterstore.records import runs, schedules
from tests.ruling import Ruling

START = msgspec.to_builtins(runs.StartRun(experiment="clock", beats=False))
NOON = 4_102_488_000.0
DAY = 86_400.0


class Deck:
    """A state, its rules, and a scheduler that is woken by hand; whoever speaks is answered as the writer does it."""

    def __init__(self) -> None:
        self.ruling = Ruling(now=NOON)
        self.bus = Bus()
        self.clock = NOON
        self.scheduler = Scheduler(self.ruling.state, self, self.bus, lambda: self.clock)  # type: ignore[arg-type]
        self.scheduler.start()
        self.scheduler._loaded().pause()  # its own clock is the true one; here it keeps alarms, and wakes nobody

    async def speak(self, act: Any, request: str | None = None) -> None:
        """Decide at the time of the clock, then tell the bus."""
        self.ruling.now = self.clock - 1.0
        self.ruling.act(act)
        entry = self.ruling.entries[-1]
        self.bus.kept(Kept(entry, events_of(entry.events)))

    async def put(self, clock: float) -> None:
        """Move the clock as a jump does, look at it, and let everything that follows happen."""
        self.clock = clock
        self.scheduler._look_at_clock()
        for schedule in self.ruling.state.schedules:
            await self.scheduler._due(schedule.name)
        await self.rest()

    async def rest(self) -> None:
        """Until nothing is done for any schedule any more."""
        while self.scheduler._busy:
            await asyncio.wait(list(self.scheduler._busy.values()))

    def fired(self, name: str) -> list[float]:
        """Hours after noon of what was due and ran, in the order it was decided."""
        found = self.ruling.state.firings.get(name)
        return [(each.due - NOON) / 3600 for each in (found.firings if found else ()) if each.state == "RAN"]

    def alarm(self, name: str) -> float | None:
        """Hours after noon of the alarm that is set."""
        job = self.scheduler._loaded().get_job(f"schedule {name}")
        return None if job is None else (job.next_run_time.timestamp() - NOON) / 3600


@pytest.fixture
async def deck() -> AsyncIterator[Deck]:
    """A deck at noon with an hourly schedule and a daily one at 14:00."""
    found = Deck()
    await found.speak(schedules.AddSchedule(name="hourly", act=START, every=3600.0))
    await found.speak(schedules.AddSchedule(name="daily", act=START, cron="0 14 * * *"))
    yield found
    found.scheduler.stop()


async def test_an_alarm_is_set_at_the_next_due_time_and_each_is_fired_once(deck: Deck) -> None:
    assert (deck.alarm("hourly"), deck.alarm("daily")) == (1.0, 2.0)
    for hour in (0.5, 1.0, 1.0, 1.5, 2.0, 2.0):
        await deck.put(NOON + hour * 3600)
    assert (deck.fired("hourly"), deck.fired("daily")) == ([1.0, 2.0], [2.0])
    assert (deck.alarm("hourly"), deck.alarm("daily")) == (3.0, 26.0)


async def test_a_clock_that_goes_there_and_back_fires_a_due_time_once(deck: Deck) -> None:
    await deck.put(NOON + 2 * 3600)
    await deck.put(NOON + 2 * 3600 - DAY)
    assert deck.alarm("daily") == 26.0
    await deck.put(NOON + 2 * 3600)
    await deck.put(NOON + 26 * 3600)
    assert deck.fired("daily") == [2.0, 26.0]
    hourly = deck.fired("hourly")
    assert len(hourly) == len(set(hourly))
    # 1970 and 2038: what the clock shows is what counts, and none is deaf afterwards
    for clock in (100.0, 2_147_483_648.0, NOON + 27 * 3600):
        await deck.put(clock)
    assert deck.alarm("daily") == 50.0
    next_hour = deck.alarm("hourly")
    assert next_hour is not None and 27.0 < next_hour <= 28.0


async def test_an_interval_put_back_by_whole_intervals_goes_on_and_fires_no_due_time_twice(deck: Deck) -> None:
    """A day of hours, a day back, and the same day again: each hour fires, some milliseconds beside those of before."""
    for hour in range(1, 25):
        await deck.put(NOON + hour * 3600)
    for hour in range(25):
        await deck.put(NOON + hour * 3600 + (1 if hour else 0))
    fired = deck.fired("hourly")
    assert len(fired) == 48 and len(set(fired)) == 48
    found = deck.ruling.state.firings["hourly"].firings
    assert len({each.id for each in found}) == len(found) == 48


async def test_an_interval_that_was_paused_while_the_clock_was_put_back_goes_on(deck: Deck) -> None:
    await deck.put(NOON + 3600)
    await deck.speak(schedules.PauseSchedule(name="hourly"))
    await deck.put(NOON - DAY)
    await deck.speak(schedules.PauseSchedule(name="hourly", paused=False))
    await deck.rest()
    assert deck.alarm("hourly") == pytest.approx(-23.0, abs=0.001)


async def test_a_clock_put_back_while_a_firing_is_on_its_way_makes_no_interval_deaf(deck: Deck) -> None:
    await deck.put(NOON + 24.5 * 3600)
    act = schedules.FireSchedule(name="hourly", due=NOON + 48 * 3600)  # decided when the clock showed two days
    deck.clock = NOON + 25 * 3600
    deck.scheduler._look_at_clock()
    await deck.speak(act)
    await deck.rest()
    assert deck.alarm("hourly") == pytest.approx(26.0, abs=0.001)


async def test_an_alarm_that_wakes_too_early_fires_nothing(deck: Deck) -> None:
    deck.clock = NOON + 1
    await deck.scheduler._due("hourly")
    await deck.rest()
    assert deck.fired("hourly") == [] and deck.alarm("hourly") == 1.0


async def test_maintenance_sets_no_alarm_but_that_of_its_end(deck: Deck) -> None:
    await deck.speak(schedules.PauseAll(until=NOON + 3 * 3600, reason="a new disk"))
    assert deck.alarm("hourly") is None and deck.scheduler.held()
    await deck.put(NOON + 2.5 * 3600)
    assert deck.fired("hourly") == []
    deck.clock = NOON + 3 * 3600
    await deck.scheduler._end_maintenance()
    assert not deck.scheduler.held()
    await deck.put(NOON + 3 * 3600)
    assert deck.fired("hourly") == [3.0] and deck.ruling.state.schedules["hourly"].missed_count == 2


async def test_a_fault_of_the_act_is_kept_and_the_next_firing_comes(deck: Deck) -> None:
    tag = {"type": "registry.tag", "version": "m@1", "tags": {"a": "b"}}
    await deck.speak(schedules.AddSchedule(name="broken", act=tag, every=3600.0))
    for hour in (1, 2):
        await deck.put(NOON + hour * 3600 + 1)
    found = deck.ruling.state.firings["broken"].firings
    assert [each.state for each in found] == ["FAILED", "FAILED"] and "got m" in found[0].why
    assert deck.alarm("broken") == pytest.approx(3.0, abs=0.01)
