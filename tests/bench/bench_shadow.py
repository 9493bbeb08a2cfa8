"""What a shadow costs the live version: one-row predictions over one connection with and without it, in turns; the
floor is the same daemon without a shadow."""

from __future__ import annotations

import time

from benching import counted, deck, quantile, report
from serving_bench import SIGNATURE, Caller, network, serve

from quarterstore.records import deployments, registry, trials

REQUESTS = counted(2000, 200)
WARM = 100
RATE = 200.0
"""Requests a second: a shadow that competes with a saturated core would say nothing of itself."""


def called(caller: Caller, count: int) -> list[float]:
    """Milliseconds of each of so many requests."""
    found, due = [], time.perf_counter()
    for _ in range(count):
        due += 1 / RATE
        time.sleep(max(0.0, due - time.perf_counter()))
        began = time.perf_counter()
        caller()
        found.append((time.perf_counter() - began) * 1000)
    return found


def main() -> None:
    """Without and with, in turns."""
    with deck() as daemon:
        caller = Caller(serve(daemon))
        figures: dict[str, list[float]] = {name: [] for name in ("p50", "p99", "p50 with", "p99 with")}
        with daemon.client(timeout=60) as client:
            digest, size = client.put(network(99))
            act = registry.RegisterVersion(model="net", digest=digest, size=size, format="onnx", signature=SIGNATURE)
            candidate = client.ask(act).id
            for _ in range(counted(2, 1)):
                called(caller, WARM)
                alone = called(caller, REQUESTS)
                client.ask(trials.StartShadow(version=candidate))
                while client.ask(trials.ReportShadow(endpoint="net", newest=10)).pairs == 0:
                    called(caller, WARM)
                beside = called(caller, REQUESTS)
                seen = client.ask(trials.ReportShadow(endpoint="net"))
                client.ask(trials.StopTrial(endpoint="net"))
                epoch = client.ask(deployments.ShowDeployment(endpoint="net")).epoch
                while client.ask(deployments.ShowServing()).epoch < epoch:
                    time.sleep(0.05)
                for name, values in (("", alone), (" with", beside)):
                    figures[f"p50{name}"].append(quantile(values, 0.5))
                    figures[f"p99{name}"].append(quantile(values, 0.99))
        caller.close()
    more = [after - before for before, after in zip(figures["p99"], figures["p99 with"], strict=True)]
    report(
        "live beside a shadow",
        figure="ms more at p99",
        values=more,
        reach="< 1 ms more at p99",
        met=quantile(more, 0.5) < 1.0,
        floor="p99 without a shadow, ms",
        floors=figures["p99"],
        more={
            "p50 without, ms": round(quantile(figures["p50"], 0.5), 3),
            "p50 with, ms": round(quantile(figures["p50 with"], 0.5), 3),
            "pairs": seen.pairs,
            "dropped": seen.dropped,
        },
    )


if __name__ == "__main__":
    main()
