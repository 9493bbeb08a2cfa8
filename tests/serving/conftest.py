"""A real launcher with real hosts on a throw-away home, and small real models."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quarterdeckd.work.serving_link import ServingLink
from quarterstore.records.deployments import HostNews, Route, RoutingTable, Slot
from quarterstore.records.places import Home
from quarterstore.records.registry import Feature, Signature, Tensor

SIGNATURE = Signature(
    inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 4)),),
    outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 2)),),
    features=tuple(Feature(name=f"f{index}", kind="number", input="x", index=index) for index in range(4)),
    score="y",
)


def model_bytes(bias: float = 0.0, operator: str = "Identity") -> bytes:
    """y = operator(x @ W + bias): Identity is sound, Log answers NaN below zero."""
    weights = numpy_helper.from_array(np.full((4, 2), 0.25, np.float32), "w")
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
        data = model_bytes(bias, operator)
        path = tmp_path / f"{version}.onnx"
        path.write_bytes(data)
        return Slot(
            version=version,
            path=str(path),
            digest=hashlib.sha256(data).hexdigest(),
            signature=SIGNATURE,
            share=share,
            role=role,
        )

    return make


def table(epoch: int, *slots: Slot) -> RoutingTable:
    """One endpoint, `e`."""
    return RoutingTable(epoch=epoch, routes=(Route(endpoint="e", epoch=epoch, slots=slots, salt="s"),))


@pytest.fixture
async def link(home: Home) -> AsyncIterator[ServingLink]:
    """The daemon's side of a launcher that it started; `news` holds what it was told."""
    news: list[HostNews] = []
    found = ServingLink(home, news.append, None, 1)
    found.news = news
    await found.start()
    yield found
    await asyncio.wait_for(found.stop(), 20)
    found.close()
