"""Who is blamed when a host dies, and what a large batch may not cost."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import zmq

from quarterdeckd.http.server import Request, Response
from quarterdeckd.serving import inference, rest, status
from quarterdeckd.serving.copies import Copies
from quarterdeckd.serving.recorder import Recorder, read_segment
from quarterdeckd.serving.router import Routes
from quarterdeckd.serving.session import Loaded
from quarterdeckd.serving.status import BUSY, LOOP, Status
from quarterstore.records.deployments import Route, RoutingTable, Slot
from quarterstore.records.places import Home
from quarterstore.records.registry import Signature, Tensor

SLOW = Signature(
    inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 4)),), outputs=(Tensor(name="y", datatype="FP32", shape=()),)
)


TGKILL = {"x86_64": 234, "aarch64": 131}.get(platform.machine())


def body(rows: int = 1) -> dict[str, Any]:
    """So many rows of ones."""
    return {"inputs": [{"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": [1] * (4 * rows)}]}


def infer(endpoint: str) -> str:
    """The path of an endpoint."""
    return f"/v2/models/{endpoint}/infer"


@pytest.fixture
def entries(tmp_path: Path) -> tuple[Status, Path]:
    """A host's status, and its file as the launcher reads it."""
    path = tmp_path / "status-0"
    status.fresh(path)
    return Status(path), path


def test_the_only_slot_that_ran_is_blamed(entries: tuple[Status, Path]) -> None:
    own, path = entries
    assert status.to_blame(path) == 0 and status.running(path) == []
    own.mark(LOOP, 3)
    assert status.to_blame(path) == 3
    own.mark(LOOP, 0)
    assert status.to_blame(path) == 0


def test_of_two_slots_that_ran_none_is_blamed_unless_the_signal_says_which(entries: tuple[Status, Path]) -> None:
    """One byte for all threads blamed whoever began last: an innocent live version was rolled back."""
    own, path = entries
    own.mark(LOOP, 1)
    with own.entry() as entry:

        def other() -> None:
            own.mark(entry, 2)

        thread = threading.Thread(target=other)
        thread.start()
        ident = thread.ident
        thread.join()
        assert {each.number for each in status.running(path)} == {1, 2}
        assert status.to_blame(path) == 0
        path.with_name("status-0.fault").write_text(f"Fatal Python error\n\nCurrent thread 0x{ident:016x} (most recent")
        assert status.to_blame(path) == 2
    path.with_name("status-0.fault").write_text("Current thread 0x0000000000000001 (most recent call first):")
    assert status.to_blame(path) == 0, "it died in a thread that ran no model"


def test_reading_a_large_body_is_busy_but_nobodys_fault(entries: tuple[Status, Path]) -> None:
    own, path = entries
    with own.entry() as entry:
        own.mark(entry, 5)
        assert not status.busy(path), "a model in a thread of its own does not hold the loop"
        own.mark(entry, BUSY)
        assert status.busy(path) and status.to_blame(path) == 0
    assert not status.busy(path)


def test_more_threads_than_entries_share_the_last_one(entries: tuple[Status, Path]) -> None:
    own, _ = entries
    held = [own.entry() for _ in range(status.ENTRIES + 5)]
    numbers = [each.__enter__() for each in held]
    assert len(set(numbers)) == status.ENTRIES - 1 and LOOP not in numbers
    for each in held:
        each.__exit__(None, None, None)
    with own.entry() as entry:
        assert entry in range(1, status.ENTRIES)


def test_a_batch_is_expected_to_take_longer_than_a_row(slot: Callable[..., Slot]) -> None:
    """By the mean of a hundred single rows a batch of 100,000 went to the loop and held it for half a second."""
    made = slot("m@1")
    loaded = Loaded(Path(made.path), made.digest)
    assert loaded.expected(1) == float("inf"), "the first run is not known"
    for _ in range(100):
        loaded.took(1, 0.0001)
    assert loaded.expected(1) < 0.001 and loaded.expected(100_000) > 1.0
    for _ in range(100):
        loaded.took(1000, 0.1)
    assert loaded.expected(1) > 0.002, "by the mean a row it would be 0.1 ms, but no run was ever below 100 ms"
    loaded.took(1, 0.0001)
    assert loaded.expected(1) < 0.001


def busiest(pid: int) -> tuple[int, float]:
    """The thread of a process that has used most processor time, its first one left out, and by how many seconds."""
    used = {0: 0.0}
    for task in map(int, os.listdir(f"/proc/{pid}/task")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may end while we look
            if task != pid:
                used[task] = int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0]) / 1e9
    first, second, *_ = sorted(used, key=lambda task: -used[task])
    return first, used[first] - used[second]


@pytest.mark.skipif(TGKILL is None, reason="the number of tgkill(2) is not known for this processor")
async def test_of_two_running_versions_the_one_whose_thread_crashed_is_blamed(
    link: Any, home: Home, made: Any, tmp_path: Path
) -> None:
    """A real fatal signal in a real thread, while another version runs in another one."""
    long, short = (made.slot_of(tmp_path, name, made.loop_bytes(turns), SLOW) for name, turns in
                   (("long@1", 20_000_000), ("short@1", 20_000_001)))  # fmt: skip
    routes = tuple(
        Route(endpoint=name, epoch=1, slots=(each,), salt="s") for name, each in (("long", long), ("short", short))
    )
    state = await link.push(RoutingTable(epoch=1, routes=routes))
    (host,) = state.hosts
    async with httpx.AsyncClient(base_url=state.address, timeout=30) as client:
        first = asyncio.create_task(client.post(infer("long"), json=body()))
        path = home.serving / "status-0"
        await made.until(lambda: len(status.running(path)) == 1)
        await made.until(lambda: busiest(host.pid)[1] > 0.3)  # it is told by the processor time it has used
        second = asyncio.create_task(client.post(infer("short"), json=body()))
        await made.until(lambda: len(status.running(path)) == 2)
        thread, _ = busiest(host.pid)
        assert ctypes.CDLL(None).syscall(TGKILL, host.pid, thread, signal.SIGSEGV) == 0
        found = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(each, httpx.TransportError) for each in found)
    (crash,) = await made.until(lambda: [each for each in link.news if each.kind == "crash"])
    assert (crash.endpoint, crash.version) == ("long", "long@1"), crash


async def test_a_slow_version_holds_up_no_other_one(
    link: Any, home: Home, slot: Callable[..., Slot], made: Any, tmp_path: Path
) -> None:
    """More of its requests wait than it has threads; the other version is answered meanwhile."""
    slow = made.slot_of(tmp_path, "slow@1", made.loop_bytes(1_500_000), SLOW)
    routes = tuple(
        Route(endpoint=name, epoch=1, slots=(each,), salt="s") for name, each in (("slow", slow), ("e", slot("m@1")))
    )
    state = await link.push(RoutingTable(epoch=1, routes=routes))
    async with httpx.AsyncClient(base_url=state.address, timeout=30) as client:
        waiting = [asyncio.create_task(client.post(infer("slow"), json=body())) for _ in range(6)]
        await made.until(lambda: status.running(home.serving / "status-0"))
        answers = [await client.post(infer("e"), json=body()) for _ in range(5)]
        assert not any(each.done() for each in waiting), "the model is not slow enough for this test"
        assert {each.status_code for each in answers} == {200}
        assert {each.status_code for each in await asyncio.gather(*waiting)} == {200}


async def test_a_version_that_hangs_is_an_error_of_its_own(
    made: Any, tmp_path: Path, entries: tuple[Status, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an end to the wait its canary would have no answers at all, and hold for ever."""
    monkeypatch.setattr(inference, "RUN_WITHIN", 0.1)
    hanging = made.slot_of(tmp_path, "slow@1", made.loop_bytes(500_000), SLOW)
    routes = Routes()
    table = made.table(1, hanging)
    routes.hold(routes.load(hanging))
    routes.swap(table)
    (arm,) = routes.ways["e"].arms
    recorder = Recorder(tmp_path / "predictions", 1)
    own, path = entries
    context = zmq.Context[Any]()
    copies = Copies(context, f"ipc://{tmp_path}/shadow")
    answering = inference.Inference(routes, recorder, own, copies, lambda: None)
    request = Request("POST", "", {}, msgspec.json.encode(body()), time.perf_counter())
    found = answering.answer(rest.Infer(request, "e"), len(request.body), request.began)
    assert not isinstance(found, Response)
    answer = await found
    assert answer.status == 504 and b"no answer within 0.1 s" in answer.body
    assert (arm.requests, arm.errors) == (1, 1)
    await made.until(lambda: not status.running(path))
    recorder.tend(close=True)
    (segment,) = (tmp_path / "predictions").glob("*.done")
    assert [each.status for each in read_segment(segment)] == [504], "the late answer is nobody's"
    copies.close()
    context.term()


async def test_a_switch_during_large_batches_kills_no_host(link: Any, slot: Callable[..., Slot], made: Any) -> None:
    """A body of 2 MB holds the interpreter for longer than a laggard is given."""
    slots = {1: slot("m@1"), 0: slot("m@2", bias=7.0)}
    state = await link.push(made.table(1, slots[1]))
    rows = 100_000
    async with httpx.AsyncClient(base_url=state.address, timeout=60) as client:
        content = (await asyncio.to_thread(httpx.Request, "POST", "http://x", json=body(rows))).content
        asking = [asyncio.create_task(client.post(infer("e"), content=content)) for _ in range(6)]
        epoch = 1
        while not all(each.done() for each in asking):
            epoch += 1
            assert (await link.push(made.table(epoch, slots[epoch % 2]))).epoch == epoch
            await asyncio.sleep(0.05)
        answers = [each.result() for each in asking]
    assert {each.status_code for each in answers} == {200} and epoch > 3
    for each in answers:
        (output,) = each.json()["outputs"]
        assert output["shape"] == [rows, 2]
        expected = {"m@1": 1.0, "m@2": 8.0}[each.headers["quarterdeck-version"]]
        assert np.all(np.asarray(output["data"]) == expected)
    assert (await link.state()).hosts[0].pid == state.hosts[0].pid
    assert not [each for each in link.news if each.kind == "crash"]


async def test_a_version_that_hangs_can_be_taken_back_at_once(
    link: Any, home: Home, slot: Callable[..., Slot], made: Any, tmp_path: Path
) -> None:
    """Every thread it has is stuck; the version before answers the next request."""
    state = await link.push(made.table(1, made.slot_of(tmp_path, "slow@1", made.loop_bytes(20_000_000), SLOW)))
    async with httpx.AsyncClient(base_url=state.address, timeout=30) as client:
        stuck = [asyncio.create_task(client.post(infer("e"), json=body())) for _ in range(6)]
        await made.until(lambda: len(status.running(home.serving / "status-0")) >= 4)
        began = time.monotonic()
        assert (await link.push(made.table(2, slot("m@1")))).epoch == 2
        answer = await client.post(infer("e"), json=body())
        assert answer.status_code == 200 and answer.headers["quarterdeck-version"] == "m@1"
        assert time.monotonic() - began < 15.0  # a run of it takes twenty
        os.kill(state.hosts[0].pid, signal.SIGKILL)
        await asyncio.gather(*stuck, return_exceptions=True)
        (crash,) = await made.until(lambda: [each for each in link.news if each.kind == "crash"])
        assert crash.version == "slow@1", "it is what ran when the host died, though it has no route any more"
