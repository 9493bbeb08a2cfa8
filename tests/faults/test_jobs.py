"""F9, F10: a job's process is killed, crashes, stops, runs out of memory or leaves without a word, or its daemon dies;
each job ends once, with a reason, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records import governance, jobs, pipelines, registry
from quarterstore.records.faults import Fault, NotFound

pytestmark = pytest.mark.fault
CODE = b"""
import os, resource, signal, subprocess, sys, time

def train(frame, target, params, log):
    child = subprocess.Popen(["sleep", "300"])
    with open(params["mark"], "a") as file:
        file.write(f"{os.getpid()} {child.pid}\\n")
    os.makedirs("../out", exist_ok=True)
    with open("../out/model.onnx", "w") as file:
        file.write("half a model")
    how = params["how"]
    if how in ("SIGKILL", "SIGSEGV", "SIGSTOP"):
        os.kill(os.getpid(), getattr(signal, how))
    if how == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
        bytearray(1 << 31)
    if how == "exit":
        os._exit(0)
    if how == "garbage":
        for name in ("../answer.json", "../../../result.json"):
            with open(name, "w") as file:
                file.write('{"ok": tru')
        with open("../../../progress.jsonl", "a") as file:
            file.write("no line\\n{}\\n")
        os._exit(0)
    if how == "lie":
        os.link("../../../spec.json", "../out/golden.json")
        with open("../answer.json", "w") as file:
            file.write('{"ok": true, "words": "done"}')
        os._exit(0)
    while how == "wait" and not os.path.exists(params["go"]):
        time.sleep(0.05)
    raise ValueError("this is as far as it goes")
"""
REASONS = {
    "SIGKILL": ("LOST", "SIGKILL"),
    "SIGSEGV": ("LOST", "SIGSEGV"),
    "SIGSTOP": ("LOST", "silent"),
    "memory": ("FAILED", "Memory"),
    "exit": ("LOST", "ended with 0"),
    "garbage": ("LOST", "an answer that is none"),
    "lie": ("FAILED", "golden.json"),
}
"""How the process ends -> the state of its job and a word of the reason."""


def ask_for(client: Any, digest: str, folder: Path, how: str) -> pipelines.PipelineRun:
    """A pipeline whose training code ends in some way."""
    definition = pipelines.Definition(
        name=f"job-{how.lower()}",
        model=f"model-{how.lower()}",
        data=pipelines.DataSection(target="target", builtin="iris"),
        train=pipelines.TrainSection(
            python="train.py:train",
            params={"how": how, "mark": str(folder / f"mark-{how}"), "go": str(folder / "go")},
        ),
    )
    run: pipelines.PipelineRun = client.ask(pipelines.RunPipeline(definition=definition, code=digest))
    return run


def until(found: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for something to be so."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
        threading.Event().wait(0.05)
    return answer


def ended(client: Any, job: str) -> jobs.Job | None:
    """The job, once it is over."""
    found: jobs.Job = client.ask(jobs.ShowJob(job=job))
    return found if found.ended is not None else None


def marks(folder: Path, how: str) -> list[tuple[int, int]]:
    """Process and child of each time the training code ran."""
    path = folder / f"mark-{how}"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines]


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


LEAVES = b"""
import os, subprocess, time

def train(frame, target, params, log):
    away = subprocess.Popen(["sleep", "300"], start_new_session=True)
    forked = os.fork()
    if not forked:
        os.setsid()
        time.sleep(300)
    with open(params["mark"], "a") as file:
        file.write(f"{os.getpid()} {away.pid}\\n{os.getpid()} {forked}\\n")
    time.sleep(300)
"""


@pytest.mark.parametrize("with_the_daemon", [False, True])
def test_a_worker_that_is_killed_leaves_nothing_in_sessions_of_its_own(
    absent: Any, tmp_path: Path, with_the_daemon: bool
) -> None:
    """Nobody told its steps to end what they had started; the next daemon finds that too, and ends nobody else's."""
    ours = subprocess.Popen(["sleep", "300"], start_new_session=True)
    absent.start()
    try:
        with absent.client() as client:
            digest, _ = client.put(LEAVES)
            run = ask_for(client, digest, tmp_path, "leaves")
            until(lambda: len(marks(tmp_path, "leaves")) == 2, 30, "processes")
            worker = client.ask(jobs.ShowJob(job=run.job)).pid
        if with_the_daemon:
            absent.stop(signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
        if with_the_daemon:
            absent.start()
        started = [pid for line in marks(tmp_path, "leaves") for pid in line]
        until(lambda: not any(map(lives, started)), 10, f"end of {started}")
        assert lives(ours.pid)
    finally:
        ours.kill()
        ours.wait()


def left_behind(daemon: Any, job: str) -> list[str]:
    """Half-made files of a job that is over, and what its upload left."""
    folder = daemon.home.jobs / job
    # os.walk passes over a folder that goes while it looks
    walked = [Path(at) / name for at, _, names in os.walk(folder) for name in names]
    halves = [path for path in walked if "out" in path.relative_to(folder).parts or path.suffix == ".part"]
    halves += daemon.home.incoming.iterdir()
    return [str(path) for path in halves] + [str(path) for path in [daemon.home.secret_key(job)] if path.exists()]


def test_a_job_whose_process_dies_ends_once_with_a_reason_and_leaves_nothing(absent: Any, report: Any) -> None:
    """F9: kill, crash, stop, out of memory, an exit without a result, a result that is none or lies; all at once."""
    absent.start("--workers", str(len(REASONS)))
    wrong: list[str] = []
    took: dict[str, float] = {}
    with absent.client() as client:
        digest, _ = client.put(CODE)
        asked = {how: ask_for(client, digest, absent.folder, how) for how in REASONS}
        begun: dict[str, float] = {}
        waiting = dict(asked)
        deadline = time.monotonic() + 150
        while waiting:
            assert time.monotonic() < deadline, (list(waiting), absent.log())
            threading.Event().wait(0.1)
            for how, run in list(waiting.items()):
                if marks(absent.folder, how):
                    begun.setdefault(how, time.monotonic())
                if ended(client, run.job):
                    took[how] = time.monotonic() - begun[how]
                    del waiting[how]
        for how, run in asked.items():
            state, word = REASONS[how]
            job = client.ask(jobs.ShowJob(job=run.job))
            shown = client.ask(pipelines.ShowPipelineRun(pipeline_run=run.id))
            if job.state != state or word not in str(job.error) or shown.state != state or not job.error:
                wrong.append(f"{how}: {job.state} {job.error}")
            [(process, child)] = marks(absent.folder, how)
            until(lambda pids=(process, child): not any(map(lives, pids)), 20, f"end of the processes of {how}")
            until(lambda job=run.job: not left_behind(absent, job), 20, f"clearing up after {how}")
            wrong += [f"{how}: a version came of it"] * has_version(client, f"model-{how.lower()}")
        assert client.ask(governance.VerifyAudit()).ok
    assert absent.process.poll() is None, absent.log()
    limits = {how: 60.0 if how == "SIGSTOP" else 30.0 for how in REASONS}
    wrong += [f"{how} took {took[how]:.1f} s" for how in REASONS if took[how] > limits[how]]
    slowest = max(took[how] for how in REASONS if how != "SIGSTOP")
    report("F9", len(REASONS), len(wrong), None, slowest=f"{slowest:.1f}s", stopped=f"{took['SIGSTOP']:.1f}s")
    assert wrong == []


def has_version(client: Any, model: str) -> bool:
    """Whether a model of that name has any version."""
    try:
        return bool(client.ask(registry.ListVersions(model=model)))
    except NotFound:
        return False


def test_a_job_outlives_its_killed_daemon_is_adopted_and_runs_once(absent: Any, report: Any) -> None:
    """F10: kill -9 of the daemon alone, twice while the job runs, once with the job ending while nobody looks."""
    absent.start()
    with absent.client() as client:
        digest, _ = client.put(CODE)
        run = ask_for(client, digest, absent.folder, "wait")
        until(lambda: marks(absent.folder, "wait"), 60, "start of the job")
    adopted = []
    for _ in range(2):
        absent.stop(signal.SIGKILL)
        began = time.monotonic()
        absent.start()
        until(lambda: "adopted" in (absent.folder / "log").read_text(), 30, "adoption")
        adopted.append(time.monotonic() - began)
        with absent.client() as client:
            assert client.ask(jobs.ShowJob(job=run.job)).state == "RUNNING"
    absent.stop(signal.SIGKILL)
    (absent.folder / "go").touch()
    [(process, child)] = marks(absent.folder, "wait")
    until(lambda: not lives(process), 20, "end of the job")
    began = time.monotonic()
    absent.start()
    with absent.client() as client:
        job = until(lambda: ended(client, run.job), 30, "end of the job in the state")
        took = time.monotonic() - began
        assert job.state == "FAILED" and "as far as it goes" in job.error
        until(lambda: not lives(child), 20, "end of the job's child")
        assert len(marks(absent.folder, "wait")) == 1
    report("F10", 3, 0, None, adopted=f"{max(adopted):.2f}s", ended=f"{took:.2f}s")


@pytest.mark.parametrize("entry", [pytest.param(2, marks=pytest.mark.slow), 3, 4])
def test_a_daemon_that_dies_while_it_starts_a_job_starts_it_once(absent: Any, report: Any, entry: int) -> None:
    """F10: between asking for the job, giving it its key, starting its process and noting that it runs."""
    absent.start()
    with absent.client() as client:
        digest, _ = client.put(CODE)
    absent.stop()
    absent.start(QD_CRASH_AT=f"journal.before:{entry}")
    with absent.client(timeout=15.0) as client:
        run = ask_for(client, digest, absent.folder, "wait")
    (absent.folder / "go").touch()
    assert absent.process.wait(60) == 137, absent.log()
    absent.start()
    with absent.client() as client:
        job = until(lambda: ended(client, run.job), 60, "end of the job")
    until(lambda: not any(lives(pid) for pair in marks(absent.folder, "wait") for pid in pair), 20, "end of its group")
    count = len(marks(absent.folder, "wait"))
    report("F10-start", 1, int(count != 1), None, entry=entry, runs=count)
    assert job.state == "FAILED" and "as far as it goes" in str(job.error)
    assert count == 1


def test_a_cancelled_job_is_ended_with_its_children(absent: Any, report: Any) -> None:
    """Cancelling is an act: it is answered at once, and the process group is gone soon after."""
    absent.start()
    with absent.client() as client:
        digest, _ = client.put(CODE)
        run = ask_for(client, digest, absent.folder, "wait")
        [(process, child)] = until(lambda: marks(absent.folder, "wait"), 60, "start of the job")
        began = time.monotonic()
        assert client.ask(jobs.CancelJob(job=run.job)).state == "CANCELLED"
        until(lambda: not lives(process) and not lives(child), 30, "end of the group")
        took = time.monotonic() - began
        with pytest.raises(Fault):
            client.ask(jobs.CancelJob(job=run.job))
        until(lambda: not left_behind(absent, run.job), 20, "clearing up")
    assert os.getpid() not in (process, child)
    report("F9-cancel", 1, 0, None, took=f"{took:.1f}s")
