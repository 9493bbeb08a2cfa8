"""What serving answers a second and in what time, one row a request over REST, keep-alive, recorded: a small and a
20 MB network, one and sixteen connections, with and without dynamic batching. Each beside its floor, in turns."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
from benching import counted, deck, quantile, report
from load import Found, Load, loading, post, process
from serving_bench import BIG, SIGNATURE, WIDTH, Caller, network, serve

from quarterdeckd.serving.inference import Inference, Question
from quarterdeckd.serving.load import Single
from quarterstore.records import deployments, registry
from quarterstore.records.serving import HostState
from tests.conftest import Daemon

SECONDS = counted(1, 1)
REPEATS = counted(3, 1)
ROW = np.random.default_rng(1).normal(0, 1, (1, WIDTH)).astype(np.float32)
BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": ROW.ravel().tolist()}]}
).encode()
PLAIN = "an asyncio protocol on httptools with session.run"


def session_of(model: bytes) -> Any:
    """A session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def bare(model: bytes, rows: int = 1) -> float:
    """Median milliseconds of session.run."""
    session, feed, found = session_of(model), {"x": np.repeat(ROW, rows, 0)}, []
    ends = time.perf_counter() + SECONDS / 2
    while (began := time.perf_counter()) < ends:
        session.run(None, feed)
        found.append((time.perf_counter() - began) * 1000)
    return quantile(found, 0.5)


def plain_server(pipe: Connection, model: bytes) -> None:
    """The floor: nothing but parse, decode, run, encode and write; no checks, no limits, no record."""
    import asyncio

    import httptools
    import msgspec
    import uvloop

    session = session_of(model)
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode

    class Plain(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)
            self.body = b""

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_body(self, body: bytes) -> None:
            self.body += body

        def on_message_complete(self) -> None:
            given = decode(self.body)["inputs"][0]
            self.body = b""
            [array] = session.run(None, {"x": np.array(given["data"], np.float32).reshape(given["shape"])})
            tensor = {"name": "y", "shape": array.shape, "datatype": "FP32", "data": array.ravel().tolist()}
            answer = encode({"model_name": "net", "outputs": [tensor]})
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
            self.transport.write(head + answer)

    async def serve_it() -> None:
        server = await asyncio.get_running_loop().create_server(Plain, "127.0.0.1", 0)
        pipe.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    uvloop.run(serve_it())


class Turns:
    """The load, told to one place after another; what was found, by place."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __call__(self, address: str, path: str, connections: int, seconds: float = SECONDS) -> Found:
        """One place loaded for so long."""
        self._pipe.send(Load(address, post(address, path, BODY), connections, seconds))
        found: Found = self._pipe.recv()
        assert not found.failed, found
        return found


def in_turns(load: Turns, places: dict[str, tuple[str, str, int]]) -> dict[str, list[Found]]:
    """Each place once to warm it, then in turns."""
    for place in places.values():
        load(*place, 0.5)
    found: dict[str, list[Found]] = {name: [] for name in places}
    for _ in range(REPEATS):
        for name, place in places.items():
            found[name].append(load(*place))
    return found


def middle(found: list[Found], what: str) -> float:
    """The median of one figure."""
    return quantile([getattr(each, what) for each in found], 0.5)


def small(load: Turns, address: str) -> None:
    """The small network on one and on sixteen connections, without batching and with it."""
    with process(plain_server, network(0)) as floor:
        bottom = floor.recv()
        for connections in (1, 16):
            places = {name: (address, f"/v2/models/{name}/infer", connections) for name in ("net", "together")}
            found = in_turns(load, {**places, "floor": (bottom, "/", connections)})
            for name, words in (("net", ""), ("together", ", batches of up to 16")):
                told(found[name], found["floor"], connections, words)


def told(ours: list[Found], least: list[Found], connections: int, words: str) -> None:
    """One line of the small network."""
    one = connections == 1
    what = "p50" if one else "rate"
    value = middle(ours, what)
    ratio = value / middle(least, what)
    report(
        f"throughput, small network, {connections} connection{'s' * (not one)}{words}",
        figure="ms p50, recorded" if one else "predictions/s, recorded",
        values=[getattr(each, what) for each in ours],
        reach="<= 0.30 ms or 1.58 x the floor" if one else ">= 10,000/s or 0.38 of the floor, p99 <= 8 ms",
        met=(value <= 0.3 or ratio <= 1.58) if one else (value >= 10_000 or ratio >= 0.38) and middle(ours, "p99") <= 8,
        floor=PLAIN,
        floors=[getattr(each, what) for each in least],
        more={
            "per s": round(middle(ours, "rate")),
            "p50 ms": round(middle(ours, "p50"), 3),
            "p99 ms": round(middle(ours, "p99"), 3),
            "floor per s": round(middle(least, "rate")),
            "floor p99 ms": round(middle(least, "p99"), 3),
        },
    )


def big(load: Turns, address: str) -> None:
    """The big network: one connection beside session.run, sixteen with batching beside the same without."""
    model, rows = network(0, BIG), 16
    alone = {name: (address, f"/v2/models/{name}/infer", 1) for name in ("big", "batched")}
    found, floors = {name: [] for name in alone}, []
    for place in alone.values():
        load(*place, 0.5)
    for _ in range(REPEATS):
        for name, place in alone.items():
            found[name].append(load(*place))
        floors.append(bare(model))
    report(
        "throughput, 20 MB network, 1 connection",
        figure="ms p50, recorded",
        values=[each.p50 for each in found["big"]],
        reach="<= 1.44 x session.run (1.15 ms)",
        met=middle(found["big"], "p50") <= 1.44 * quantile(floors, 0.5),
        floor="session.run, ms",
        floors=floors,
        more={
            "p99 ms": round(middle(found["big"], "p99"), 3),
            "p50 ms with batching on": round(middle(found["batched"], "p50"), 3),
        },
    )
    many = in_turns(load, {name: (address, path, 16) for name, (_, path, _) in alone.items()})
    ratio = middle(many["batched"], "rate") / middle(many["big"], "rate")
    report(
        "throughput, 20 MB network, 16 connections, batches of up to 16",
        figure="predictions/s, recorded",
        values=[each.rate for each in many["batched"]],
        reach=">= 2.5 x unbatched, >= 2,500/s",
        met=ratio >= 2.5 and middle(many["batched"], "rate") >= 2500,
        floor="the same without batching",
        floors=[each.rate for each in many["big"]],
        more={
            "p99 ms": round(middle(many["batched"], "p99"), 2),
            "p99 ms without": round(middle(many["big"], "p99"), 2),
            "session.run of 16 rows, ms": round(bare(model, rows), 2),
        },
    )


class Ready:
    """A request that is read and an answer that is not written: what is left is ours."""

    endpoint = "e"

    def __init__(self, question: Question) -> None:
        self._question = question

    def read(self) -> Question:
        return self._question

    def answered(self, stamp: Any, outputs: dict[str, Any]) -> bytes:
        return b""

    def refused(self, fault: Any, stamp: Any) -> bytes:
        raise fault


def own_work() -> None:
    """Routing, split and recording: a request through `Inference` with two arms, less the run itself."""
    import hashlib

    from quarterdeckd.serving.recorder import Recorder
    from quarterdeckd.serving.router import Routes
    from quarterdeckd.serving.status import Status, fresh
    from quarterstore.records.deployments import Route, RoutingTable, Slot

    with tempfile.TemporaryDirectory(prefix="qdb", dir="/tmp") as folder:
        path = Path(folder)
        slots = []
        for seed, role in ((0, "live"), (1, "candidate")):
            data = network(seed)
            (path / f"{seed}.onnx").write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            slots.append(Slot(f"e@{seed}", str(path / f"{seed}.onnx"), digest, SIGNATURE, 50, role))  # type: ignore[arg-type]
        table = RoutingTable(epoch=1, routes=(Route(endpoint="e", epoch=1, slots=tuple(slots), salt="s"),))
        routes, recorder = Routes(), Recorder(path / "predictions", 1, 1 << 40)
        for slot in slots:
            routes.hold(routes.load(slot))
        routes.swap(table)
        fresh(path / "status")
        inference = Inference(  # one request at a time, without a loop
            routes,
            recorder,
            Status(path / "status"),
            None,
            lambda: None,
            Single(),  # type: ignore[arg-type]
        )
        loaded = routes.way("e").arms[0].loaded
        door = Ready(Question(lambda loaded, signature: {"x": ROW}))
        for arm in routes.way("e").arms:
            arm.loaded.took(1, 0.00001)
        found, floors = [], []
        count = counted(5000, 500)
        for _ in range(counted(7, 2)):
            began = time.perf_counter()
            for _ in range(count):
                inference.answer(door, 300, time.perf_counter())
            between = time.perf_counter()
            for _ in range(count):
                loaded.run({"x": ROW})
            ended = time.perf_counter()
            floors.append((ended - between) / count * 1e6)
            found.append((between - began) / count * 1e6 - floors[-1])
    report(
        "throughput, routing, split and recording",
        figure="us a request beside its run",
        values=found,
        reach="<= 60 us",
        met=quantile(found, 0.5) <= 60,
        floor="session.run, us",
        floors=floors,
    )


def switching(daemon: Daemon, pipe: Connection, address: str) -> None:
    """A switch and a rollback under load: from the act sent to the first answer of the other version."""
    with daemon.client() as client:
        versions = [client.ask(registry.ShowVersion(version=f"net@{number}")).id for number in (1, 2)]
        caller, switched, back = Caller(address), [], []
        repeats = counted(5, 1)
        pipe.send(Load(address, post(address, "/v2/models/net/infer", BODY), 4, 2.0 + repeats * 0.3))

        def until(version: str, act: Any) -> float:
            began = time.perf_counter()
            sending = threading.Thread(target=client.ask, args=(act,))
            sending.start()
            while caller()["model_version"] != version:
                pass
            found = (time.perf_counter() - began) * 1000
            sending.join()
            return found

        for _ in range(repeats):
            back.append(until(versions[0], deployments.RollBack(endpoint="net")))
            client.ask(registry.MoveStage(version=versions[1], stage="Production", reason="a benchmark"))
            switched.append(until(versions[1], deployments.Deploy(version=versions[1])))
        caller.close()
        under: Found = pipe.recv()
    more = {"failed": under.failed, "per s meanwhile": round(under.rate), "slowest percent, ms": round(under.p99, 1)}
    for name, values, limit in (("version switch", switched, 25), ("rollback", back, 100)):
        report(
            f"throughput, {name} under load",
            figure="ms from the act sent to the first answer of the other version",
            values=values,
            reach=f"<= {limit} ms, 0 failed",
            met=quantile(values, 0.5) <= limit and not under.failed,
            more=more,
        )


def newest(client: Any, before: HostState) -> HostState:
    """The host that is ready, else the one before."""
    return next((each for each in client.ask(deployments.ShowServing()).hosts if each.ready), before)


def hosts(daemon: Daemon) -> None:
    """A host that is killed: from its death to the next one ready, with four versions; the memory of one after all
    this."""
    took = []
    with daemon.client() as client:
        [host] = client.ask(deployments.ShowServing()).hosts
        rss = psutil.Process(host.pid).memory_info().rss / 1e6
        for _ in range(counted(5, 1)):
            began = time.perf_counter()
            os.kill(host.pid, signal.SIGKILL)
            while host.pid == (now := newest(client, host)).pid:
                time.sleep(0.005)
            took.append(time.perf_counter() - began)
            host = now
    report(
        "throughput, start of a host",
        figure="s from the death of the one before to ready",
        values=took,
        reach="< 1.2 s, RSS < 150 MB",
        met=quantile(took, 0.5) < 1.2 and rss < 150,
        more={"RSS MB": round(rss)},
    )


def main() -> None:
    """One daemon for all of it, the load in a process of its own."""
    own_work()
    rule = deployments.BatchingRule(max_batch=16, max_wait_ms=2.0)
    with deck() as daemon, process(loading) as pipe:
        address = serve(daemon, versions=2)
        serve(daemon, name="together", batching=rule)
        load = Turns(pipe)
        small(load, address)
        switching(daemon, pipe, address)
        serve(daemon, name="big", sizes=BIG)
        serve(daemon, name="batched", sizes=BIG, batching=rule)
        big(load, address)
        hosts(daemon)


if __name__ == "__main__":
    main()
