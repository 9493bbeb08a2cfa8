"""Steps in a real worker's forks: cached, tried again, ended at their limits with all they started, gone on from a
checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quarterstore.records import flows, jobs, pipelines
from quarterstore.records.pipeline_results import PipelineOutcome
from quarterstore.records.pipelines import Definition, Done, StepSection
from quarterstore.shelf.artefacts import Artefacts

CODE = """
import os, pathlib, signal, subprocess, sys, time

def write(step):
    (step.out / "x.txt").write_text(step.params.get("text", "x"))
    return {"n": 1}

def read(step):
    (step.out / "y.txt").write_text(step.file("x.txt").read_text() * 2)

def fails(step):
    raise ValueError("a bug")

def second_time(step):
    mark = pathlib.Path(step.params["mark"])
    mark.write_text(mark.read_text() + "." if mark.exists() else ".")
    if len(mark.read_text()) < step.params["works"]:
        raise ValueError("not yet")

def leaves(step):
    with open(step.params["mark"], "a") as file:
        for words in (["sleep", "300"], ["setsid", "sleep", "301"]):
            file.write(f"{subprocess.Popen(words).pid}\\n")

def hangs(step):
    leaves(step)
    time.sleep(300)

def loops(step):
    leaves(step)
    while True: pass

def eats(step):
    leaves(step)
    held = []
    while True:
        held.append(bytearray(b"x" * (8 << 20)))

def forks(step):
    leaves(step)
    held = b"x" * (96 << 20)
    for _ in range(3):
        if os.fork() == 0:
            mine = bytearray(held)
            time.sleep(300)
    time.sleep(300)

def fills(step):
    leaves(step)
    for n in range(10000):
        (step.out / f"{n}").write_bytes(b"x" * (4 << 20))
        time.sleep(0.01)

def fills_one(step):
    leaves(step)
    with (step.out / "one").open("wb") as file:
        while True: file.write(b"x" * (4 << 20))

def dies(step):
    leaves(step)
    os.kill(os.getpid(), signal.SIGKILL)

def orphans(step):
    # a shell that leaves a child in the step's group and ends
    pid = subprocess.check_output(["sh", "-c", "sleep 300 >/dev/null & echo $!"], text=True)
    pathlib.Path(step.params["mark"]).write_text(pid)
    while not (pathlib.Path(step.params["mark"] + ".over")).exists():
        time.sleep(0.02)
    os.kill(int(pid), 0)
    return {"lived": True}

def counts(step):
    mark = step.checkpoint / "count"
    began = int(mark.read_text()) if mark.exists() else 0
    print(f"begins at {began}")
    for n in range(began, 30):
        mark.write_text(str(n + 1))
        time.sleep(0.05)
    (step.out / "sum.txt").write_text(str(sum(range(30))))
    return {"began": began}
"""

ABOUT = """
def about(given, log):
    return {"n": 1}
"""


def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


class Bench:
    """A worker's folder, its store and its checkpoints, without a daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "incoming").mkdir()
        (folder / "store").mkdir()
        self.store = Artefacts(folder / "store", folder / "incoming")
        self.mark = folder / "mark"
        self.jobs = 0

    def keep(self, text: bytes, name: str = "upload") -> str:
        path = self.folder / name
        path.write_bytes(text)
        return self.store.adopt(path)[0]

    def spec(self, *steps: StepSection, code: str = CODE, **about: Any) -> pipelines.PipelineSpec:
        return pipelines.PipelineSpec(
            pipeline_run="pipe-1",
            run="run-1",
            definition=Definition(name="p", steps=steps),
            sources={"steps.py": self.keep(code.encode())},
            store=str(self.folder / "store"),
            checkpoints=str(self.folder / "checkpoints"),
            **about,
        )

    def start(self, spec: pipelines.PipelineSpec) -> subprocess.Popen[bytes]:
        self.jobs += 1
        self.job = self.folder / f"job-{self.jobs}"
        self.job.mkdir()
        asked = jobs.JobSpec(job=self.job.name, kind="pipeline", spec=msgspec.to_builtins(spec))
        (self.job / "spec.json").write_bytes(msgspec.json.encode(asked))
        words = [sys.executable, "-m", "quarterdeckd.pipeline.worker", str(self.job)]
        with (self.job / "log.txt").open("wb") as log:
            return subprocess.Popen(words, start_new_session=True, stdout=log, stderr=log)

    def run(self, spec: pipelines.PipelineSpec, seconds: float = 60) -> jobs.JobResult:
        self.start(spec).wait(seconds)
        return msgspec.json.decode((self.job / "result.json").read_bytes(), type=jobs.JobResult)

    def steps(self) -> dict[str, pipelines.Step]:
        """The newest line of each step."""
        lines = (self.job / "progress.jsonl").read_bytes().splitlines()
        told = [msgspec.json.decode(line, type=jobs.Line) for line in lines]
        return {line.name: msgspec.convert(line.step, pipelines.Step) for line in told if line.step is not None}

    def cache(self) -> dict[str, Done]:
        """What the last job's steps left, kept as the daemon keeps it."""
        found = {}
        for name, step in self.steps().items():
            for file in step.outputs:
                self.store.adopt(self.job / "steps" / name / "out" / file)
            found[step.key] = Done(step.outputs, step.words, step.figures, "pipe-0")
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """One."""
    return Bench(tmp_path)


def step(name: str, function: str, *after: str, **about: Any) -> StepSection:
    """A function of the code above as a step."""
    return StepSection(name=name, run=f"steps.py:{function}", after=after, **about)


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_second_run_is_cached_and_what_changed_is_done_again_with_what_is_behind_it(bench: Bench) -> None:
    two = (step("a", "write"), step("b", "read", "a"))
    assert bench.run(bench.spec(*two)).ok
    first = bench.steps()
    assert (bench.job / "steps/b/out/y.txt").read_text() == "xx"
    cache = bench.cache()
    assert bench.run(bench.spec(*two, cache=cache)).ok
    again = bench.steps()
    assert {each.words for each in again.values()} == {"cached (inputs unchanged)"}
    assert [again[name].outputs for name in "ab"] == [first[name].outputs for name in "ab"]
    changed = (step("a", "write", params={"text": "z"}), two[1])
    assert bench.run(bench.spec(*changed, cache=cache)).ok
    assert [bench.steps()[name].how for name in "ab"] == ["", ""]
    same = (two[0], step("b", "read", "a", retries=3))
    assert bench.run(bench.spec(*same, code=CODE + "# another word\n", cache=cache)).ok
    assert [bench.steps()[name].how for name in "ab"] == ["", ""]


def test_a_cached_file_that_is_no_longer_what_it_was_is_made_again(bench: Bench) -> None:
    one = step("a", "write")
    assert bench.run(bench.spec(one)).ok
    cache = bench.cache()
    path = bench.store.path(bench.steps()["a"].outputs["x.txt"])
    path.chmod(0o600)
    path.write_text("y")
    assert bench.run(bench.spec(one, cache=cache)).ok
    assert bench.steps()["a"].how == "" and (bench.job / "steps/a/out/x.txt").read_text() == "x"


def test_a_step_that_fails_is_tried_as_often_as_it_says_and_then_ends_the_run(bench: Bench) -> None:
    tried = step("a", "second_time", params={"mark": str(bench.mark), "works": 3}, retries=2, backoff=0.05)
    assert bench.run(bench.spec(tried)).ok and bench.steps()["a"].attempts == 3
    bench.mark.unlink()
    few = step("a", "second_time", params={"mark": str(bench.mark), "works": 9}, retries=1, backoff=0.05)
    ended = bench.run(bench.spec(few, step("b", "write", "a")))
    assert not ended.ok and "ValueError: not yet" in str(ended.error) and "line 1" in str(ended.error)
    assert len(bench.mark.read_text()) == 2 and bench.steps()["a"].state == "FAILED" and "b" not in bench.steps()


LIMITS = {
    "hangs": (jobs.Limits(seconds=1.0), "seconds"),
    "loops": (jobs.Limits(seconds=1.0), "seconds"),
    "eats": (jobs.Limits(seconds=60, memory=256 << 20), "memory"),
    "forks": (jobs.Limits(seconds=60, memory=256 << 20), "memory"),
    "fills": (jobs.Limits(seconds=60, disk=64 << 20), "disk"),
    "fills_one": (jobs.Limits(seconds=60, disk=64 << 20), "disk: got "),
    "dies": (jobs.Limits(), "SIGKILL"),
    "leaves": (jobs.Limits(), ""),
}


@pytest.mark.parametrize("how", LIMITS)
def test_a_step_over_its_limit_is_ended_in_time_with_all_that_it_started(bench: Bench, how: str) -> None:
    """F45: hangs, loops, eats memory alone or in children, fills the disk; nothing of it is left, whatever it did."""
    limits, word = LIMITS[how]
    began = time.monotonic()
    ended = bench.run(bench.spec(step("a", how, params={"mark": str(bench.mark)}, limits=limits)))
    took = time.monotonic() - began
    assert ended.ok == (how == "leaves") and word in str(ended.error or ""), ended
    assert ended.lost == (how == "dies")
    if word == "seconds":
        assert took < limits.seconds + 2.0 + 10.0  # and the worker's start on a busy machine
    left = [int(pid) for pid in bench.mark.read_text().split()]
    assert len(left) == 2 and not any(map(lives, left))


def test_a_function_that_is_not_there_is_named_by_its_step(bench: Bench) -> None:
    ended = bench.run(bench.spec(step("a", "wirte")))
    assert not ended.ok and str(ended.error).startswith("a.run: got no function wirte, expected one of write, read")


def test_an_interpreter_that_vanished_fails_its_step_and_not_those_behind_it(bench: Bench) -> None:
    gone = str(bench.folder / "venv/bin/python")
    spec = bench.spec(step("a", "write"), step("b", "read", "a", interpreter=gone), step("c", "write", "b"), code=CODE)
    ended = bench.run(spec)
    assert not ended.ok and not ended.lost and gone in str(ended.error) and "\n" not in str(ended.error)
    found = bench.steps()
    assert (found["a"].state, found["b"].state, "c" in found) == ("DONE", "FAILED", False)
    assert gone in found["b"].words and "Traceback" not in (bench.job / "log.txt").read_text()


def test_an_interpreter_that_is_away_for_a_moment_is_asked_again(bench: Bench) -> None:
    away = step("a", "write", interpreter=str(bench.folder / "python"), retries=1, backoff=0.05)
    assert not bench.run(bench.spec(away)).ok and bench.steps()["a"].attempts == 2


def test_a_worker_that_is_told_to_end_takes_its_step_along(bench: Bench) -> None:
    worker = bench.start(bench.spec(step("a", "hangs", params={"mark": str(bench.mark)})))
    deadline = time.monotonic() + 20
    while not bench.mark.exists() or len(bench.mark.read_text().split()) < 2:
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 1
    result = msgspec.json.decode((bench.job / "result.json").read_bytes(), type=jobs.JobResult)
    assert result.error == "cancelled" and not any(lives(int(pid)) for pid in bench.mark.read_text().split())


def test_a_step_that_is_preempted_goes_on_from_its_checkpoint(bench: Bench) -> None:
    assert bench.run(bench.spec(step("a", "counts"), preempt=0.7)).ok
    found = bench.steps()["a"]
    assert found.figures["began"] > 3 and found.attempts == 1
    assert "begins at 0" in (bench.job / "steps/a/log.txt").read_text()
    assert not list((bench.folder / "checkpoints").iterdir())


def test_the_code_of_a_run_is_what_it_was_when_it_was_asked_for(bench: Bench) -> None:
    spec = bench.spec(step("a", "write"))
    bench.keep(b"def write(step): raise ValueError\n")
    assert bench.run(spec).ok


def test_a_program_is_a_step_without_a_shell(bench: Bench) -> None:
    writes = (
        "import json, os; s = json.load(open(os.environ['QUARTERDECK_STEP'])); open(s['out'] + '/p', 'w').write('p')"
    )
    program = StepSection(name="a", command=(sys.executable, "-c", writes))
    assert bench.run(bench.spec(program)).ok and (bench.job / "steps/a/out/p").read_text() == "p"
    hostile = StepSection(name="a", command=("echo", "$(touch /tmp/hostile); `id` && reboot"))
    assert bench.run(bench.spec(hostile)).ok
    assert (bench.job / "steps/a/log.txt").read_text() == "$(touch /tmp/hostile); `id` && reboot\n"
    ends = StepSection(name="a", command=("false",))
    assert "ended with 1" in str(bench.run(bench.spec(ends)).error)
    nowhere = StepSection(name="a", command=("no-such-program",))
    assert "No such file" in str(bench.run(bench.spec(nowhere)).error)


def test_steps_that_do_not_need_each_other_may_run_at_once(bench: Bench) -> None:
    wait = [step(name, "counts", params={"me": name}) for name in "ab"]
    spec = bench.spec(*wait)
    both = msgspec.structs.replace(spec, definition=Definition(name="p", steps=tuple(wait), parallel=2))
    assert bench.run(both).ok
    a, b = (bench.steps()[name] for name in "ab")
    assert a.started < b.ended and b.started < a.ended  # type: ignore[operator]


def test_a_step_that_is_over_takes_nothing_along_of_one_that_runs(bench: Bench) -> None:
    """What lost its parent is the worker's child; in the group of a step that runs it is that step's."""
    long, short = step("long", "orphans", params={"mark": str(bench.mark)}), step("short", "write")
    spec = bench.spec(long, short)
    both = msgspec.structs.replace(spec, definition=Definition(name="p", steps=(long, short), parallel=2))
    worker = bench.start(both)
    until(lambda: bench.mark.exists() and bench.mark.read_text() and bench.steps()["short"].state == "DONE")
    Path(f"{bench.mark}.over").touch()
    worker.wait(60)
    assert bench.steps()["long"].figures == {"lived": True}
    assert not lives(int(bench.mark.read_text()))


def test_a_worker_beats_also_while_something_takes_long_between_two_steps(bench: Bench) -> None:
    """Outputs of many GB are hashed there, and an interpreter asked what it is: the supervisor ends who is silent."""
    slow = bench.folder / "python"
    slow.write_text(f'#!/bin/sh\nwhile [ ! -e {bench.mark} ]; do sleep 0.05; done\nexec {sys.executable} "$@"\n')
    slow.chmod(0o700)
    worker = bench.start(bench.spec(StepSection(name="a", run="steps.py:about", interpreter=str(slow)), code=ABOUT))
    beat = bench.job / "beat"
    until(beat.exists)
    first = beat.stat().st_mtime_ns
    until(lambda: beat.stat().st_mtime_ns > first)
    bench.mark.touch()
    worker.wait(60)
    assert bench.steps()["a"].state == "DONE", (bench.job / "log.txt").read_text()


def test_a_step_that_asks_ends_the_job_with_its_evidence(bench: Bench) -> None:
    asks = StepSection(name="ask", uses="approve", after=("a",), params={"ask": "shall it?", "timeout": 9})
    ended = bench.run(bench.spec(step("a", "write"), asks, step("b", "read", "ask")))
    outcome = msgspec.convert(ended.result, PipelineOutcome)
    assert outcome.asks is not None and outcome.asks.figures["evidence"] == {"a": {"n": 1}}
    assert list(outcome.asks.figures["files"]) == ["a/x.txt"] and "b" not in bench.steps()
    bench.cache()
    known = {**bench.steps(), "ask": msgspec.structs.replace(outcome.asks, state="DONE")}
    steps = tuple(
        known.get(each.name, each)
        for each in flows.waiting(bench.spec(step("a", "write"), asks, step("b", "read", "ask")).definition)
    )
    assert bench.run(bench.spec(step("a", "write"), asks, step("b", "read", "ask"), steps=steps)).ok
    assert list(bench.steps()) == ["b"] and os.path.exists(bench.job / "steps/b/out/y.txt")
