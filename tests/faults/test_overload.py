"""More is asked than can be answered: what is turned away, what those wait who are not, and hosts that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from bisect import bisect_left
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import httpx
import pytest

from quarterdeckd.serving.load import QUEUE
from quarterdeckd.serving.protocol import SERVICE, ModelInferRequest
from quarterdeckd.serving.session import THREADS
from quarterstore.records.places import Home
from tests.faults.test_serving import made, traffic

pytestmark = [pytest.mark.fault, pytest.mark.alone]
home, slot = made.home, made.slot
LOOPS = made.Signature(inputs=made.SIGNATURE.inputs, outputs=(made.Tensor(name="y", datatype="FP32", shape=(-1, 4)),))
MS = 1000
"""Turns of the loop in a model that take about a millisecond."""


def slow(folder: Any, milliseconds: int, version: str = "m@1") -> Any:
    """A version that takes its time."""
    return made.slot_of(folder, version, made.loop_bytes(milliseconds * MS), LOOPS)


@contextlib.asynccontextmanager
async def served(home: Home, hosts: int | str, *slots: Any, grpc: str | None = None) -> AsyncIterator[Any]:
    """A launcher with so many hosts on a table of one endpoint, `e`."""
    link = made.Told(home, hosts, grpc)
    await link.start()
    try:
        yield link, await link.push(made.table(1, *slots))
    finally:
        await asyncio.wait_for(link.stop(), 60)
        link.close()


async def warm(address: str, connections: int = 4, seconds: float = 2.0) -> float:
    """Answers a second that it gives at its best, to a few callers who each ask as soon as they are answered."""
    found = await offered(address, connections, 1e9, seconds)
    good = [each for each in found if each.status == 200]
    return len(good) / (max(each.done for each in good) - min(each.sent for each in good))


async def offered(address: str, connections: int, rate: float, seconds: float) -> list[Any]:
    """What came of so many requests a second."""
    asking = traffic.Traffic(address, "e", rate, connections, retry=False)
    await asyncio.sleep(seconds)  # the load that is offered
    return list(await asking.stop())


def late(answers: list[Any], share: float = 0.99) -> float:
    """The P99 of the seconds that those waited who were answered."""
    took = sorted(each.done - each.sent for each in answers if each.status == 200)
    return float(took[min(len(took) - 1, int(len(took) * share))])


async def test_a_slow_version_at_four_times_what_it_can_is_answered_within_what_its_queue_takes(
    home: Home, tmp_path: Any, report: Any
) -> None:
    """It runs in threads, and whoever is taken waits until those before it are answered: `QUEUE` of them at most, with
    four times as many callers. So the P99 is at most what `QUEUE` answers take, however loud the machine is."""
    async with served(home, 1, slow(tmp_path, 20)) as (link, state):
        capacity = await warm(state.address)
        answers = await offered(state.address, 4 * QUEUE, 4 * max(capacity, 50), 5.0)
        shed = sum(each.status == 503 for each in answers)
        await made.until(lambda: link.states[-1].hosts[0].shed >= shed)
        await made.until(lambda: link.news[-1].shed >= shed)
        counts = link.news[-1].latency
    good = [each for each in answers if each.status == 200]
    ahead = sorted(overtook(good))
    rate = len(good) / (answers[-1].done - answers[0].sent)
    report("overload in threads", len(answers), 0, shed=shed, answered=f"{rate:.0f}/s", p99=f"{late(answers):.2f} s",
           bound=f"{QUEUE / rate:.2f} s", ahead=ahead[-1], unbounded=f"{4 * QUEUE / rate:.2f} s")  # fmt: skip
    assert {each.status for each in answers} == {200, 503} and shed > len(good)
    assert ahead[int(len(ahead) * 0.99)] <= QUEUE + 2 * THREADS, "sent and done are seen by the callers, a little late"
    assert rate >= 0.5 * capacity, "turning away is cheap: what is answered stays near what can be"
    assert (counts.total_errors, counts.total_refused, counts.total_shed) == (0, 0, shed), "counted apart"


def overtook(answers: list[Any]) -> list[int]:
    """How many others were answered while each of them waited."""
    done = sorted(each.done for each in answers)
    return [bisect_left(done, each.done) - bisect_left(done, each.sent) for each in answers]


async def test_a_quick_version_at_more_than_it_can_turns_the_rest_away_cheaply(
    home: Home, tmp_path: Any, report: Any
) -> None:
    """It runs on the loop, where what waits is only seen turn by turn; that the wait is two turns at most is shown in
    tests/serving/test_load.py, since 400 callers in one process are slow themselves."""
    async with served(home, 1, slow(tmp_path, 1)) as (_, state):
        capacity = await warm(state.address)
        answers = await offered(state.address, 400, 1e9, 4.0)
    shed = sum(each.status == 503 for each in answers)
    rate = (len(answers) - shed) / (answers[-1].done - answers[0].sent)
    report("overload on the loop", len(answers), 0, capacity=f"{capacity:.0f}/s", shed=shed,
           answered=f"{rate:.0f}/s", p99=f"{late(answers):.2f} s")  # fmt: skip
    assert {each.status for each in answers} == {200, 503}
    assert rate >= 0.25 * capacity, "turning away is cheap, though the callers take as much of the machine"
    assert late(answers) < 2.0, "nobody waits to be let in: with one connection a turn it was as long as this went on"


async def test_whoever_is_turned_away_is_told_when_to_come_back_at_every_door(home: Home, tmp_path: Any) -> None:
    async with served(home, 1, slow(tmp_path, 200), grpc="127.0.0.1:0") as (_, state):
        limits = httpx.Limits(max_connections=QUEUE + 60)
        async with httpx.AsyncClient(base_url=state.address, timeout=60, limits=limits) as client:
            first = await client.post("/v2/models/e/infer", json=traffic.BODY)
            assert first.status_code == 200
            full = [
                asyncio.create_task(client.post("/v2/models/e/infer", json=traffic.BODY)) for _ in range(QUEUE + 10)
            ]
            done, waiting = await asyncio.wait(full, return_when=asyncio.FIRST_COMPLETED)
            rest = next(each.result() for each in done if each.result().status_code == 503)
            plain = await client.post("/v1/predict/e", json={"rows": [{"x": [1, 1, 1, 1]}]})
            async with grpc.aio.insecure_channel(state.grpc) as channel:
                asked = ModelInferRequest(model_name="e")
                asked.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend([1.0] * 4)
                with pytest.raises(grpc.aio.AioRpcError) as told:
                    await channel.unary_unary(f"/{SERVICE}/ModelInfer")(asked.SerializeToString())
            for each in waiting:
                each.cancel()
    for answer in (rest, plain):
        assert answer.status_code == 503, answer.text
        words = f"load: got more requests than are answered in time, expected at most {QUEUE} that wait"
        assert answer.json()["error"] == words
        assert 1 <= int(answer.headers["retry-after"]) <= QUEUE * 0.2 * 4 / THREADS
    assert told.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(told.value.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1000


async def test_a_version_that_is_swamped_takes_no_room_from_another_endpoint(home: Home, tmp_path: Any) -> None:
    link = made.Told(home)
    await link.start()
    quick = made.slot_of(tmp_path, "n@1", made.model_bytes(), made.SIGNATURE)
    whole = made.table(1, slow(tmp_path, 20))
    other = made.Route(endpoint="o", epoch=1, slots=(quick,), salt="s")
    state = await link.push(made.RoutingTable(epoch=1, routes=(*whole.routes, other)))
    try:
        swamped = traffic.Traffic(state.address, "e", 600, 200, retry=False)
        await swamped.until(200)
        asking = traffic.Traffic(state.address, "o", 50, 4, retry=False)
        await asking.until(100)
        answers = await asking.stop()
        assert 503 in {each.status for each in await swamped.stop()}
    finally:
        await asyncio.wait_for(link.stop(), 60)
        link.close()
    assert {each.status for each in answers} == {200}


async def test_another_host_comes_with_the_load_within_seconds(home: Home, tmp_path: Any, report: Any) -> None:
    async with served(home, "1:2", slow(tmp_path, 20)) as (link, state):
        assert (state.least, state.most, state.wanted) == (1, 2, 1)
        asking = traffic.Traffic(state.address, "e", 30, 100, retry=False)
        await asking.until(30)
        began = time.monotonic()
        more = traffic.Traffic(state.address, "e", 2000, 150, retry=False)
        await made.until(lambda: link.states[-1].wanted == 2, 15)
        took = time.monotonic() - began
        await made.until(lambda: sum(each.ready for each in link.states[-1].hosts) == 2, 20)
        up = time.monotonic() - began
        # they keep their connections, and all of them were the first host's
        await made.until(lambda: min(each.requests for each in link.states[-1].hosts) > 100, 20)
        answers = [*await more.stop(), *await asking.stop()]
    report("hosts follow load", 1, 0, decided=f"{took:.1f} s", answering=f"{up:.1f} s", why=link.states[-1].why)
    assert link.states[-1].why.startswith("2 hosts: ")
    assert {each.status for each in answers} <= {200, 503}, "a connection that is shared out fails no call"


def gone(link: Any, pid: int) -> bool:
    """Whether this host is none of the launcher's any more."""
    return pid not in {each.pid for each in link.states[-1].hosts}


async def test_a_host_that_is_told_to_leave_fails_nothing(home: Home, tmp_path: Any, report: Any) -> None:
    """200 requests a second over kept-alive connections, each of which is answered once more and told to close."""
    link = made.Told(home, 2)
    await link.start()
    state = await link.push(made.table(1, made.slot_of(tmp_path, "m@1", made.model_bytes(), made.SIGNATURE)))
    try:
        await made.until(lambda: sum(each.ready for each in link.states[-1].hosts) == 2)
        asking = traffic.Traffic(state.address, "e", 200, 16, retry=False)
        for _ in range(3):
            await made.until(lambda: sum(each.ready for each in link.states[-1].hosts) == 2)
            await asking.until(100)
            victim = link.states[-1].hosts[0].pid
            os.kill(victim, signal.SIGUSR1)
            await made.until(partial(gone, link, victim), 20)
        await asking.until(100)
        answers = await asking.stop()
    finally:
        await asyncio.wait_for(link.stop(), 60)
        link.close()
    failed = [each for each in answers if each.status != 200]
    report("hosts that leave", 3, len(failed), requests=len(answers))
    assert not failed
