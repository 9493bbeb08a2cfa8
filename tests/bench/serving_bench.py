"""A served 32-64-64-2 network and a plain HTTP client, for the benchmarks of serving."""

from __future__ import annotations

import itertools
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from quarterstore.records import deployments, registry
from quarterstore.records.registry import Feature, Signature, Tensor
from tests.conftest import Daemon

WIDTH = 32
SMALL = (WIDTH, 64, 64, 2)
BIG = (WIDTH, 1600, 1600, 1600, 2)
"""Widths of the layers; the big one is 20 MB."""
SIGNATURE = Signature(
    inputs=(Tensor(name="x", datatype="FP32", shape=(-1, WIDTH)),),
    outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 2)),),
    features=tuple(Feature(name=f"f{index}", kind="number", input="x", index=index) for index in range(WIDTH)),
    score="y",
)


def network(seed: int, sizes: tuple[int, ...] = SMALL) -> bytes:
    """Layers with ReLU between them; random weights."""
    chance = np.random.default_rng(seed)
    nodes, weights, before = [], [], "x"
    for layer, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        last = layer == len(sizes) - 2
        weights.append(numpy_helper.from_array(chance.normal(0, 0.2, (rows, columns)).astype(np.float32), f"w{layer}"))
        weights.append(numpy_helper.from_array(np.zeros(columns, np.float32), f"b{layer}"))
        after = "y" if last else f"h{layer}"
        nodes.append(helper.make_node("Gemm", [before, f"w{layer}", f"b{layer}"], [after if last else f"g{layer}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"g{layer}"], [after]))
        before = after
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def serve(
    daemon: Daemon,
    versions: int = 1,
    name: str = "net",
    sizes: tuple[int, ...] = SMALL,
    batching: deployments.BatchingRule | None = None,
) -> str:
    """Register and deploy so many versions of a network, the last one live; answers the address."""
    with daemon.client(timeout=60) as client:
        for seed in range(versions):
            digest, size = client.put(network(seed, sizes))
            version = client.ask(
                registry.RegisterVersion(model=name, digest=digest, size=size, format="onnx", signature=SIGNATURE)
            )
            client.ask(registry.MoveStage(version=version.id, stage="Staging"))
            client.ask(registry.MoveStage(version=version.id, stage="Production", reason="a benchmark"))
            client.ask(deployments.Deploy(version=version.id, batching=batching))
            for entry in client.follow(0):
                live = client.ask(deployments.ShowDeployment(endpoint=name)).live
                if live == version.id:
                    break
                del entry
        for _ in client.follow(0):
            state = client.ask(deployments.ShowServing())
            if state.address and state.hosts and all(host.ready for host in state.hosts):
                return str(state.address)
    raise RuntimeError("nothing serves")


class Caller:
    """One keep-alive connection that sends the same row, or another body to another path, again and again."""

    def __init__(
        self, address: str, path: str = "/v2/models/net/infer", body: bytes = b"", method: str = "POST"
    ) -> None:
        place = urlsplit(address)
        row = np.random.default_rng(1).normal(0, 1, WIDTH).astype(np.float32).tolist()
        tensor = {"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": row}
        if method == "POST" and not body:
            body = json.dumps({"inputs": [tensor]}).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._socket = socket.create_connection((place.hostname, place.port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __call__(self) -> dict[str, Any]:
        """One request; its answer."""
        self._socket.sendall(self._request)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[:end].lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        while len(data) < end + 4 + length:
            data += self._more()
        if b" 200 " not in head[:16]:
            raise RuntimeError(data.decode(errors="replace"))
        answer: dict[str, Any] = msgspec.json.decode(data[end + 4 :])
        return answer

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the host closed the connection")
        return data

    def close(self) -> None:
        """Let go of the connection."""
        self._socket.close()
