"""The daemon dies, hangs or comes back under a console that is looking at it."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from quarterstore.records import runs


def back(absent: Any, how: signal.Signals) -> None:
    """What stood still goes on, what was killed is started again."""
    if how == signal.SIGSTOP:
        absent.send(signal.SIGCONT)
    else:
        absent.process.wait(20)
        absent.start()


@pytest.mark.fault
@pytest.mark.alone
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_lost_daemon_is_said_within_two_seconds_and_found_again(
    absent: Any, made: Any, console: Any, how: signal.Signals
) -> None:
    """The last data stays, marked stale; no key is needed for it to come back, and what happened meanwhile is there."""
    absent.start()
    with absent.client() as owner:
        owner.ask(runs.StartRun(experiment="churn", name="before"))
    async with console(absent.home).run_test(size=(80, 24)) as pilot:
        await made.gone_to(pilot, "2", "runs")
        await made.shown(pilot, "before")
        took: list[float] = []
        while not took or (took[-1] >= 2.0 and len(took) < 3):  # a machine that stood still meanwhile is no lateness
            if took:
                back(absent, how)
                await made.until(pilot, lambda: "daemon lost" not in made.text(pilot), "the daemon")
            began = time.monotonic()
            absent.send(how)
            found = await made.shown(pilot, "daemon lost")
            took.append(time.monotonic() - began)
        print(f"banner after {how.name}: {took[-1]:.2f} s")
        assert took[-1] < 2.0, took
        assert "STALE" in found and "before" in found
        await pilot.press("3", "r", "2", "r")
        await made.shown(pilot, "before")
        back(absent, how)
        await made.until(pilot, lambda: "daemon lost" not in made.text(pilot), "the daemon")
        with absent.client() as owner:
            owner.ask(runs.StartRun(experiment="churn", name="after"))
        await made.shown(pilot, "after")
