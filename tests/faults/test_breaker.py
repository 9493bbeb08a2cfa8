"""Three deaths of hosts in a minute: what they have in common is taken out of traffic, and everything else goes on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeckd.serving import status
from quarterstore.records import deployments
from quarterstore.records.deployments import Route, RoutingTable
from quarterstore.records.places import Home
from tests.faults import test_serving as serving
from tests.faults.test_serving import made, traffic

pytestmark = pytest.mark.fault
home, link = made.home, made.link
LOOPS = made.Signature(inputs=made.SIGNATURE.inputs, outputs=(made.Tensor(name="y", datatype="FP32", shape=(-1, 4)),))
LONG = 1_000_000
"""Turns of a loop that take a second or more: long enough to be killed in."""


def two(epoch: int, bad: Any, good: Any) -> RoutingTable:
    """`e` is served by what hosts die of, `o` by what they do not; the former was changed last."""
    routes = (
        Route(endpoint="e", epoch=epoch, slots=(bad,), salt="s"),
        Route(endpoint="o", epoch=1, slots=(good,), salt="s"),
    )
    return RoutingTable(epoch=epoch, routes=routes)


async def ask(client: httpx.AsyncClient, endpoint: str) -> httpx.Response:
    return await client.post(f"/v2/models/{endpoint}/infer", json=traffic.BODY)


async def killed_in(link: Any, home: Home, address: str, endpoints: tuple[str, ...]) -> None:
    """Ask, wait until as many slots run as endpoints were asked, and kill the host as the memory killer does."""
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        asking = [asyncio.create_task(ask(client, endpoint)) for endpoint in endpoints]

        def all_run() -> bool:
            return len({each.number for each in status.running(home.serving / "status-0")}) == len(endpoints)

        await made.until(all_run)
        victim = link.states[-1].hosts[0].pid
        os.kill(victim, signal.SIGKILL)
        for each in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(each, httpx.TransportError), "it was answered"
    await made.until(lambda: any(each.ready and each.pid != victim for each in link.states[-1].hosts), 20)


async def test_a_version_that_kills_three_hosts_is_out_and_another_endpoint_goes_on(
    link: Any, home: Home, tmp_path: Path
) -> None:
    """There is nothing behind it: its callers are told when to come back, and no host dies any more."""
    bad = made.slot_of(tmp_path, "m@1", made.loop_bytes(LONG), LOOPS)
    good = made.slot_of(tmp_path, "n@1", made.model_bytes(), made.SIGNATURE)
    state = await link.push(two(2, bad, good))
    for _ in range(3):
        await killed_in(link, home, state.address, ("e",))
    (news,) = [each for each in link.news if each.kind == "breaker"]
    assert (news.endpoint, news.version) == ("e", "m@1")
    await made.until(lambda: link.states[-1].out == ("e: m@1",) and link.states[-1].hosts[0].ready)
    async with httpx.AsyncClient(base_url=state.address, timeout=30) as client:
        refused, answered = await ask(client, "e"), await ask(client, "o")
        looked = await client.get("/v2/models/e")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert refused.json() == {"error": "model: m@1 is out of traffic for a while: hosts died of it"}
        assert answered.status_code == 200 and looked.status_code == 503
        other = made.slot_of(tmp_path, "m@2", made.model_bytes(), made.SIGNATURE)
        assert (await link.push(two(3, other, good))).out == (), "another version closes it"
        assert (await ask(client, "e")).status_code == 200


async def test_where_it_cannot_be_told_what_was_changed_last_is_out(link: Any, home: Home, tmp_path: Path) -> None:
    """Both were running whenever a host was killed."""
    bad = made.slot_of(tmp_path, "m@1", made.loop_bytes(LONG), LOOPS)
    same = made.slot_of(tmp_path, "n@1", made.loop_bytes(LONG + 1), LOOPS)
    state = await link.push(two(2, bad, same))
    for _ in range(3):
        await killed_in(link, home, state.address, ("e", "o"))
    assert [(each.endpoint, each.version) for each in link.news if each.kind == "breaker"] == [("e", "m@1")]
    assert {(each.endpoint, each.version) for each in link.news if each.kind == "crash"} == {("", "")}


async def test_hosts_that_somebody_else_kills_open_nothing(link: Any, home: Home, tmp_path: Path) -> None:
    good = made.slot_of(tmp_path, "n@1", made.model_bytes(), made.SIGNATURE)
    state = await link.push(two(2, good, good))
    for _ in range(4):
        victim = link.states[-1].hosts[0].pid
        os.kill(victim, signal.SIGKILL)

        def replaced(victim: int = victim) -> bool:
            return any(each.ready and each.pid != victim for each in link.states[-1].hosts)

        await made.until(replaced, 20)
    assert link.states[-1].out == () and not [each for each in link.news if each.kind == "breaker"]
    async with httpx.AsyncClient(base_url=state.address, timeout=30) as client:
        assert (await ask(client, "e")).status_code == 200


async def test_a_canary_that_is_suspected_three_times_is_taken_back_and_the_last_good_version_serves(
    absent: Any,
) -> None:
    """Live version and candidate were running each time, so no single death tells; the candidate came last."""
    absent.start()
    with absent.client() as client:
        first = await asyncio.to_thread(serving.deployed, client, 0.0, made.loop_bytes(LONG), LOOPS)
        await asyncio.to_thread(serving.until, lambda: serving.live(client, first), 60)
        second = await asyncio.to_thread(serving.staged, client, made.loop_bytes(LONG + 1), LOOPS)
        client.ask(deployments.StartCanary(version=second, ladder=(50, 100)))

        def begun() -> bool:
            found = client.ask(deployments.ShowDeployment(endpoint="small"))
            return found.canary is not None and client.ask(deployments.ShowServing()).epoch >= found.epoch

        await asyncio.to_thread(serving.until, begun, 60)
        address = client.ask(deployments.ShowServing()).address
        file = absent.home.serving / "status-0"
        for _ in range(3):
            async with httpx.AsyncClient(base_url=address, timeout=60) as asked:
                asking = [
                    asyncio.create_task(asked.post(f"/v2/models/small/versions/{each}/infer", json=traffic.BODY))
                    for each in (first, second)
                ]
                await made.until(lambda: len({each.number for each in status.running(file)}) == 2)
                host = client.ask(deployments.ShowServing()).hosts[0].pid
                os.kill(host, signal.SIGKILL)
                await asyncio.gather(*asking, return_exceptions=True)
            await asyncio.to_thread(serving.until, partial(serving.replaced, client, host))
        await asyncio.to_thread(
            serving.until, lambda: client.ask(deployments.ShowDeployment(endpoint="small")).canary is None
        )
        (alert,) = serving.told_of(client, "breaker open")
        assert alert.subject == f"small/{second}" and "out of traffic" in alert.words
        assert serving.told_of(client, "hosts die")
        await asyncio.to_thread(serving.until, lambda: serving.live(client, first))
    said = json.loads(absent.qd("--json", "serving", "status").stdout)
    assert said["out"] == [] and said["hosts"][0]["ready"], "taken back, so that there is nothing to keep out"
