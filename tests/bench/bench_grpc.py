"""One-row predictions over gRPC on one and four connections, recorded; the floor is an echo of the same bytes by
grpc.aio on uvloop. Callers are processes of their own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import grpc
import numpy as np
import uvloop
from benching import counted, deck, quantile, report
from serving_bench import WIDTH, serve

from quarterdeckd.serving.protocol import SERVICE, ModelInferRequest
from quarterstore.records import deployments

SECONDS = counted(2, 1)
REPEATS = counted(5, 1)
INFER = f"/{SERVICE}/ModelInfer"
spawned = multiprocessing.get_context("spawn")


def row() -> bytes:
    """A request with one row, raw."""
    message = ModelInferRequest(model_name="net")
    message.inputs.add(name="x", datatype="FP32", shape=[1, WIDTH])
    message.raw_input_contents.append(np.random.default_rng(1).normal(0, 1, WIDTH).astype(np.float32).tobytes())
    data: bytes = message.SerializeToString()
    return data


def echoing(pipe: Connection) -> None:
    """An echo on a port of its own, until it is killed."""

    async def run() -> None:
        async def echo(data: bytes, context: Any) -> bytes:
            return data

        server = grpc.aio.server()
        handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(echo)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        pipe.send(f"127.0.0.1:{port}")
        await server.wait_for_termination()

    uvloop.run(run())


def calling(pipe: Connection) -> None:
    """A caller with one connection to each address: told (address, seconds), it answers each call's milliseconds."""
    asks: dict[str, Any] = {}
    body = row()
    while (told := pipe.recv()) is not None:
        address, seconds = told
        if address not in asks:
            asks[address] = grpc.insecure_channel(address).unary_unary(INFER)
        ask, found = asks[address], []
        ends = time.perf_counter() + seconds
        while (began := time.perf_counter()) < ends:
            ask(body, timeout=10, wait_for_ready=True)
            found.append((time.perf_counter() - began) * 1000)
        pipe.send(found)


@contextmanager
def process(target: Any) -> Iterator[Connection]:
    """A process at the other end of a pipe."""
    here, there = spawned.Pipe()
    child = spawned.Process(target=target, args=(there,), daemon=True)
    child.start()
    try:
        yield here
    finally:
        child.kill()
        child.join()


def measured(callers: list[Connection], address: str) -> tuple[float, float, float]:
    """Calls a second of all callers at once, p50 and p99 in milliseconds."""
    for each in callers:
        each.send((address, SECONDS))
    times = [value for each in callers for value in each.recv()]
    return len(times) / SECONDS, quantile(times, 0.5), quantile(times, 0.99)


def main() -> None:
    """Prediction and echo in turns, with one caller and with four."""
    with deck("--grpc", "127.0.0.1:0") as daemon, process(echoing) as echo:
        serve(daemon)
        with daemon.client() as client:
            address = client.ask(deployments.ShowServing()).grpc
        floor = echo.recv()
        for count, reach, met in (
            (1, "p50 <= 0.7 ms", lambda rate, p50: p50 <= 0.7),
            (4, ">= 2,500/s", lambda rate, p50: rate >= 2500),
        ):
            found: dict[str, list[tuple[float, float, float]]] = {address: [], floor: []}
            with process(calling) as a, process(calling) as b, process(calling) as c, process(calling) as d:
                callers = [a, b, c, d][:count]
                for place in (address, floor):
                    measured(callers, place)
                for _ in range(REPEATS):
                    for place, values in found.items():
                        values.append(measured(callers, place))
            rates, p50s, p99s = (sorted(values) for values in zip(*found[address], strict=True))
            middle = len(rates) // 2
            one = count == 1
            report(
                f"predict over gRPC, {count} connection{'s' * (not one)}",
                figure="ms p50, recorded" if one else "predictions/s, recorded",
                values=p50s if one else rates,
                reach=reach,
                met=met(rates[middle], p50s[middle]),
                floor="grpc.aio echo of the same bytes" + (", ms p50" if one else ", calls/s"),
                floors=[each[1 if one else 0] for each in found[floor]],
                more={
                    "p50 ms": round(p50s[middle], 3),
                    "p99 ms": round(p99s[middle], 3),
                    "per s": round(rates[middle]),
                },
            )


if __name__ == "__main__":
    main()
