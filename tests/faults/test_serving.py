"""F24 and the rollback promise: hosts die, versions go back, and callers at 200 requests a second do not notice."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from quarterdeckd.work.serving_link import ServingLink
from quarterstore.records import deployments, registry
from quarterstore.records.deployments import ServingState
from quarterstore.records.places import Home

pytestmark = [pytest.mark.fault, pytest.mark.alone]


def _of_serving(name: str) -> Any:
    """A module of tests/serving, which is no package."""
    path = Path(__file__).parent.parent / "serving" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"serving_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


made = _of_serving("conftest")
traffic = _of_serving("traffic")
home, slot = made.home, made.slot


class Watched:
    """A launcher with two hosts, and what it says of them."""

    def __init__(self, home: Home) -> None:
        self.link = ServingLink(home, lambda news: None, None, 2)
        self.link.on_state = self._take
        self.state: ServingState | None = None
        self._came = asyncio.Event()

    def _take(self, state: ServingState) -> None:
        self.state = state
        self._came.set()

    async def whole(self, without: int = 0) -> ServingState:
        """Wait until two hosts answer, none of them with this pid."""
        deadline = time.monotonic() + 20
        while True:
            state = self.state
            if state is not None and len([each for each in state.hosts if each.ready and each.pid != without]) == 2:
                return state
            self._came.clear()
            await asyncio.wait_for(self._came.wait(), deadline - time.monotonic())


@pytest.fixture
async def watched(home: Home) -> AsyncIterator[Watched]:
    """Two hosts."""
    found = Watched(home)
    await found.link.start()
    yield found
    await asyncio.wait_for(found.link.stop(), 20)
    found.link.close()


async def killed(watched: Watched, chance: random.Random, asking: Any) -> float:
    """SIGKILL one of the two hosts at a random moment; answers the seconds until two answer again, having checked that
    nothing broke but what was on its way to the victim."""
    state = await watched.whole()
    victim = chance.choice(state.hosts).pid
    await asyncio.sleep(chance.uniform(0.05, 0.4))
    before = len(asking.answers)
    began = time.monotonic()
    pidfd = os.pidfd_open(victim)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(pidfd, gone.set)
    os.kill(victim, signal.SIGKILL)
    await asyncio.wait_for(gone.wait(), 5)
    died = time.monotonic()
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)
    await watched.whole(without=victim)
    took = time.monotonic() - began
    await asking.until(20)
    broken = [each for each in asking.answers[before:] if each.status != 200]
    assert len(broken) <= 8, broken
    for each in broken:
        assert each.host == victim, "a connection to the other host broke"
        assert each.sent <= died <= each.done + 0.05, "it was not on its way to the victim when that died"
    return took


async def f24(watched: Watched, make: Any, kills: int, seed: int) -> None:
    """Kill hosts under 200 requests a second; print and check what came of it."""
    state = await watched.link.start() or await watched.link.push(made.table(1, make("m@1")))
    await watched.whole()
    chance = random.Random(seed)
    asking = traffic.Traffic(state.address, "e", retry=True)
    await asking.until(100)
    took = [await killed(watched, chance, asking) for _ in range(kills)]
    answers = await asking.stop()
    broken = [each for each in answers if each.status != 200]
    lost = [each for each in broken if each.retried]
    rate = len(broken) / max(1, len(answers))
    print(
        f"F24: N={kills} failures={len(broken)} after one retry={len(lost)} of {len(answers)} ({rate:.3%}) "
        f"full again after max {max(took):.2f} s seed={seed}"
    )
    assert not lost
    assert max(took) <= 3.0


async def test_a_host_killed_under_load_costs_only_what_was_on_its_way_to_it(watched: Watched, slot: Any) -> None:
    """One retry hides it altogether; two hosts answer again within three seconds."""
    await f24(watched, slot, kills=5, seed=24)


@pytest.mark.slow
async def test_twenty_hosts_killed_one_after_the_other_cost_no_more_each(watched: Watched, slot: Any) -> None:
    """More than three a minute: hosts that had answered are replaced without a pause."""
    await f24(watched, slot, kills=20, seed=int(time.time()))


def deployed(client: Any, bias: float) -> str:
    """A version of `small` that took all traffic."""
    data = made.model_bytes(bias)
    digest, size = client.put(data)
    act = registry.RegisterVersion(
        model="small", digest=digest, size=size, format="onnx", signature=made.SIGNATURE, bump="major"
    )
    version = client.ask(act).id
    assert digest == hashlib.sha256(data).hexdigest()
    for stage in ("Staging", "Production"):
        client.ask(registry.MoveStage(version=version, stage=stage, reason="a test"))
    client.ask(deployments.Deploy(version=version))
    return str(version)


def until(true: Any, seconds: float = 20.0) -> None:
    """Wait for something the daemon does by itself."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def live(client: Any, version: str) -> bool:
    """Whether a version is live and every host acknowledged it."""
    found = {each.endpoint: each for each in client.ask(deployments.ListDeployments())}.get("small")
    serving = client.ask(deployments.ShowServing())
    return found is not None and found.live == version and serving.epoch >= found.epoch


async def test_a_rollback_under_load_fails_nothing_and_the_version_is_gone_at_once(absent: Any) -> None:
    """From the act being sent to the last answer of the version that was taken back: the promise is 200 ms."""
    absent.start()
    with absent.client() as client:
        first = await asyncio.to_thread(deployed, client, 0.0)
        await asyncio.to_thread(until, lambda: live(client, first))
        second = await asyncio.to_thread(deployed, client, 7.0)
        await asyncio.to_thread(until, lambda: live(client, second))
        address = client.ask(deployments.ShowServing()).address
        asking = traffic.Traffic(address, "small", retry=False)
        await asking.until(200)
        sent = time.monotonic()
        await asyncio.to_thread(client.ask, deployments.RollBack(endpoint="small", reason="a test"))
        answered = time.monotonic()
        await asking.until(400)
        answers = await asking.stop()
    assert {each.status for each in answers} == {200}
    last = max(each.done for each in answers if each.version == second)
    after = [each for each in answers if each.sent > last]
    assert len(after) > 200 and {each.version for each in after} == {first}
    print(
        f"rollback: last answer of {second} {(last - sent) * 1000:.0f} ms after the act was sent "
        f"(act answered after {(answered - sent) * 1000:.0f} ms), {len(answers)} answers, 0 failed"
    )
