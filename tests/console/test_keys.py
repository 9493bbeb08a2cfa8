"""Keys of people in files and in the keyring, and the key a job is given."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from quarterdeck import keys
from quarterstore.records import jobs, people, pipelines, runs
from quarterstore.records.faults import Conflict

pytest.importorskip("keyring", reason="the extra `keyring` is not installed")

FILE_KEYRING = """
import json, os, pathlib
from keyring.backend import KeyringBackend

class FileKeyring(KeyringBackend):
    priority = 9
    path = pathlib.Path(os.environ["QD_TEST_KEYRING"])

    def _all(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def get_password(self, service, name):
        return self._all().get(service + "/" + name)

    def set_password(self, service, name, secret):
        self.path.write_text(json.dumps({**self._all(), service + "/" + name: secret}))
"""
"""A keyring outside the machine's desktop: a backend of the library's own kind, chosen by its own variable."""


def test_without_a_desktop_a_key_is_refused_not_put_into_a_file(daemon: Any) -> None:
    """V17: no silent fall back to plain text."""
    environ = {**daemon.environ, "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    words = ["keys", "add", "nora", "--role", "viewer", "--keyring"]
    done = subprocess.run(
        [sys.executable, "-m", "quarterdeck.cli.main", "--home", str(daemon.home.root), *words],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 6, done.stderr
    assert "keyring" in done.stderr and "Traceback" not in done.stderr
    assert not daemon.home.secret_key("nora").exists() and not daemon.home.keyring_mark("nora").exists()


def test_a_key_in_the_keyring_speaks_and_is_in_no_file(daemon: Any, tmp_path: Path) -> None:
    (tmp_path / "file_keyring.py").write_text(FILE_KEYRING)
    environ = {
        **daemon.environ,
        "PYTHONPATH": str(tmp_path),
        "PYTHON_KEYRING_BACKEND": "file_keyring.FileKeyring",
        "QD_TEST_KEYRING": str(tmp_path / "kept"),
    }

    def qd(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "quarterdeck.cli.main", "--home", str(daemon.home.root), *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)

    assert qd("keys", "add", "mia", "--role", "viewer", "--keyring").returncode == 0
    assert not daemon.home.secret_key("mia").exists()
    who = qd("--as", "mia", "people", "who-am-i", "--json")
    assert who.returncode == 0 and '"person":"mia"' in who.stdout.replace(" ", ""), who.stderr
    with pytest.raises(Conflict):
        keys.make(daemon.home, "mia")


def test_a_job_asks_with_a_key_of_its_own_that_writes_its_own_run_only(absent: Any, tmp_path: Path) -> None:
    """A person's training code runs in a job: it must not speak as the owner."""
    told = tmp_path / "told"
    (tmp_path / "train.py").write_text(f"""
import os, pathlib
import quarterdeck
from quarterstore.records import registry, runs
from quarterstore.records.faults import Fault
from sklearn.linear_model import LogisticRegression

def train(frame, target, params, log):
    said = []
    with quarterdeck.connect() as deck:
        deck.ask(runs.SetTags(run=os.environ["QUARTERDECK_RUN"], tags={{"mine": "yes"}}))
        others = runs.SetTags(run=os.environ["OTHER"], tags={{"a": "b"}})
        for act in (registry.MoveStage(version="m@1.0.0", stage="Production"), others):
            try:
                deck.ask(act)
                said.append("done")
            except Fault as fault:
                said.append(type(fault).__name__)
    pathlib.Path({str(told)!r}).write_text(" ".join(said) + " " + os.environ["QUARTERDECK_AS"])
    return LogisticRegression(max_iter=200).fit(frame.drop(target).to_numpy(), frame[target].to_numpy())
""")
    (tmp_path / "own.toml").write_text(
        'name = "own"\nmodel = "own"\n[data]\nbuiltin = "breast_cancer"\ntarget = "target"\n'
        '[train]\npython = "train.py:train"\n'
    )
    absent.start()
    with absent.client() as client:
        other = client.ask(runs.StartRun(experiment="another")).id
    absent.stop()
    absent.start(OTHER=other)
    with absent.client() as client:
        done = absent.qd_process("pipeline", "run", str(tmp_path / "own.toml"), "--wait", "--json", "--timeout", "90")
        assert done.returncode == 0, done.stderr
        pipeline = client.ask(pipelines.ListPipelineRuns())[0]
        assert client.ask(runs.ShowRun(run=pipeline.run)).tags["mine"] == "yes"
        job = client.ask(jobs.ShowJob(job=pipeline.job))
        assert told.read_text() == f"Forbidden Forbidden {job.id}"
        key = next(found for found in client.ask(people.ListKeys()) if found.job == job.id)
        assert key.revoked is not None and key.run == pipeline.run
    deadline = time.monotonic() + 10
    while absent.home.secret_key(job.id).exists() and time.monotonic() < deadline:
        os.sched_yield()
    assert not absent.home.secret_key(job.id).exists()


def test_a_refused_key_leaves_nothing_behind(daemon: Any) -> None:
    done = daemon.qd_process("keys", "add", "otto", "--role", "captain")
    assert done.returncode == 2 and "captain" in done.stderr
    assert not daemon.home.secret_key("otto").exists()
