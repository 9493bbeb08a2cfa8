"""A challenger against its champion through a real daemon: worse or unfair is registered REJECTED and goes nowhere."""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records.deployments import ListDeployments, ShowServing
from quarterstore.records.registry import ListVersions, ShowVersion
from tests.conftest import Daemon

DEFINITION = """
name = "p"
model = "{model}"
[data]
file = "{file}"
target = "y"
ignore = ["sex"]
[train]
learner = "logistic"
[evaluate]
slices = ["job"]
fairness = ["sex"]
{more}
"""


def rows(path: Path, signal: float, unfair: float = 0.0, seed: int = 1) -> None:
    """A number that tells the class by `signal`, and a job that tells the sex, which is `unfair` to."""
    chance = random.Random(seed)
    lines = ["size,job,sex,y"]
    for number in range(1200):
        sex, size = ("f", "m")[number % 2], chance.gauss(0, 1)
        value = signal * size + (unfair if sex == "m" else -unfair) + chance.gauss(0, 0.5)
        lines.append(f"{size:.5f},{'smith' if sex == 'm' else 'clerk'},{sex},{'yes' if value > 0 else 'no'}")
    path.write_text("\n".join(lines) + "\n")


def run(daemon: Daemon, folder: Path, file: str, more: str = "", model: str = "m") -> Any:
    """A pipeline over the rows of a file, to its end."""
    (folder / "p.toml").write_text(DEFINITION.format(file=file, more=more, model=model))
    return daemon.qd("--json", "pipeline", "run", str(folder / "p.toml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows to learn well from, and rows where the sex decides."""
    rows(tmp_path / "good.csv", 2.0)
    rows(tmp_path / "unfair.csv", 0.6, unfair=0.8)
    return tmp_path


def test_a_challenger_that_is_worse_is_registered_rejected_and_the_live_model_untouched(
    daemon: Daemon, folder: Path
) -> None:
    first = run(daemon, folder, "good.csv")
    assert first.returncode == 0, first.stderr
    steps = {step["name"]: step for step in json.loads(first.stdout)["steps"]}
    assert "worst of 2 slices: job = " in steps["evaluate"]["words"]
    assert steps["evaluate"]["figures"]["importance"]["features"][0]["feature"] == "size"
    for stage in ("Staging", "Production"):
        assert daemon.qd("promote", "m@1", stage).returncode == 0
    assert daemon.qd("deploy", "m@1", "--wait").returncode == 0
    same = run(daemon, folder, "good.csv", '[deploy]\nthen = "staging"\n').stdout
    assert json.loads(same)["version"] == "m@1" and "m@1 is in Production already" in same
    assert "accuracy against m@1 on the same rows +0 (" in same and "no worse" in same
    text = (
        (folder / "p.toml")
        .read_text()
        .replace('learner = "logistic"', 'learner = "mlp"\nparams = { epochs = 1, hidden = [2], rate = 1e-9 }')
    )
    (folder / "p.toml").write_text(text)
    done = daemon.qd("--json", "pipeline", "run", str(folder / "p.toml"))
    assert done.returncode == 1 and "REJECTED: worse: accuracy against m@1" in done.stderr, done.stderr + done.stdout
    with daemon.client() as client:
        version = client.ask(ShowVersion(version="m@2"))
        assert version.rejected.startswith("worse: accuracy against m@1 on the same rows -")
        assert version.stage == "None"
        assert [each.live for each in client.ask(ListDeployments())] == ["m@1"]
        assert client.ask(ShowVersion(version="m@1")).stage == "Production"
    refused = daemon.qd("promote", "m@2", "Staging")
    assert (
        refused.returncode == 6
        and refused.stderr.startswith("error: verdict: REJECTED: worse")
        and "--reason" in refused.stderr
    )
    assert (
        "REJECTED" in daemon.qd("version", "show", "m@2").stdout
        or "rejected" in daemon.qd("version", "show", "m@2").stdout
    )
    assert daemon.qd("promote", "m@2", "Staging", "--reason", "a rehearsal").returncode == 0
    production = daemon.qd("promote", "m@2", "Production")
    assert production.returncode == 6 and "REJECTED: worse" in production.stderr
    assert daemon.qd("promote", "m@2", "Production", "--reason", "as agreed").returncode == 0


def test_a_model_that_is_unfair_beyond_its_gate_is_rejected(daemon: Daemon, folder: Path) -> None:
    """Differences between groups are metrics of the version, with intervals; so is the worst slice."""
    gate = "[gate.limits]\ndemographic_parity = 0.1\nworst_slice_accuracy = 0.1\n"
    held = run(daemon, folder, "good.csv", gate.replace("0.1", "0.2"), model="fair")
    assert held.returncode == 0, held.stderr
    done = run(daemon, folder, "unfair.csv", gate, model="fair")
    assert done.returncode == 1 and "REJECTED: unfair: demographic parity" in done.stderr, done.stderr
    with daemon.client() as client:
        first, second = reversed(client.ask(ListVersions(model="fair")))
    assert not first.rejected and second.rejected.startswith("unfair: demographic parity 0.")
    metrics = {metric.name: metric for metric in second.metrics}
    for name in ("demographic parity", "equalised odds", "calibration gap", "worst slice accuracy"):
        assert metrics[name].low is not None and metrics[name].n is not None
    assert (
        metrics["demographic parity"].value
        > 0.3
        > 0.15
        > {m.name: m for m in first.metrics}["demographic parity"].value
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("margin = -1.0", "evaluate.margin"),
        ('metric = "f1"', "evaluate.metric"),
    ],
)
def test_a_section_that_is_none_is_refused(daemon: Daemon, folder: Path, more: str, said: str) -> None:
    done = run(daemon, folder, "good.csv", more)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    (folder / "p.toml").write_text(
        DEFINITION.format(file="good.csv", more="", model="m").replace('["sex"]\n\n', '["gender"]\n')
    )
    gone = daemon.qd("pipeline", "run", str(folder / "p.toml"))
    assert gone.returncode == 4 and "evaluate.fairness" in gone.stderr, gone.stderr


def test_rows_that_serving_never_saw_the_like_of_have_an_answer_or_a_sentence(daemon: Daemon, folder: Path) -> None:
    """A category never learnt and columns in another order are answered; a column that lacks, or of text, is named."""
    assert run(daemon, folder, "good.csv", model="edges").returncode == 0
    for stage in ("Staging", "Production"):
        assert daemon.qd("promote", "edges@1", stage).returncode == 0
    assert daemon.qd("deploy", "edges@1", "--wait").returncode == 0
    with daemon.client() as client:
        address = client.ask(ShowServing()).address

    def asked(rows: str) -> tuple[int, str]:
        request = urllib.request.Request(
            f"{address}/v1/predict/edges", f'{{"rows": [{rows}]}}'.encode(), {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    plain, turned, unseen = (
        asked(row)
        for row in ('{"size": 2, "job": "smith"}', '{"job": "smith", "size": 2}', '{"size": 2, "job": "baker"}')
    )
    assert plain[0] == turned[0] == unseen[0] == 200, (plain, turned, unseen)
    status, words = asked('{"size": 2}')
    assert status == 400 and "job" in words
    status, words = asked('{"size": "two", "job": "smith"}')
    assert status == 400 and "size" in words
    assert asked("")[0] == 400
