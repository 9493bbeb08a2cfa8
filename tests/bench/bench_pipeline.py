"""Seven steps that do nothing, in a row: a run asked for over the socket until its end is published, first and cached,
and the time a step; beside it a bare Python loop that forks seven times, in an interpreter that has to start."""

from __future__ import annotations

import subprocess
import sys
import time

from benching import counted, deck, report

from quarterdeck.client import Client
from quarterstore.records import pipelines

STEPS = 7
REPEATS = counted(9, 2)
CODE = b"def noop(step):\n    pass\n"
BARE = """
import os, time
for _ in range(7):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
"""


def definition(number: int) -> pipelines.Definition:
    """Steps that nothing is cached of yet."""
    steps = tuple(
        pipelines.StepSection(
            name=f"s{place}",
            run="steps.py:noop",
            after=(f"s{place - 1}",) if place else (),
            params={"number": number, "place": place},
        )
        for place in range(STEPS)
    )
    return pipelines.Definition(name="noop", steps=steps)


def run(client: Client, asked: pipelines.Definition, code: str) -> tuple[float, list[float]]:
    """Seconds until the end was published, and those that each step took."""
    seq = client.status().seq
    began = time.perf_counter()
    found = client.ask(pipelines.RunPipeline(definition=asked, sources={"steps.py": code}))
    for _ in client.follow(seq):
        now = client.ask(pipelines.ShowPipelineRun(pipeline_run=found.id))
        if now.state == "SUCCEEDED":
            took = time.perf_counter() - began
            return took, [(step.ended or 0.0) - (step.started or 0.0) for step in now.steps]
        assert now.state in ("QUEUED", "RUNNING"), now
    raise AssertionError("the feed ended")


def bare() -> float:
    """The floor: an interpreter that starts, and seven forks."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", BARE], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Print the lines."""
    with deck() as daemon, daemon.client(timeout=60) as client:
        code, _ = client.put(CODE)
        floors, first, cached, each = [], [], [], []
        for number in range(REPEATS):
            floors.append(bare())
            took, steps = run(client, definition(number), code)
            first.append(took)
            each += [1000 * step for step in steps]
            cached.append(run(client, definition(number), code)[0])
    floor = "a Python that starts and forks seven times"
    report(
        "pipeline",
        figure="7 no-op steps, first, s",
        values=first,
        reach="< 0.6 s",
        met=sorted(first)[len(first) // 2] < 0.6,
        floor=floor,
        floors=floors,
    )
    report(
        "pipeline",
        figure="7 no-op steps, cached, s",
        values=cached,
        reach="< 0.3 s",
        met=sorted(cached)[len(cached) // 2] < 0.3,
        floor=floor,
        floors=floors,
    )
    report("pipeline", figure="a no-op step, ms", values=each, reach="<= 20 ms", met=sorted(each)[len(each) // 2] <= 20)


if __name__ == "__main__":
    main()
