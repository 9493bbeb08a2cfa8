"""A person's code in an environment of its own, from the definition on the disk to a version: `qd pipeline run`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records import packages, pipelines, registry, runs
from tests.faults.test_jobs import lives, until
from tests.pipeline.test_own_code import SAFETENSORS, STDLIB, classifier, environment
from tests.pipeline.test_run import rows

FIRST = 'name = "own"\nmodel = "own"\n[data]\nfile = "rows.csv"\ntarget = "y"\nignore = ["day", "house"]\n[train]\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a person's: rows, code, a model that the code hands out, a venv beside them."""
    folder = tmp_path_factory.mktemp("own")
    rows(folder / "rows.csv")
    (folder / "train.py").write_text(STDLIB)
    (folder / "model.bin").write_bytes(classifier())
    environment(folder / "venv")
    return folder


def defined(place: Path, name: str, train: str) -> str:
    """A definition beside the code."""
    (place / name).write_text(FIRST + train)
    return str(place / name)


def run_of(daemon: Any, *words: str) -> dict[str, Any]:
    """A pipeline run to its end, by the command."""
    done = daemon.qd("pipeline", "run", *words, "--wait", "--json", "--timeout", "60")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_folder_of_code_runs_in_its_own_environment_and_becomes_a_version(daemon: Any, place: Path) -> None:
    """The snapshot is what was there when the run was asked for, and it is kept with the run."""
    path = defined(
        place,
        "own.toml",
        'run = "train.py:train"\ninterpreter = "venv/bin/python"\ncode = "."\nparams = { rate = 0.5 }\n',
    )
    with daemon.client() as client:
        found = run_of(daemon, path)
        version = client.ask(registry.ShowVersion(version=found["version"]))
        assert version.format == "onnx" and any(each.name == "accuracy" for each in version.metrics)
        run = client.ask(runs.ShowRun(run=found["run"]))
        assert run.source.interpreter == str(place / "venv" / "bin" / "python")
        assert run.source.python == sys.version.partition(" ")[0]
        assert (run.name, run.params["rate"]) == ("train.py:train", 0.5)
        assert {"accuracy", "nothing"} <= set(run.metrics)
        shown = client.ask(pipelines.ShowPipelineRun(pipeline_run=found["id"]))
        assert set(shown.sources) == {"train.py", "model.bin"} and shown.code
        assert any("said by the code" in line for line in client.ask(pipelines.PipelineLog(shown.id, "train")))
        (place / "train.py").write_text("changed")
        client.ask(pipelines.RerunPipeline(pipeline="own"))
        again = until(lambda: newest(client, "own"), 60, "end of the second run")
        assert again.state == "SUCCEEDED", again.error
        assert {step.how for step in again.steps if step.uses in ("train", "evaluate")} == {"cached"}
        (place / "train.py").write_text(STDLIB)


def newest(client: Any, pipeline: str) -> pipelines.PipelineRun | None:
    """The newest run of a pipeline, once it is over."""
    found: pipelines.PipelineRun = client.ask(pipelines.ListPipelineRuns(pipeline=pipeline))[0]
    return found if found.state in ("SUCCEEDED", "FAILED", "CANCELLED", "LOST") else None


def test_what_is_installed_in_its_environment_is_kept_with_the_run(daemon: Any, place: Path) -> None:
    inside = next((place / "venv" / "lib").glob("python*/site-packages"))
    (inside / "some_package-1.2.3.dist-info").mkdir()
    path = defined(
        place, "packages.toml", 'run = "own.py:train"\ninterpreter = "venv/bin/python"\nparams = { predict = true }\n'
    )
    (place / "own.py").write_text(SAFETENSORS)
    found = run_of(daemon, path)
    with daemon.client() as client:
        assert client.ask(packages.ShowPackages(packages=found["run"])).packages == ("some_package==1.2.3",)
        version = client.ask(registry.ShowVersion(version=found["version"]))
        assert version.format == "safetensors" and any(each.name == "accuracy" for each in version.metrics)
    done = daemon.qd("deploy", version.id, "--yes")
    assert done.returncode != 0 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ('run = "train.py:train"\ninterpreter = "gone/bin/python"\n', "a Python that is there and may be executed"),
        (
            'run = "gone.py:train"\ninterpreter = "venv/bin/python"\n',
            "got gone.py, expected a file of that name beside the definition",
        ),
        ('run = "train.py:train"\n', "train.interpreter: got nothing"),
        ('python = "train.py:train"\ncommand = ["true"]\n', "got python and command"),
        ('command = ["./train.sh", "{row}"]\n', "got {row}, expected {rows}"),
        ('command = "train.sh"\n', "train.command: got str, expected array"),
        ('run = "train.py:train"\ninterpreter = "venv/bin/python"\ncode = "gone"\n', "a folder beside the definition"),
        ('python = "train.py:train"\ncode = "."\n', "train.code"),
        ('python = "train.py:trian"\n', "train.python: got trian, expected one of "),
    ],
)
def test_a_definition_that_cannot_be_run_is_one_line_and_nothing_is_kept(
    daemon: Any, place: Path, train: str, words: str
) -> None:
    with daemon.client() as client:
        before = client.ask(pipelines.ListPipelineRuns())
        done = daemon.qd("pipeline", "run", defined(place, "wrong.toml", train))
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert client.ask(pipelines.ListPipelineRuns()) == before


def test_a_cancelled_run_takes_the_process_of_the_code_along(daemon: Any, place: Path) -> None:
    mark = place / "mark"
    (place / "waits.py").write_text(
        "import os, signal, time\n"
        "def train(given, log):\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    open(given.params['mark'], 'w').write(str(os.getpid()))\n"
        "    time.sleep(300)\n"
    )
    train = f'run = "waits.py:train"\ninterpreter = "venv/bin/python"\nparams = {{ mark = "{mark}" }}\n'
    done = daemon.qd("pipeline", "run", defined(place, "waits.toml", train), "--no-wait", "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)["job"]
    pid = int(until(lambda: mark.exists() and mark.read_text(), 60, "start of the code"))
    assert daemon.qd("jobs", "cancel", "--job", job).returncode == 0
    until(lambda: not lives(pid), 30, "end of the code")
