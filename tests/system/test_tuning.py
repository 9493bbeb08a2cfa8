"""`qd tune` through a real daemon: searched, watched, killed with the daemon, resumed to exactly the number asked."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import click
import pytest

from quarterstore.records import jobs, studies
from tests.conftest import Daemon, _made
from tests.decks import until

SLOW = "import time\ndef objective(trial):\n    time.sleep(0.02)\n    return (trial.params['x'] - 3) ** 2\n"
STUDY = """
name = "slow"
objective = "objective.py:objective"
[objectives]
loss = "minimise"
[space.x]
kind = "float"
low = -10
high = 10
"""
ROWS = """
name = "wine"
[objectives]
accuracy = "maximise"
[data]
builtin = "wine"
target = "target"
[budget]
trials = 6
[space.learner]
kind = "choice"
choices = ["forest", "boosting"]
[space.trees]
kind = "int"
low = 5
high = 20
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"slow.toml": STUDY, "objective.py": SLOW, "wine.toml": ROWS}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def listed(daemon: Daemon, *words: str | Path) -> list[Any]:
    """The records a command answers, one a line."""
    ran = daemon.qd("--json", "tune", *map(str, words))
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_a_study_killed_with_its_daemon_is_resumed_to_exactly_its_trials(absent: Daemon, folder: Path) -> None:
    absent.start()
    [asked] = listed(absent, "run", folder / "slow.toml", "--workers", "4", "--trials", "100", "--no-wait")
    study = asked["id"]
    until(lambda: len(listed(absent, "trials", study)) >= 20)
    with absent.client() as client:
        job = client.ask(jobs.ShowJob(job=client.ask(studies.ShowStudy(study=study)).job))
    absent.stop(signal.SIGKILL)
    assert job.pid is not None
    os.kill(job.pid, signal.SIGKILL)
    until(lambda: not session(job.pid))
    absent.start()
    with absent.client() as client:
        until(lambda: client.ask(studies.ShowStudy(study=study)).state == "LOST")
    kept = listed(absent, "trials", study)
    assert 20 <= len(kept) < 100
    ran = absent.qd("tune", "resume", study)
    assert ran.returncode == 0, ran.stderr
    assert "order-dependent" in ran.stderr and "100 trials" in ran.stderr
    trials = listed(absent, "trials", study)
    assert [trial["number"] for trial in trials] == list(range(100))
    assert [trial for trial in trials if trial in kept] == kept
    [best] = listed(absent, "best", study)
    assert best["values"] == [min(trial["values"][0] for trial in trials)]
    assert absent.qd("tune", "resume", study).returncode == 5
    [shown] = listed(absent, "show", study)
    assert (shown["state"], shown["result"]["complete"]) == ("SUCCEEDED", 100)


def session(leader: int | None) -> list[int]:
    """What lives in the session of a job's process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def test_rows_are_tuned_over_and_the_winner_is_registered(daemon: Daemon, folder: Path) -> None:
    ran = daemon.qd("tune", "run", str(folder / "wine.toml"))
    assert ran.returncode == 0, ran.stderr
    assert "on 45 rows that no trial saw" in ran.stderr and "HONEST" in ran.stdout
    [study] = listed(daemon, "list", "--name", "wine")
    for word in ("show", "trials", "best"):
        assert listed(daemon, word, "wine") == listed(daemon, word, study["id"])
    registered = daemon.qd("tune", "register", "wine")
    assert registered.returncode == 0, registered.stderr
    assert "wine@1" in registered.stdout and len(registered.stdout.splitlines()) < 25
    assert daemon.qd("tune", "pareto", study["id"]).returncode == 2


def test_a_definition_behind_tune_is_run() -> None:
    from quarterdeck.cli.generated import Noun
    from quarterdeck.cli.short.tuning import tune_group

    noun = Noun("tune", tune_group())
    name, _, rest = noun.resolve_command(click.Context(noun), ["t.toml", "--workers", "4"])
    assert (name, rest) == ("run", ["t.toml", "--workers", "4"])
    with pytest.raises(click.UsageError, match="got sho, expected a known command; nearest: show"):
        noun.resolve_command(click.Context(noun), ["sho"])


def test_a_study_that_is_stopped_leaves_nobody_behind(daemon: Daemon, folder: Path) -> None:
    words = ("--workers", "2", "--trials", "100000", "--no-wait")
    [asked] = listed(daemon, "run", folder / "slow.toml", *words)
    with daemon.client() as client:
        until(lambda: client.ask(studies.ListTrials(study=asked["id"])))
        leader = client.ask(jobs.ShowJob(job=asked["job"])).pid
    assert len(session(leader)) == 3
    [stopped] = listed(daemon, "stop", asked["id"], "--reason", "enough")
    assert stopped["state"] == "CANCELLED"
    until(lambda: not session(leader))
    assert listed(daemon, "best", asked["id"], "--top", "3")
    none = daemon.qd("tune", "best", asked["id"], "--top", "0")
    assert (none.returncode, none.stderr) == (2, "error: top: got 0, expected 1 to 100000\n")


@pytest.mark.parametrize(
    ("file", "before", "after", "words"),
    [
        ("slow.toml", "low = -10", "low = 20", "space.x.low: got 20.0, expected at most high (10)"),
        ("slow.toml", "low = -10", "low = 0\nlog = true", "space.x.low: got 0.0, expected above 0"),
        ("slow.toml", 'kind = "float"', 'kind = "flaot"', "space.x.kind: got flaot"),
        ("slow.toml", "low = -10", "lowest = -10", "space.x.lowest: got lowest"),
        ("slow.toml", '"minimise"', '"minimize"', "objectives.loss: got minimize, expected maximise or minimise"),
        ("slow.toml", "low = -10", "low = -10\nwhen = { y = 1 }", "space.x.when: got y, expected nothing"),
        ("slow.toml", "objective.py:", "nowhere.py:", "file: got nowhere.py"),
        ("slow.toml", "py:objective", "py:objektive", "objective: got objektive, expected one of objective"),
        ("objective.py", "def objective(", "def objective((", "objective.py: got line "),
        ("wine.toml", '["forest", "boosting"]', "[]", "space.learner.choices: got 0 choices"),
        ("wine.toml", "space.trees", "space.tree", "space.tree (forest): got tree"),
        ("wine.toml", '"wine"\ntarget', '"whine"\ntarget', "data.builtin: got whine"),
        ("wine.toml", "name =", "nam =", "nam: got nam"),
        ("wine.toml", "[objectives]", "[objectives", "no TOML"),
    ],
)
def test_a_bad_study_exits_before_trial_one_and_leaves_nothing(
    daemon: Daemon, folder: Path, file: str, before: str, after: str, words: str
) -> None:
    text = (folder / file).read_text()
    assert before in text
    (folder / file).write_text(text.replace(before, after))
    with daemon.client() as client:
        head = client.status().seq
        ran = daemon.qd("tune", "run", str(folder / ("slow.toml" if file == "objective.py" else file)))
        assert ran.returncode == (4 if "whine" in words else 2), ran.stderr
        assert words in ran.stderr and len(ran.stderr.splitlines()) == 1
        assert client.status().seq == head


PIPELINE = """
name = "tuned"
model = "tuned"
[data]
builtin = "wine"
target = "target"
[train]
learner = "logistic"
params = { iterations = 50 }
[tune]
objectives = { accuracy = "maximise" }
budget = { trials = 4 }
[tune.space.c]
kind = "float"
low = 0.01
high = 10
log = true
"""


def test_a_pipeline_tunes_before_it_trains_and_does_so_once(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "tuned.toml"
    path.write_text(PIPELINE)
    ran = daemon.qd("--json", "pipeline", "run", str(path))
    assert ran.returncode == 0, ran.stderr
    steps = {step["name"]: step for step in json.loads(ran.stdout)["steps"]}
    assert list(steps)[:4] == ["validate", "split", "tune", "train"]
    chosen = steps["tune"]["figures"]["params"]["c"]
    assert steps["train"]["figures"]["params"] == {"c": chosen, "iterations": 50}
    assert "on 45 rows that no trial saw" in steps["tune"]["words"]
    assert "45 held out" in steps["split"]["words"]
    again = daemon.qd("--json", "pipeline", "run", str(path))
    assert {step["name"]: step["how"] for step in json.loads(again.stdout)["steps"]}["tune"] == "cached"
    for before, after, words in (
        ("low = 0.01", "low = 11", "space.c.low: got 11"),
        ("space.c]", "space.cc]", "space.cc (logistic): got cc"),
        ("accuracy =", "acuracy =", "objectives: got acuracy"),
    ):
        path.write_text(PIPELINE.replace(before, after))
        refused = daemon.qd("pipeline", "run", str(path))
        assert refused.returncode == 2 and words in refused.stderr, refused.stderr


def test_a_study_is_gone_on_with_in_a_store_that_was_restored_while_it_ran(absent: Daemon, folder: Path) -> None:
    absent.start()
    [asked] = listed(absent, "run", folder / "slow.toml", "--workers", "1", "--trials", "100000", "--no-wait")
    until(lambda: len(listed(absent, "trials", asked["id"])) >= 10)
    made = absent.qd("backup", str(folder / "b.tar"))
    assert made.returncode == 0, made.stderr
    listed(absent, "stop", asked["id"])
    again = _made()
    try:
        restored = again.qd("restore", str(folder / "b.tar"))
        assert restored.returncode == 0, restored.stderr
        shutil.copytree(absent.home.keys, again.home.keys)
        again.start()
        with again.client() as client:
            until(lambda: client.ask(studies.ShowStudy(study=asked["id"])).state == "LOST")
        kept = listed(again, "trials", asked["id"])
        assert len(kept) >= 10
        count = len(kept) + 20
        [done] = listed(again, "resume", asked["id"], "--trials", count)
        trials = listed(again, "trials", asked["id"])
        assert done["state"] == "SUCCEEDED" and [each["number"] for each in trials] == list(range(count))
        assert trials[: len(kept)] == kept
    finally:
        again.end()


def test_a_study_that_is_removed_leaves_no_file(daemon: Daemon, folder: Path) -> None:
    [asked] = listed(daemon, "run", folder / "slow.toml", "--trials", "100000", "--no-wait")
    place = daemon.home.studies / asked["id"]
    until(lambda: listed(daemon, "trials", asked["id"]))
    refused = daemon.qd("tune", "remove", asked["id"])
    assert refused.returncode == 5 and f"qd tune stop {asked['id']}" in refused.stderr and place.is_dir()
    listed(daemon, "stop", asked["id"])
    assert listed(daemon, "remove", asked["id"])[0]["id"] == asked["id"]
    until(lambda: not place.exists())
    assert daemon.qd("tune", "show", asked["id"]).returncode == 4
