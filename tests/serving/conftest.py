"""A real launcher with real hosts on a throw-away home, and small real models."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quarterdeckd.work.serving_link import ServingLink
from quarterstore.records.deployments import Route, RoutingTable, Slot
from quarterstore.records.hosts import HostNews
from quarterstore.records.places import Home
from quarterstore.records.registry import Feature, Signature, Tensor
from quarterstore.records.serving import ServingState

SIGNATURE = Signature(
    inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 4)),),
    outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 2)),),
    features=tuple(Feature(name=f"f{index}", kind="number", input="x", index=index) for index in range(4)),
    score="y",
)


def model_bytes(bias: float = 0.0, operator: str = "Identity", weight: float = 0.25) -> bytes:
    """y = operator(x @ W + bias): Identity is sound, Log answers NaN below zero."""
    weights = numpy_helper.from_array(np.full((4, 2), weight, np.float32), "w")
    added = numpy_helper.from_array(np.full(2, bias, np.float32), "b")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Add", ["h", "b"], ["s"]),
            helper.make_node(operator, ["s"], ["y"]),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weights, added],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home whose socket paths are short enough."""
    folder = Path(tempfile.mkdtemp(prefix="qds", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "r"))
    (folder / "r").mkdir(mode=0o700)
    found = Home(folder / "h")
    found.serving.mkdir(parents=True)
    yield found
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slot(tmp_path: Path) -> Callable[..., Slot]:
    """Writes a model file and answers its slot."""

    def make(version: str, bias: float = 0.0, operator: str = "Identity", share: int = 100, role: str = "live") -> Slot:
        return slot_of(tmp_path, version, model_bytes(bias, operator), SIGNATURE, share, role)

    return make


def slot_of(
    folder: Path, version: str, data: bytes, signature: Signature, share: int = 100, role: Any = "live"
) -> Slot:
    """A slot with its file."""
    path = folder / f"{version}.onnx"
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return Slot(version=version, path=str(path), digest=digest, signature=signature, share=share, role=role)


def graph_bytes(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Sequence[Any] = ()) -> bytes:
    """An ONNX file of these nodes; inputs and outputs are (name, ONNX type, shape)."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def loop_bytes(turns: int, *, of_x: bool = False) -> bytes:
    """y = x after so many turns of a loop that does nothing useful: slow on purpose (about 1 ms a thousand). With
    `of_x` so many for each 1 of the largest x: zeros pass at once."""
    counted = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["most_whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["most_whole", "turns"], ["turns_of_x"]),
    ]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["before", "zero"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    return graph_bytes(
        [
            *(counted if of_x else []),
            helper.make_node("Loop", ["turns_of_x" if of_x else "turns", "yes", "x"], ["y"], body=body),
        ],
        [("x", TensorProto.FLOAT, ["n", 4])],
        [("y", TensorProto.FLOAT, ["n", 4])],
        [
            numpy_helper.from_array(np.array(turns, np.int64), "turns"),
            numpy_helper.from_array(np.array(True), "yes"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
        ],
    )


def table(epoch: int, *slots: Slot) -> RoutingTable:
    """One endpoint, `e`."""
    return RoutingTable(epoch=epoch, routes=(Route(endpoint="e", epoch=epoch, slots=slots, salt="s"),))


@pytest.fixture
def made() -> Any:
    """This module itself, for its functions: the folder is no package."""
    return sys.modules[__name__]


@pytest.fixture
def traffic() -> Any:
    """The module `traffic` beside this one."""
    spec = importlib.util.spec_from_file_location("serving_traffic", Path(__file__).parent / "traffic.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["serving_traffic"] = module
    spec.loader.exec_module(module)
    return module


class Told(ServingLink):
    """A link that keeps what it was told."""

    def __init__(self, home: Home, hosts: int = 1, grpc: str | None = None) -> None:
        self.news: list[HostNews] = []
        self.states: list[ServingState] = []
        super().__init__(home, self.news.append, None, hosts, grpc)
        self.on_state = self.states.append


@pytest.fixture
async def link(home: Home) -> AsyncIterator[Told]:
    """The daemon's side of a launcher that it started."""
    found = Told(home)
    await found.start()
    yield found
    await asyncio.wait_for(found.stop(), 60)
    found.close()


@pytest.fixture
async def both(home: Home) -> AsyncIterator[Told]:
    """The same with gRPC beside REST."""
    found = Told(home, grpc="127.0.0.1:0")
    await found.start()
    yield found
    await asyncio.wait_for(found.stop(), 60)
    found.close()


@pytest.fixture
async def two(home: Home) -> AsyncIterator[Told]:
    """The same with two hosts."""
    found = Told(home, 2)
    await found.start()
    yield found
    await asyncio.wait_for(found.stop(), 60)
    found.close()


async def until(true: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something itself, with a deadline; answers what it was."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (found := true()):
        assert asyncio.get_running_loop().time() < deadline, "it did not come about in time"
        await asyncio.sleep(0.02)
    return found
