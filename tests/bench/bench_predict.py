"""One-row predictions over REST, keep-alive, one connection, recorded and not; the floor is a bare session.run."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime
from benching import counted, deck, quantile, report
from serving_bench import WIDTH, Caller, network, serve

from quarterstore.records import deployments

REQUESTS = counted(4000, 200)


def bare() -> list[float]:
    """Milliseconds of session.run on the same row."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(network(0), options, providers=["CPUExecutionProvider"])
    row = {"x": np.random.default_rng(1).normal(0, 1, (1, WIDTH)).astype(np.float32)}
    found = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        session.run(None, row)
        found.append((time.perf_counter() - began) * 1000)
    return found


def called(caller: Caller) -> list[float]:
    """Milliseconds of each request."""
    found = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        caller()
        found.append((time.perf_counter() - began) * 1000)
    return found


def main() -> None:
    """Recorded, not recorded and bare in turns."""
    with deck() as daemon:
        caller = Caller(serve(daemon))
        called(caller)
        p50: dict[str, list[float]] = {"recorded": [], "not": [], "bare": [], "p99": []}
        with daemon.client() as client:
            for _ in range(counted(7, 1)):
                for name, rule in (("recorded", "keep"), ("not", "drop")):
                    client.ask(deployments.SetRecording(endpoint="net", default=rule))
                    called(caller)[:100]
                    times = called(caller)
                    p50[name].append(quantile(times, 0.5))
                    if name == "recorded":
                        p50["p99"].append(quantile(times, 0.99))
                p50["bare"].append(quantile(bare(), 0.5))
        caller.close()
    middle = {name: sorted(values)[len(values) // 2] for name, values in p50.items()}
    cost = middle["recorded"] - middle["not"]
    report(
        "predict, one row",
        figure="ms p50, recorded",
        values=p50["recorded"],
        reach="<= 0.6 ms; inputs recorded cost < 0.1 ms of it",
        met=middle["recorded"] <= 0.6 and cost < 0.1,
        floor="onnxruntime session.run",
        floors=p50["bare"],
        more={
            "ms with inputs dropped": round(middle["not"], 4),
            "cost of inputs ms": round(cost, 4),
            "p99 ms": round(middle["p99"], 3),
            "requests a repeat": REQUESTS,
        },
    )


if __name__ == "__main__":
    main()
