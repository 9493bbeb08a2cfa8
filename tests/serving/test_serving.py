"""Serving with real processes, sockets and models."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from quarterdeckd.serving.recorder import columns, read_segment
from quarterdeckd.work.serving_link import ServingLink
from quarterstore.records.deployments import Slot
from quarterstore.records.places import Home

_spec = importlib.util.spec_from_file_location("serving_conftest", Path(__file__).parent / "conftest.py")
assert _spec and _spec.loader
_made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_made)
table = _made.table

ROW = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}
INFER = "/v2/models/e/infer"


async def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something itself, with a deadline."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.02)


async def test_a_prediction_is_answered_with_its_version_and_recorded(
    link: ServingLink, home: Home, slot: Callable[..., Slot]
) -> None:
    """The whole way: routes pushed, asked over HTTP, the frame on disk."""
    state = await link.push(table(1, slot("m@1")))
    assert state.epoch == 1 and state.address
    async with httpx.AsyncClient(base_url=state.address, timeout=30) as client:
        answer = await client.post(INFER, json={"inputs": [ROW]})
        nested = await client.post(INFER, json={"inputs": [{**ROW, "data": [[1, 1, 1, 1]]}]})
    assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [1.0, 1.0]
    assert nested.json()["outputs"] == answer.json()["outputs"]
    assert answer.headers["quarterdeck-version"] == answer.json()["model_version"] == "m@1"
    assert (answer.headers["quarterdeck-epoch"], answer.headers["quarterdeck-arm"]) == ("1", "live")
    spool = home.serving / "predictions"
    await until(lambda: bool(list(spool.glob("*.done"))))
    frames = [frame for path in sorted(spool.glob("*.done")) for frame in read_segment(path)]
    assert frames[0].id == answer.headers["quarterdeck-prediction"]
    assert columns(frames)["f3"] == [1.0, 1.0]


async def test_bad_requests_are_told_what_was_expected_and_never_counted_against_the_version(
    link: ServingLink, slot: Callable[..., Slot]
) -> None:
    """4xx naming the input; no 500, no traceback, no path."""
    state = await link.push(table(1, slot("m@1")))
    bad: list[tuple[str, bytes | dict[str, object], str]] = [
        (INFER, b"{", "JSON"),
        (INFER, b'{"inputs":' + b"[" * 100_000, "JSON"),
        (INFER, {"inputs": []}, "x"),
        (INFER, {"inputs": [{**ROW, "name": "q"}]}, "q"),
        (INFER, {"inputs": [{**ROW, "shape": [1, 5]}]}, "inputs.x.shape"),
        (INFER, {"inputs": [{**ROW, "shape": [0, 4], "data": []}]}, "inputs.x.shape"),
        (INFER, {"inputs": [{**ROW, "datatype": "INT64"}]}, "FP32"),
        (INFER, {"inputs": [{**ROW, "data": [1, 2]}]}, "inputs.x.data"),
        (INFER, {"inputs": [{**ROW, "data": ["a", "b", "c", "d"]}]}, "inputs.x.data"),
        (INFER, {"inputs": [{**ROW, "data": [1e300, 0, 0, 0]}]}, "range"),
        (INFER, {"inputs": [{**ROW, "data": [None, 0, 0, 0]}]}, "inputs.x.data"),
        (INFER, {"inputs": [ROW], "outputs": [{"name": "nope"}]}, "nope"),
        ("/v2/models/ee/infer", {"inputs": [ROW]}, "nearest: e"),
    ]
    async with httpx.AsyncClient(base_url=state.address or "", timeout=30) as client:
        for path, body, word in bad:
            content = {"content": body} if isinstance(body, bytes) else {"json": body}
            answer = await client.post(path, **content)
            assert 400 <= answer.status_code < 500, answer.text
            words = answer.json()["error"]
            assert word in words and not re.search(r"Traceback|\.py|/tmp|/home", words), words
        assert (await client.get(INFER)).status_code == 405
        assert (await client.post(INFER, json={"inputs": [ROW]})).status_code == 200
    await until(lambda: any(each.counts for each in link.news if each.counts and each.counts["m@1"].requests))
    assert link.news[-1].counts["m@1"].errors == 0


async def test_an_answer_that_is_not_finite_is_the_models_error(link: ServingLink, slot: Callable[..., Slot]) -> None:
    """It is what a canary is rolled back for."""
    state = await link.push(table(1, slot("m@1", operator="Log")))
    async with httpx.AsyncClient(base_url=state.address or "", timeout=30) as client:
        answer = await client.post(INFER, json={"inputs": [{**ROW, "data": [-1, -1, -1, -1]}]})
    assert answer.status_code == 500 and answer.json()["error"] == "the model's answer is not finite"
    await until(lambda: any(each.latency and each.latency.total_errors == 1 for each in link.news))


async def test_what_was_answered_before_a_switch_is_told_however_soon_it_comes(
    link: ServingLink, slot: Callable[..., Slot]
) -> None:
    """Seven requests an epoch, four epochs within a second or so: each is in the seconds that are told."""
    slots = {1: slot("m@1"), 0: slot("m@2", bias=7.0)}
    for epoch in range(1, 5):
        state = await link.push(table(epoch, slots[epoch % 2]))
        async with httpx.AsyncClient(base_url=state.address or "", timeout=30) as client:
            for _ in range(7):
                assert (await client.post(INFER, json={"inputs": [ROW]})).status_code == 200

    def told() -> dict[int, int]:
        counted: dict[int, int] = {}
        for each in link.news:
            if each.latency is not None:
                counted[each.epoch] = counted.get(each.epoch, 0) + each.latency.requests
        return counted

    await until(lambda: told() == dict.fromkeys(range(1, 5), 7))


async def test_a_switch_under_load_fails_nothing_and_never_mixes_versions(
    link: ServingLink, slot: Callable[..., Slot]
) -> None:
    """Odd epochs serve m@1 (answer 1), even ones m@2 (answer 8): version, epoch and answer agree on each reply."""
    slots = {1: slot("m@1"), 0: slot("m@2", bias=7.0)}
    state = await link.push(table(1, slots[1]))
    seen: set[str] = set()
    done = asyncio.Event()

    async def ask(client: httpx.AsyncClient) -> None:
        while not done.is_set():
            answer = await client.post(INFER, json={"inputs": [ROW]})
            assert answer.status_code == 200
            epoch, version = int(answer.headers["quarterdeck-epoch"]), answer.headers["quarterdeck-version"]
            expected = ("m@1", 1.0) if epoch % 2 else ("m@2", 8.0)
            assert (version, answer.json()["outputs"][0]["data"][0]) == expected
            seen.add(version)

    async with httpx.AsyncClient(base_url=state.address or "", timeout=30) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(3)]
        for epoch in range(2, 16):
            assert (await link.push(table(epoch, slots[epoch % 2]))).epoch == epoch
            await client.get("/v2/health/live")
        done.set()
        await asyncio.gather(*asking)
    assert seen == {"m@1", "m@2"}


async def test_a_killed_host_is_replaced_on_the_same_routes_and_port(
    link: ServingLink, slot: Callable[..., Slot]
) -> None:
    """SIGKILL under the launcher's hands; the listener stays, so callers wait instead of being refused."""
    state = await link.push(table(1, slot("m@1")))
    os.kill(state.hosts[0].pid, signal.SIGKILL)
    async with httpx.AsyncClient(base_url=state.address or "", timeout=15) as client:

        async def again() -> int:
            try:
                return (await client.post(INFER, json={"inputs": [ROW]})).status_code
            except httpx.TransportError:
                return 0

        deadline = time.monotonic() + 40
        while await again() != 200:
            assert time.monotonic() < deadline
    await until(lambda: any(each.kind == "crash" for each in link.news))


async def test_a_launcher_that_was_killed_comes_back_on_its_port_with_its_routes(
    link: ServingLink, home: Home, slot: Callable[..., Slot]
) -> None:
    """No daemon is needed: the routes lie on disk; the orphaned hosts let go of the port."""
    state = await link.push(table(3, slot("m@1")))
    assert state.launcher
    os.kill(state.launcher, signal.SIGKILL)
    await until(lambda: not link.alive())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "quarterdeckd.serving.launcher", "--home", str(home.root)
    )
    async with httpx.AsyncClient(base_url=state.address or "", timeout=15) as client:
        deadline = time.monotonic() + 40
        while True:
            try:
                answer = await client.post(INFER, json={"inputs": [ROW]})
                if answer.status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    assert answer.headers["quarterdeck-epoch"] == "3"
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 20) == 0


@pytest.mark.parametrize("module", ["quarterdeckd.serving.launcher", "quarterdeckd.work.serving_link"])
async def test_the_launcher_and_the_link_load_no_model_library(module: str) -> None:
    """They live beside the daemon, which has to stay small."""
    words = f"import sys, {module}; sys.exit(bool({{'onnxruntime', 'numpy'}} & sys.modules.keys()))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", words)
    assert await process.wait() == 0
