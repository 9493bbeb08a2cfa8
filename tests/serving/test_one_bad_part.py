"""What one broken part may take with it: itself, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from onnx import TensorProto, helper

from quarterdeckd.serving.session import Loaded
from quarterdeckd.work.serving_link import ServingLink
from quarterstore.records.deployments import Route, RoutingTable, Slot
from quarterstore.records.faults import Fault
from quarterstore.records.places import Home
from quarterstore.records.registry import Signature, Tensor

BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


def two(epoch: int, one: Slot, other: Slot) -> RoutingTable:
    """Two endpoints, `e` and `o`."""
    routes = tuple(Route(endpoint=n, epoch=epoch, slots=(s,), salt="s") for n, s in (("e", one), ("o", other)))
    return RoutingTable(epoch=epoch, routes=routes)


async def until(found: Callable[[], bool], seconds: float = 40.0) -> bool:
    """Whether it became so in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        if found():
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_version_whose_file_is_gone_holds_back_no_other_endpoint(
    link: ServingLink, slot: Callable[..., Slot]
) -> None:
    """A rollback at one endpoint must not wait for the repair of another."""
    first, second, lost = slot("m@1"), slot("n@1", 1.0), slot("m@2", 2.0)
    await link.push(two(1, first, second))
    Path(lost.path).unlink()
    newer = slot("n@2", 3.0)
    state = await link.push(two(2, lost, newer))
    assert state.epoch < 2
    async with httpx.AsyncClient(base_url=state.address or "", timeout=30) as client:
        kept = await client.post("/v2/models/e/infer", json=BODY)
        moved = await client.post("/v2/models/o/infer", json=BODY)
    assert kept.status_code == 200
    assert (kept.headers["quarterdeck-version"], kept.headers["quarterdeck-epoch"]) == ("m@1", "1")
    assert (moved.status_code, moved.headers["quarterdeck-version"]) == (200, "n@2")


async def test_a_host_comes_back_after_the_disk_let_no_file_be_written(
    link: ServingLink, slot: Callable[..., Slot], home: Home
) -> None:
    """A launcher that gives up its watch leaves the endpoint dead for good."""
    state = await link.push(two(1, slot("m@1"), slot("n@1", 1.0)))
    status = home.serving / "status-0"
    status.unlink()
    status.mkdir()
    os.kill(state.hosts[0].pid, signal.SIGKILL)
    assert await until(lambda: "could not be started" in (home.serving / "launcher.log").read_text())
    status.rmdir()
    async with httpx.AsyncClient(base_url=state.address or "", timeout=20) as client:
        assert (await client.post("/v2/models/e/infer", json=BODY)).status_code == 200


def test_a_file_whose_outputs_are_no_tensors_is_refused_before_it_answers(tmp_path: Path) -> None:
    """A sequence or a map (ZipMap) has no datatype of the protocol."""
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    path = tmp_path / "s.onnx"
    path.write_bytes(data)
    with pytest.raises(Fault, match="y"):
        Loaded(path, hashlib.sha256(data).hexdigest())


async def test_a_host_without_routes_is_not_ready(link: ServingLink, slot: Callable[..., Slot]) -> None:
    """Ready means that a prediction can be answered."""
    lost = slot("m@2", 2.0)
    Path(lost.path).unlink()
    state = await link.push(RoutingTable(epoch=1, routes=(Route(endpoint="e", epoch=1, slots=(lost,), salt="s"),)))
    async with httpx.AsyncClient(base_url=state.address or "", timeout=30) as client:
        assert (await client.get("/v2/health/ready")).status_code == 503


async def test_a_tensor_without_dimensions_is_answered(link: ServingLink, tmp_path: Path) -> None:
    """A scalar input is a valid tensor."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    path = tmp_path / "s.onnx"
    path.write_bytes(data)
    shape = (Tensor(name="x", datatype="FP32", shape=()),), (Tensor(name="y", datatype="FP32", shape=()),)
    made = Slot("s@1", str(path), hashlib.sha256(data).hexdigest(), Signature(*shape), 100, "live")
    state = await link.push(RoutingTable(epoch=1, routes=(Route(endpoint="e", epoch=1, slots=(made,), salt="s"),)))
    body = {"inputs": [{"name": "x", "shape": [], "datatype": "FP32", "data": [2.5]}]}
    async with httpx.AsyncClient(base_url=state.address or "", timeout=30) as client:
        answer = await client.post("/v2/models/e/infer", json=body)
    assert (answer.status_code, answer.json().get("outputs", [{}])[0].get("data")) == (200, [2.5])


async def test_a_rollback_does_not_wait_for_a_file_that_another_endpoint_loads(
    link: ServingLink, slot: Callable[..., Slot]
) -> None:
    """The file is a pipe that nobody writes: it loads for ever, as a large one does on a slow disk."""
    first, second, other = slot("m@1"), slot("m@2", 7.0), slot("n@1", 1.0)
    state = await link.push(two(1, second, other))
    endless = slot("n@2", 3.0)
    Path(endless.path).unlink()
    os.mkfifo(endless.path)
    async with httpx.AsyncClient(base_url=state.address or "", timeout=30) as client:

        async def answering(endpoint: str) -> str:
            answer = await client.post(f"/v2/models/{endpoint}/infer", json=BODY)
            return str(answer.headers["quarterdeck-version"])

        waiting = asyncio.create_task(link.push(two(2, second, endless)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.3)  # longer than a host has that loads nothing
        assert (await client.get("/v2/health/ready")).status_code == 200, "what it has, it serves"
        back = asyncio.create_task(link.push(two(3, first, endless)))
        began = asyncio.get_running_loop().time()
        while await answering("e") != "m@1":
            assert asyncio.get_running_loop().time() - began < 30, "it waits for what never comes"
        assert not back.done() and await answering("o") == "n@1"
        assert (await link.push(two(4, first, other))).epoch == 4, "and it needs that file no more"
        await asyncio.gather(waiting, back)
        open(endless.path, "wb").close()
        assert (await link.state()).hosts[0].pid == state.hosts[0].pid
