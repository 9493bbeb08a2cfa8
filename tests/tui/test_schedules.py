"""The Schedules screen on a real daemon: what is due, what came of it, pause and maintenance by their keys."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len

from quarterdeck.tui.keymap import SCREENS
from quarterdeck.tui.screens.schedules import outcome, schedule_card
from quarterstore.records import experiments, runs, schedules
from quarterstore.records.names import drawn
from quarterstore.records.schedules import Calendar, Happening
from tests.tui.hostile import ODD

SIZES = ((80, 24), (160, 48))
START = msgspec.to_builtins(runs.StartRun(experiment="clock", beats=False))


@pytest.fixture(scope="module")
def clocked(daemon: Any) -> Any:
    """A home with a schedule of each kind; one has failed, one fired, one is paused."""
    stale = msgspec.to_builtins(experiments.CreateExperiment(name="clock"))  # which is there already
    with daemon.client() as owner:
        owner.ask(experiments.CreateExperiment(name="clock"))
        for name, act, about in (
            ("nightly", stale, {"cron": "30 2 * * *", "zone": "Europe/Berlin", "overlap": "queue"}),
            ("broken", stale, {"every": 3600.0}),
            ("pulse", START, {"every": 1.0}),
            ("month-end", stale, {"calendar": Calendar(time="18:00", each="month", day="last weekday")}),
            ("on-version", stale, {"on": Happening(event="registry.version_registered")}),
        ):
            owner.ask(schedules.AddSchedule(name=name, act=act, **about))
        owner.ask(schedules.AddSchedule(name="broken", act=stale, every=1.0))
        deadline = time.monotonic() + 20
        while not {"broken", "pulse"} <= {each.schedule for each in owner.ask(schedules.ListFirings())}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        owner.ask(schedules.PauseSchedule(name="pulse"))
        owner.ask(schedules.PauseSchedule(name="broken"))
    return daemon


@pytest.mark.parametrize("size", SIZES)
async def test_what_failed_stands_first_and_a_card_has_both_clocks(
    clocked: Any, made: Any, console: Any, size: tuple[int, int]
) -> None:
    app = console(clocked.home)
    async with app.run_test(size=size) as pilot:
        screen = await made.gone_to(pilot, "0", "schedules")
        await made.shown(pilot, "clock is there already")
        assert next(iter(screen.records)) == "broken"
        await pilot.press("j")
        await made.shown(pilot, "02:30:00 CE")
        found = await made.shown(pilot, "waits for its job")
        assert "01:30:00 UTC" in found or "00:30:00 UTC" in found
        if folder := os.environ.get("UPDATE_SCREENS"):
            app.save_screenshot(str(Path(folder) / f"schedules-{size[0]}.svg")) if folder != "1" else None
        assert {cell_len(line) for line in made.lines(pilot)} == {size[0]}


async def test_p_pauses_and_resumes_what_is_under_the_cursor(clocked: Any, made: Any, console: Any) -> None:
    def paused() -> bool:
        with clocked.client() as owner:
            found = {each.name: each for each in owner.ask(schedules.ListSchedules())}
            return bool(found["nightly"].paused)

    async with console(clocked.home).run_test(size=(120, 40)) as pilot:
        await made.gone_to(pilot, "0", "schedules")
        await pilot.press("j", "p")
        await made.shown(pilot, "$ qd pause nightly")
        await pilot.press("escape")
        assert not paused()
        await pilot.press("p")
        await made.shown(pilot, "enter pauses it")
        await pilot.press("enter")
        await made.until(pilot, paused, "the pause")
        await pilot.press("slash", *"nightly", "enter", "p")
        await made.shown(pilot, "$ qd resume nightly")
        await pilot.press("enter")
        await made.until(pilot, lambda: not paused(), "the resume")


@pytest.mark.parametrize("size", SIZES)
async def test_maintenance_is_said_on_every_screen_until_it_is_over(
    clocked: Any, made: Any, console: Any, size: tuple[int, int]
) -> None:
    app = console(clocked.home)
    async with app.run_test(size=size) as pilot:
        await made.gone_to(pilot, "0", "schedules")
        await pilot.press("m")
        await made.shown(pilot, "for how long and why")
        await pilot.press(*"2h", "space", *"disk", "enter")
        await made.shown(pilot, "‖ maintenance until")
        for key, name in SCREENS:
            await made.gone_to(pilot, key, name)
            found = await made.shown(pilot, "‖ maintenance until")
            assert ": disk · nothing fires" in found
            assert len(made.lines(pilot)) == size[1]
            if (folder := os.environ.get("UPDATE_SCREENS")) and folder != "1":
                app.save_screenshot(str(Path(folder) / f"held-{name}-{size[0]}.svg"))
        await made.gone_to(pilot, "0", "schedules")
        await pilot.press("m")
        await made.shown(pilot, "$ qd resume --all")
        await pilot.press("enter")
        await made.until(pilot, lambda: "‖ maintenance" not in made.text(pilot), "the end of it")


@pytest.mark.parametrize("width", [40, 78, 120])
def test_a_card_draws_hostile_names_as_words(width: int) -> None:
    for odd in ODD:
        schedule = schedules.Schedule(
            odd, {"type": odd, odd: odd}, 1.0, odd, cron=odd, zone=odd, last_error=odd, missed_count=3
        )
        firing = schedules.Firing(odd, odd, 1.0, 2.0, "FAILED", why=odd, jobs=(odd,), ended=odd)  # type: ignore[arg-type]
        due = schedules.DueTime(at=1.0, local=odd, utc=odd)
        card = schedule_card(schedule, [due], [firing], 100.0, width)
        assert all(drawn(line) == line for line in card.plain.split("\n"))
        assert drawn(outcome(firing).plain) == outcome(firing).plain
