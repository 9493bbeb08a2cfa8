"""F22: the daemon is killed at each step of a canary; callers notice nothing, and the canary goes on where it was."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import pytest

from quarterstore.records import deployments
from tests.faults import test_serving as serving
from tests.faults.test_serving import made, traffic

pytestmark = [pytest.mark.fault, pytest.mark.alone]
LADDER = (5, 10, 25, 50, 100)
RATE = 200


async def f22(absent: Any, report: Any, ladder: tuple[int, ...], soak: float, away: float, points: float) -> None:
    """Kill the daemon at every step that has a split, for so many seconds; `points` is how far the split may be off."""
    absent.start()
    with absent.client() as client:
        first = await asyncio.to_thread(serving.deployed, client, 0.0)
        await asyncio.to_thread(serving.until, lambda: serving.live(client, first))
        second = await asyncio.to_thread(serving.staged, client, made.model_bytes(7.0))
        address = client.ask(deployments.ShowServing()).address
        asking = traffic.Traffic(address, "small", RATE, retry=False)
        await asking.until(20)
        rule = deployments.CanaryRule(effect=0.5, least=20, soak=soak, latency=50.0)
        client.ask(deployments.StartCanary(version=second, ladder=ladder, rule=rule))
    off = []
    for step, share in enumerate(ladder[:-1]):
        before = await asyncio.to_thread(at_step, absent, step)
        absent.stop(signal.SIGKILL)
        await asking.until(int(RATE * away))
        again = time.monotonic()  # it may have begun before we hear of it
        absent.start()
        after = await asyncio.to_thread(at_step, absent, step)
        assert (after.epoch, after.canary.step) == (before.epoch, step), "it goes on where it was"
        moved = await asyncio.to_thread(left_step, absent, step)
        assert moved - again >= soak, "the soak begins anew"
        mine = [each for each in asking.answers if each.epoch == before.epoch]
        off.append(100 * sum(each.version == second for each in mine) / len(mine) - share)
    await asking.until(20)
    answers = await asking.stop()
    failed = [each for each in answers if each.status != 200]
    said = " ".join(f"{each:+.1f}" for each in off)
    report("F22", len(off), len(failed), requests=len(answers), points_off=said.replace(" ", ","))
    assert not failed
    assert max(map(abs, off)) <= points
    assert answers[-1].version == second, "at last it is live"


def shown(absent: Any) -> Any:
    with absent.client() as client:
        return client.ask(deployments.ShowDeployment(endpoint="small"))


def at_step(absent: Any, step: int) -> Any:
    """The deployment once its canary is at this step and every host answers by it."""
    deadline = time.monotonic() + 60
    while True:
        found = shown(absent)
        with absent.client() as client:
            epoch = client.ask(deployments.ShowServing()).epoch
        if found.canary is not None and found.canary.step == step and epoch >= found.epoch:
            return found
        assert time.monotonic() < deadline and (found.canary is None or found.canary.step <= step), found
        time.sleep(0.05)


def left_step(absent: Any, step: int) -> float:
    """When the canary left this step forward."""
    deadline = time.monotonic() + 90
    while (found := shown(absent)).canary is not None and found.canary.step == step:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    assert found.state in ("CANARY", "LIVE") and not found.why.startswith("rolled back"), found
    return time.monotonic()


async def test_a_canary_outlives_its_daemon_at_one_step(absent: Any, report: Any) -> None:
    await f22(absent, report, (50, 100), soak=3.0, away=3.0, points=8.0)


@pytest.mark.slow
async def test_a_canary_outlives_its_daemon_at_every_step_within_two_points(absent: Any, report: Any) -> None:
    await f22(absent, report, LADDER, soak=4.0, away=24.0, points=2.0)
