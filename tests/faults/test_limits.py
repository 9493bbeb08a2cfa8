"""F45: training code in an environment of its own that hangs, loops, forks, fills memory or disk is stopped at its
limit, at most two seconds late, and everything it started is gone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from quarterstore.records import jobs, pipelines
from quarterstore.shelf.artefacts import Artefacts
from tests.faults.test_jobs import lives, until
from tests.pipeline.test_own_code import bare as bare

pytestmark = pytest.mark.fault
LATE = 2.0
SECONDS = 6.0
LIMITS = jobs.Limits(seconds=SECONDS, memory=700 * 1024**2, disk=40 * 1024**2)
BY_TIME = ("hangs", "loops", "forks")
CODE = """
import os, signal, subprocess, time

def mark(text):
    with open(given.params["mark"], "a") as file:
        file.write(text + "\\n")

def over(what):
    mark("over %r" % time.time())

def train(asked, log):
    global given
    given = asked
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    mark("begun %r" % time.time())
    mark("pid %d" % os.getpid())
    mark("pid %d" % subprocess.Popen(["sleep", "300"]).pid)
    mark("pid %d" % subprocess.Popen(["sleep", "300"], start_new_session=True).pid)
    how = given.params["how"]
    if how == "hangs":
        time.sleep(300)
    while how == "loops":
        pass
    if how == "forks":
        while True:
            child = os.fork()
            if not child:
                os.setsid()
                signal.pause()
            mark("pid %d" % child)
            time.sleep(0.02)
    held = []
    for number in range(1000):
        if how == "memory":
            held.append(bytearray(os.urandom(1)) * (16 << 20))
            if len(held) == given.params["most"] // (16 << 20) + 1:
                over("memory")
        else:
            with open(os.path.join(given.checkpoint, str(number)), "wb") as file:
                file.write(os.urandom(4 << 20))
            if (number + 1) * (4 << 20) > given.params["most"] and number * (4 << 20) <= given.params["most"]:
                over("disk")
        time.sleep(0.05)
"""
REASONS = {
    "hangs": "seconds: the step ran longer than its limit of 6 s",
    "loops": "seconds: the step ran longer than its limit of 6 s",
    "forks": "seconds: the step ran longer than its limit of 6 s",
    "memory": "memory: got ",
    "disk": "disk: got ",
}


def begun(folder: Path, how: str, python: Path) -> subprocess.Popen[bytes]:
    """A job's process as the supervisor starts it, in a folder of its own."""
    for part in ("store", "incoming", "checkpoints"):
        (folder / part).mkdir(parents=True)
    (folder / "train.py").write_text(CODE)
    digest, _ = Artefacts(folder / "store", folder / "incoming").adopt(folder / "train.py")
    most = {"memory": LIMITS.memory, "disk": LIMITS.disk}.get(how, 0)
    limits = jobs.Limits(seconds=SECONDS) if how in BY_TIME else replace(LIMITS, seconds=60.0)
    names = ("validate", "split", "train")
    steps = tuple(
        pipelines.StepSection(
            name=name,
            uses=name,
            after=names[place - 1 : place] if place else (),
            limits=limits if name == "train" else jobs.Limits(),
        )
        for place, name in enumerate(names)
    )
    definition = pipelines.Definition(
        name="limits",
        data=pipelines.DataSection(target="target", builtin="iris"),
        train=pipelines.TrainSection(
            run="train.py:train",
            interpreter=str(python),
            params={"how": how, "mark": str(folder / "mark"), "most": most},
        ),
        steps=steps,
    )
    spec = pipelines.PipelineSpec(
        pipeline_run="pipe-1",
        run="run-1",
        definition=definition,
        sources={"train.py": digest},
        store=str(folder / "store"),
        checkpoints=str(folder / "checkpoints"),
    )
    job = jobs.JobSpec(job="job-1", kind="pipeline", spec=msgspec.to_builtins(spec))
    (folder / "spec.json").write_bytes(msgspec.json.encode(job))
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "quarterdeckd.pipeline.worker", str(folder)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def marks(folder: Path, word: str) -> list[str]:
    """What the code wrote of itself."""
    path = folder / "mark"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1] for line in lines if line.startswith(word)]


def note_ends(running: dict[str, subprocess.Popen[bytes]], ends: dict[str, float]) -> bool:
    """When each process ended; whether all have."""
    ends.update({how: time.time() for how in running if how not in ends and running[how].poll() is not None})
    return len(ends) == len(running)


def test_code_that_does_not_stop_is_stopped_at_its_limit_with_all_it_started(
    tmp_path: Path, bare: Path, report: Any
) -> None:
    began = time.time()
    running = {how: begun(tmp_path / how, how, bare) for how in REASONS}
    ends: dict[str, float] = {}
    try:
        until(lambda: note_ends(running, ends), 60, f"end of {sorted(running)}")
        wrong, late = [], {}
        for how, words in REASONS.items():
            folder = tmp_path / how
            result = json.loads((folder / "result.json").read_bytes())
            if result["ok"] or not result["error"].startswith(words):
                wrong.append(f"{how}: {result}")
            pids = [int(each) for each in marks(folder, "pid")]
            wrong += [f"{how}: {len(pids)} processes were started"] * (len(pids) < (10 if how == "forks" else 3))
            if left := [pid for pid in pids if lives(pid)]:
                wrong.append(f"{how}: {left} live on")
            since = marks(folder, "over")
            start = float(marks(folder, "begun")[0]) + SECONDS
            late[how] = ends[how] - (float(since[0]) if since else start)
            wrong += [f"{how}: {late[how]:.1f} s late"] * (late[how] > LATE)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    assert began < min(ends.values())
    report("F45", len(REASONS), len(wrong), None, **{how: f"{value:.2f}s" for how, value in late.items()})
    assert wrong == []
