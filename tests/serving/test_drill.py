"""A drill with a real launcher and real hosts: what is measured, what goes wrong, and that nothing is left."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import psutil
import pytest

from quarterdeckd.serving import drill
from quarterstore.records.deployments import Route, Slot
from quarterstore.records.drills import DrillResult, DrillSpec
from quarterstore.records.jobs import JobSpec


class Said:
    def progress(self, name: str, fraction: float | None = None, words: str = "") -> None: ...


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A job's folder, as the worker's process has it."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not processes(tmp_path), "the sandbox goes on"


def processes(folder: Path) -> list[psutil.Process]:
    """Those of a sandbox below a folder."""
    found = []
    for each in psutil.process_iter(["cmdline"]):
        if str(folder) in " ".join(each.info["cmdline"] or ()) and "quarterdeckd.serving" in str(each.info["cmdline"]):
            found.append(each)
    return found


def golden(folder: Path, bias: float) -> tuple[str, str]:
    """Two golden rows of y = x @ 0.25 + bias."""
    rows = [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]]
    answers = [[sum(row) * 0.25 + bias] * 2 for row in rows]
    path = folder / f"golden-{bias}.json"
    path.write_text(json.dumps({"inputs": {"x": rows}, "outputs": {"y": answers}}))
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def spec(before: tuple[Slot, ...], after: Slot, **about: Any) -> DrillSpec:
    fields = {
        "endpoint": "e", "live": before[0].version, "to": after.version, "rate": 40.0, "seconds": 0.8, "hosts": 1,
        "within": 20.0, "before": Route(endpoint="e", epoch=7, slots=before, salt="s"),
        "after": Route(endpoint="e", epoch=8, slots=(after,), salt="s"),
    }  # fmt: skip
    return DrillSpec(**fields | about)


def kept(folder: Path, value: float) -> dict[str, Any]:
    """Five rows that `m@2` answered to four features of this value."""
    about = {"row": 0, "at": 1.0, "version": "m@2", "status": 200, "latency": 1.0, "score": 1.0, "role": "live"}
    features = {f"f{at}": value for at in range(4)}
    rows = [{"id": f"p{number}", "prediction": None, **about, **features} for number in range(5)]
    pl.DataFrame(rows, schema_overrides={"prediction": pl.String}).write_parquet(folder / "p.parquet")
    return {"predictions": (str(folder / "p.parquet"),), "features": {"m@2": tuple(features)}}


def done(asked: DrillSpec) -> DrillResult:
    return drill.run(asked, Said())


def test_a_switch_under_traffic_fails_no_request_and_is_timed(job: Path, slot: Any) -> None:
    path, digest = golden(job, 0.0)
    found = done(spec((slot("m@2", 1.0),), slot("m@1"), hosts=2, golden=path, golden_digest=digest))
    assert found.ok, found.words
    assert (found.failed, found.wrong, found.golden, found.source) == (0, (), 2, "golden")
    assert found.requests >= 40
    assert found.acknowledged is not None and 0 < found.acknowledged < 20_000
    assert found.first_new is not None and found.last_old is not None
    assert found.first_new > 0 and found.last_old >= 0
    assert found.p95_before is not None and found.p95_after is not None
    assert not (job / "out" / "sandbox").exists()


def test_a_canary_is_rehearsed_with_both_arms(job: Path, slot: Any) -> None:
    arms = (slot("m@1", share=50), slot("m@2", 1.0, share=50, role="candidate"))
    found = done(spec(arms, slot("m@1")))
    assert found.ok, found.words
    assert found.source == "zeros" and found.golden == 0 and "no golden rows" in found.words


def test_what_was_recorded_is_what_is_asked(job: Path, slot: Any) -> None:
    found = done(spec((slot("m@2", 1.0),), slot("m@1"), **kept(job, 3.0)))
    assert found.ok and found.source == "recorded", found.words


@pytest.mark.parametrize("harm", ["gone", "other bytes", "no model"])
def test_a_former_version_that_cannot_take_over_is_found_out(job: Path, slot: Any, harm: str) -> None:
    after = slot("m@1")
    file = Path(after.path)
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    if harm == "no model":
        after = msgspec.structs.replace(after, digest=hashlib.sha256(file.read_bytes()).hexdigest())
    found = done(spec((slot("m@2", 1.0),), after))
    assert not found.ok and found.requests == 0
    assert found.words.startswith("m@2 to m@1 went wrong: m@1 cannot take over: ")


def test_golden_rows_that_are_answered_otherwise_are_found_out(job: Path, slot: Any) -> None:
    path, digest = golden(job, 5.0)
    found = done(spec((slot("m@2", 1.0),), slot("m@1"), golden=path, golden_digest=digest))
    assert not found.ok and "got a difference of 5" in found.words


def test_requests_that_fail_after_the_switch_are_counted(job: Path, slot: Any) -> None:
    """The former version takes the logarithm of what the live one answers."""
    found = done(spec((slot("m@2", 0.0),), slot("m@1", 1.0, "Log"), **kept(job, -9.0)))
    assert not found.ok and 0 < found.failed < found.requests
    assert "requests failed" in found.words and "not finite" in found.words


def test_a_switch_that_takes_longer_than_it_may_is_no_good_drill(job: Path, slot: Any) -> None:
    found = done(spec((slot("m@2", 1.0),), slot("m@1"), within=0.0001))
    assert not found.ok and "expected at most 0.0001 s" in found.words


def test_killed_with_its_group_it_leaves_nothing_that_runs(job: Path, slot: Any) -> None:
    """As the supervisor does it with what a job left, its process dead by kill -9."""
    asked = spec((slot("m@2", 1.0),), slot("m@1"), seconds=30.0)
    written = JobSpec(job="job-1", kind="drill", spec=msgspec.to_builtins(asked))
    (job / "spec.json").write_bytes(msgspec.json.encode(written))
    command = [sys.executable, "-m", "quarterdeckd.pipeline.worker", str(job)]
    worker = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 40
    progress = job / "progress.jsonl"
    while not (progress.exists() and '"before"' in progress.read_text()):
        assert time.monotonic() < deadline and worker.poll() is None
        time.sleep(0.05)
    assert len(processes(job / "out")) == 2  # the launcher and its host
    assert [path.name for path in (job / "out").rglob("*.sock")] == ["serving.sock"]  # and so it goes with the folder
    assert {os.getpgid(each.pid) for each in processes(job / "out")} == {worker.pid}
    worker.kill()
    worker.wait()
    os.killpg(worker.pid, signal.SIGKILL)
    while processes(job / "out"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
