"""Pipelines through the command line and a real daemon: cached, resumed, answered, preempted, killed in the middle."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records import jobs, pipelines, registry
from quarterstore.records.faults import NotFound
from quarterstore.records.pipelines import CACHED
from tests.faults.test_jobs import lives

STEPS = """
import os, pathlib, time

def first(step):
    (step.out / "x.txt").write_text("x")
    print("first was here")
    return {"rows": 3}

def second(step):
    raise ValueError("a bug")

def turns(step):
    print("a word of its own")
    os.symlink(step.params["secret"], "../link")
    os.replace("../link", "../log.txt")
    with open("../../../progress.jsonl", "ab") as file:
        file.write(b"x" * (3 << 20) + b"\\n")
    (step.out / "y.txt").write_text("y")
    return {"done": 1}

def many(step):
    return {"figures": "x" * (5 << 20)}

def waits(step):
    with open(step.params["mark"], "a") as file:
        file.write(f"{os.getpid()} {os.getppid()}\\n")
    while not os.path.exists(step.params["go"]):
        time.sleep(0.02)
    return {"tries": len(pathlib.Path(step.params["mark"]).read_text().splitlines())}
"""
TWO = """
name = "two"
[[steps]]
name = "first"
run = "steps.py:first"
[[steps]]
name = "second"
run = "steps.py:second"
after = ["first"]
"""
TRAIN = """
name = "flowers"
model = "flowers"
[data]
builtin = "iris"
target = "target"
"""
WAITS = """
[[steps]]
name = "wait"
run = "steps.py:waits"
retries = 1
params = { mark = "MARK", go = "GO" }
[[steps]]
name = "validate"
uses = "validate"
after = ["wait"]
[[steps]]
name = "split"
uses = "split"
after = ["validate"]
[[steps]]
name = "train"
uses = "train"
after = ["split"]
[[steps]]
name = "evaluate"
uses = "evaluate"
after = ["train"]
[[steps]]
name = "register"
uses = "register"
after = ["evaluate"]
"""


def until(found: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for something to be so."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
    return answer


def shown(daemon: Any, run: str) -> pipelines.PipelineRun:
    """A run as it stands."""
    with daemon.client() as client:
        found: pipelines.PipelineRun = client.ask(pipelines.ShowPipelineRun(pipeline_run=run))
    return found


def over(daemon: Any, run: str) -> pipelines.PipelineRun | None:
    """A run, once it is over."""
    found = shown(daemon, run)
    return found if found.state in ("SUCCEEDED", "FAILED", "CANCELLED", "LOST") else None


def newest(daemon: Any) -> pipelines.PipelineRun:
    """The newest run."""
    with daemon.client() as client:
        found: list[pipelines.PipelineRun] = client.ask(pipelines.ListPipelineRuns(limit=1))
    return found[0]


def test_a_bug_is_fixed_and_the_run_goes_on_at_the_step_that_failed(daemon: Any, tmp_path: Path) -> None:
    """The files of the steps before are the same; the run is bound to the new code; the log of each is there."""
    (tmp_path / "two.toml").write_text(TWO)
    (tmp_path / "steps.py").write_text(STEPS)
    failed = daemon.qd("pipeline", "run", str(tmp_path / "two.toml"))
    assert failed.returncode == 1 and "line 10: ValueError: a bug" in failed.stderr and "Traceback" not in failed.stderr
    run = newest(daemon)
    assert failed.stderr.splitlines()[-1].endswith(f"; once it is mended: qd pipeline resume {run.id}")
    assert f"qd pipeline resume {run.id}" in daemon.qd("pipeline", "show", run.id).stdout
    assert daemon.qd("pipeline", "logs", run.id, "first").stdout == "first was here\n"
    (tmp_path / "steps.py").write_text(STEPS.replace('raise ValueError("a bug")', "return {'n': 2}"))
    resumed = daemon.qd("pipeline", "resume", run.id)
    assert resumed.returncode == 0 and "reused" in resumed.stdout, resumed.stderr
    found = shown(daemon, run.id)
    assert found.state == "SUCCEEDED" and found.code != run.code and found.steps[1].figures == {"n": 2}
    assert found.steps[0].outputs == run.steps[0].outputs and found.steps[0].how == "reused"
    over = daemon.qd("pipeline", "resume", run.id)
    assert over.returncode == 5 and over.stdout == "", over.stderr
    assert over.stderr == f"error: pipeline_run: {run.id} is SUCCEEDED, expected FAILED, LOST or CANCELLED\n"
    again = daemon.qd("pipeline", "run", str(tmp_path / "two.toml"))
    assert again.returncode == 0
    cached = daemon.qd("pipeline", "run", str(tmp_path / "two.toml"))
    assert cached.stderr.count(CACHED) == 2, cached.stderr
    card = daemon.qd("pipeline", "show", newest(daemon).id).stdout
    assert str(found.code) in card and "2 of 2 steps" in card and "qd pipeline resume" not in card


def test_the_usual_steps_are_cached_as_well_and_another_limit_trains_nothing(daemon: Any, tmp_path: Path) -> None:
    (tmp_path / "flowers.toml").write_text(TRAIN)
    assert daemon.qd("pipeline", "run", str(tmp_path / "flowers.toml")).returncode == 0
    first = newest(daemon)
    (tmp_path / "flowers.toml").write_text(TRAIN + "[gate]\nlimits = { accuracy = 0.5 }\n")
    again = daemon.qd("pipeline", "run", str(tmp_path / "flowers.toml"))
    assert again.returncode == 0 and again.stderr.count(CACHED) == 5, again.stderr
    second = newest(daemon)
    assert [each.outputs for each in second.steps] == [each.outputs for each in first.steps]
    assert second.version == first.version == "flowers@1"


SENT = TRAIN.replace("flowers", "again") + '[gate]\nlimits = { accuracy = 0.5 }\n[deploy]\nthen = "staging"\n'


def test_a_second_run_does_nothing_and_says_so_of_every_step_also_after_the_daemon_was_killed(
    absent: Any, tmp_path: Path
) -> None:
    """The same version, no other; another param makes the next one, and the one from before another still."""
    absent.start()
    file = tmp_path / "again.toml"

    def ran(text: str) -> tuple[Any, pipelines.PipelineRun]:
        file.write_text(text)
        done = absent.qd("pipeline", "run", str(file))
        assert done.returncode == 0, done.stderr
        return done, newest(absent)

    def versions() -> list[registry.Version]:
        with absent.client() as client:
            found: list[registry.Version] = client.ask(registry.ListVersions(model="again"))
        return found

    assert ran(SENT)[1].version == "again@1"
    registered = versions()
    absent.stop(signal.SIGKILL)
    absent.start()
    done, second = ran(SENT)
    assert done.stderr.count(CACHED) == len(second.steps) == 7, done.stderr
    assert second.version == "again@1" and versions() == registered
    assert f"gate: done  {CACHED}; accuracy: " in done.stderr and "again@1 is in Staging already" in done.stderr
    assert "7 of 7 steps" in done.stdout and "TRIES" not in done.stdout, done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100, done.stdout
    other, third = ran(SENT + '[train]\nlearner = "forest"\n')
    assert third.version == "again@2" and other.stderr.count(CACHED) == 2, other.stderr
    back, fourth = ran(SENT)
    assert fourth.version == "again@3" and back.stderr.count(CACHED) == 4, back.stderr
    assert [each.digest for each in versions()] == [registered[0].digest, versions()[1].digest, registered[0].digest]


def test_a_limit_that_no_run_can_meet_is_refused_before_anything_is_sent_or_kept(daemon: Any, tmp_path: Path) -> None:
    """Of a task that is only known from the rows too."""
    for name, told in (("acuracy", "one of a metric: accuracy, "), ("rmse", "one of a metric of a classification: ")):
        (tmp_path / "typo.toml").write_text(TRAIN.replace("flowers", "typo") + f"[gate.limits]\n{name} = 0.9\n")
        done = daemon.qd("pipeline", "run", str(tmp_path / "typo.toml"))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: gate.limits.{name}: got a limit, expected {told}"), done.stderr
    assert daemon.qd("pipeline", "runs", "typo", "--json").stdout == ""


def test_a_flow_in_python_is_compiled_and_run_as_one_in_toml(daemon: Any, tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(
        "from quarterdeck.flow import Flow\n"
        "flow = Flow('made')\n"
        "@flow.step()\n"
        "def load(step):\n    (step.out / 'n').write_text('4')\n"
        "@flow.step(after=[load], params={'times': 3})\n"
        "def count(step):\n    return {'n': int(step.file('n').read_text()) * step.params['times']}\n"
    )
    done = daemon.qd("pipeline", "run", str(tmp_path / "made.py"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"][1]["figures"] == {"n": 12}


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("raise ValueError('no')\n", 1, "made no flow: line 1: ValueError: no"),
        ("def f(:\n", 1, "made no flow: line 1: SyntaxError"),
        ("x = 1\n", 1, "got 0 flows"),
        ("import os; os._exit(0)\n", 1, "it ended before"),
        ("print('{}')\nfrom quarterdeck.flow import Flow\nf = Flow('a b')\nf.command('c', ['true'])\n", 2, "name"),
        ("from quarterdeck.flow import Flow\nf = Flow('a')\nf.command('c', ['true'], retires=2)\n", 2, "retries"),
        ("from quarterdeck.flow import Flow\nf = Flow('a')\nf.command('c', ['true'], after=['d'])\n", 4, "d"),
    ],
)
def test_a_python_file_that_makes_no_flow_is_one_line(
    daemon: Any, tmp_path: Path, text: str, code: int, said: str
) -> None:
    (tmp_path / "made.py").write_text(text)
    done = daemon.qd("pipeline", "run", str(tmp_path / "made.py"))
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and said in line


def test_a_step_that_asks_waits_over_a_restart_for_a_yes_and_expires_to_a_no(absent: Any, tmp_path: Path) -> None:
    absent.start()
    asks = '[[steps]]\nname = "ask"\nuses = "approve"\nafter = ["first"]\nparams = { timeout = %s }\n'
    text = TWO.split('[[steps]]\nname = "second"')[0].replace("two", "asks") + asks
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "asks.toml").write_text(text % 600)
    asked = absent.qd("pipeline", "run", str(tmp_path / "asks.toml"))
    assert asked.returncode == 0 and "qd pipeline approve" in asked.stderr
    run = newest(absent)
    assert run.state == "WAITING" and run.steps[1].figures["evidence"] == {"first": {"rows": 3}}
    card = absent.qd("pipeline", "show", run.id).stdout
    assert "may it go on?" in card and "first rows 3" in card and run.steps[0].outputs["x.txt"] in card, card
    absent.stop(signal.SIGKILL)
    absent.start()
    assert shown(absent, run.id).state == "WAITING"
    assert absent.qd("pipeline", "approve", run.id, "--note", "looks right", "--wait").returncode == 0
    done = shown(absent, run.id)
    assert done.state == "SUCCEEDED" and done.steps[1].words.endswith(": looks right")
    assert absent.qd("pipeline", "approve", run.id).returncode == 5
    (tmp_path / "asks.toml").write_text(text % 1.0)
    absent.qd("pipeline", "run", str(tmp_path / "asks.toml"))
    late = newest(absent)
    expired = until(lambda: over(absent, late.id))
    assert expired.state == "FAILED" and "which is a no" in expired.error


def test_a_training_that_is_preempted_goes_on_from_its_checkpoint_and_is_registered(
    daemon: Any, tmp_path: Path
) -> None:
    """SIGTERM in the middle of the network's training; that nothing shows in the figures is in `test_checkpoints`."""
    train = '[train]\nlearner = "mlp"\nparams = { epochs = 300, patience = 300, batch = 4 }\n'
    (tmp_path / "mlp.toml").write_text(TRAIN.replace("flowers", "mlp") + train)
    cut = daemon.qd("pipeline", "run", str(tmp_path / "mlp.toml"), "--simulate-preempt", "0.1s")
    assert cut.returncode == 0, cut.stderr
    preempted = newest(daemon)
    log = daemon.qd("pipeline", "logs", preempted.id, "train").stdout
    assert "went on from the checkpoint of epoch" in log, (log, cut.stderr)
    assert "preempted after" in preempted.steps[2].words and preempted.version == "mlp@1"
    assert not any(daemon.home.checkpoints.iterdir())


@pytest.mark.fault
@pytest.mark.parametrize("killed", ["worker", "daemon", "both"])
def test_a_run_whose_worker_or_daemon_is_killed_registers_one_version(absent: Any, tmp_path: Path, killed: str) -> None:
    """kill -9 in the middle of a step: it is LOST and tried again as its policy says, or adopted; one version."""
    absent.start()
    mark, go = tmp_path / "mark", tmp_path / "go"
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "k.toml").write_text(TRAIN + WAITS.replace("MARK", str(mark)).replace("GO", str(go)))
    assert absent.qd("pipeline", "run", str(tmp_path / "k.toml"), "--no-wait").returncode == 0
    run = newest(absent)
    process, worker = map(
        int, until(lambda: mark.exists() and mark.read_text().endswith("\n") and mark.read_text()).split()
    )
    if killed in ("daemon", "both"):
        absent.stop(signal.SIGKILL)
    if killed in ("worker", "both"):
        os.kill(worker, signal.SIGKILL)
        until(lambda: not lives(process))
    if killed == "daemon":
        go.touch()
    else:
        threading.Timer(0.5, go.touch).start()
    if killed in ("daemon", "both"):
        absent.start()
    done = until(lambda: over(absent, run.id), 60)
    assert done.state == "SUCCEEDED" and done.version == "flowers@1", done
    tries = 1 if killed == "daemon" else 2
    assert done.steps[0].attempts == tries and len(mark.read_text().splitlines()) == tries
    with absent.client() as client:
        assert len(client.ask(registry.ListVersions(model="flowers"))) == 1
        lost = [job.state for job in client.ask(jobs.ListJobs(kind="pipeline"))]
    assert lost.count("LOST") == tries - 1


def test_a_cancelled_run_ends_its_step(daemon: Any, tmp_path: Path) -> None:
    mark, go = tmp_path / "mark", tmp_path / "go"
    (tmp_path / "steps.py").write_text(STEPS)
    text = WAITS.replace("MARK", str(mark)).replace("GO", str(go)).partition('[[steps]]\nname = "validate"')[0]
    (tmp_path / "c.toml").write_text('name = "cancelled"\n' + text)
    daemon.qd("pipeline", "run", str(tmp_path / "c.toml"), "--no-wait")
    run = newest(daemon)
    process = int(until(lambda: mark.exists() and mark.read_text().endswith("\n") and mark.read_text()).split()[0])
    assert daemon.qd("pipeline", "cancel", run.id, "--reason", "enough").returncode == 0
    assert shown(daemon, run.id).state == "CANCELLED"
    until(lambda: not lives(process))
    with daemon.client() as client, pytest.raises(NotFound):
        client.ask(registry.ListVersions(model="cancelled"))


def test_the_examples_of_the_page_run_as_they_stand(daemon: Any, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "run-pipelines.md").read_text()
    (definition,) = [one for one in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if one.startswith("name")]
    steps, flow = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for name, text in (("words.toml", definition), ("steps.py", steps), ("flow.py", flow)):
        (tmp_path / name).write_text(text)
    asked = daemon.qd("pipeline", "run", str(tmp_path / "words.toml"))
    assert asked.returncode == 0 and "are these enough words?" in asked.stderr, asked.stderr
    assert newest(daemon).steps[1].figures == {"words": 8}
    made = daemon.qd("pipeline", "run", str(tmp_path / "flow.py"))
    assert made.returncode == 0 and newest(daemon).steps[1].figures == {"words": 3}, made.stderr


def test_a_log_that_a_step_turned_into_a_link_is_not_read_and_a_long_line_stops_nothing(
    daemon: Any, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not for those who read logs")
    (tmp_path / "steps.py").write_text(STEPS)
    step = f'[[steps]]\nname = "t"\nrun = "steps.py:turns"\nparams = {{ secret = "{secret}" }}\n'
    (tmp_path / "p.toml").write_text(f'name = "turns"\n{step}')
    ran = daemon.qd("pipeline", "run", str(tmp_path / "p.toml"), "--wait")
    assert ran.returncode == 0, ran.stderr
    run = newest(daemon)
    assert run.steps[0].state == "DONE" and run.steps[0].figures == {"done": 1}
    for words in (("jobs", "log", "--job", run.job), ("pipeline", "logs", run.id)):
        said = daemon.qd(*words)
        assert "steps/t/log.txt: got a link or a device, expected a plain file" in said.stdout, said.stderr
        assert "not for those" not in said.stdout


def test_a_step_with_more_figures_than_can_be_kept_says_so(daemon: Any, tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "p.toml").write_text('name = "many"\n[[steps]]\nname = "m"\nrun = "steps.py:many"\n')
    ran = daemon.qd("pipeline", "run", str(tmp_path / "p.toml"), "--wait")
    assert ran.returncode != 0 and "figures: got 5,24" in ran.stderr + ran.stdout
