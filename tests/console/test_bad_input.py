"""What a person writes wrong, in a file or a command, is refused in one line that says what was meant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records.deployments import ListDeployments
from quarterstore.records.faults import missing

DEFINITION = """
name = "flowers"
model = "flowers"
[data]
builtin = "iris"
target = "target"
"""


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line on stderr with every word, nothing on stdout, exit 2."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert not [word for word in words if word not in done.stderr], done.stderr


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('[train]\nlearnr = "mlp"', ("train.learnr: got learnr", "nearest: learner")),
        ("[gate]\nlimitz = { accuracy = 0.99 }", ("gate.limitz: got limitz", "nearest: limits")),
        ("[gates]\nset = true", ("gates: got gates", "nearest: gate")),
        ('[split]\nby = "rows"', ("split.by: got rows, expected random, time, group",)),
        ('[split]\ntest = "half"', ("split.test: got str, expected float",)),
    ],
)
def test_a_word_that_a_definition_does_not_know_is_named_with_its_section(
    daemon: Any, tmp_path: Path, lines: str, words: tuple[str, ...]
) -> None:
    """`learnr` once trained the default learner, `limitz` set no gate: both without a word."""
    (tmp_path / "flowers.toml").write_text(DEFINITION + lines + "\n")
    refused(daemon.qd_process("pipeline", "run", str(tmp_path / "flowers.toml")), *words)


SCHEDULE = ("schedule", "add", "s", "--act", "pipelines.rerun", "--set", "pipeline=p")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            ("governance", "set-gate", "--model", "m", "--rules", '[{"metric":"auc","op":">=","limt":1}]'),
            ("rules[0].limt: got limt", "limit"),
        ),
        (
            ("deployments", "start-canary", "--version", "m@1", "--rule", '{"latencey":1}'),
            ("rule.latencey: got latencey", "nearest: latency"),
        ),
        (
            ("governance", "propose", "--act", '{"type":"store.note_backup","digset":"x"}'),
            ("act.digset: got digset", "digest"),
        ),
        (("keys", "add", "bob", "--role", "king"), ("king", "viewer", "operator", "approver", "admin")),
        (("status", "--timeout", "-1"), ("--timeout", "-1")),
        (("service", "install", "--user", "--system", "--print"), ("expected one of them",)),
        (("ask", "x"), ("ask",)),
        (("ask",), ("ask",)),
        (("canary", "m@1", "--gate", "speed:1"), ("gate: got speed:1", "accuracy, psi, disagreement")),
        (("ab", "start", "m@1"), ("qd ab start: Missing argument 'VERSION'",)),
        (("shadow", "m@1", "m@2"), ("qd shadow start: Got unexpected extra argument (m@2)",)),
        (("undo", "--entry", "99999999999999999999"), ("entry: got 99999999999999999999", "an integer of 64 bits")),
        (("runs", "history", "--run", "r", "--points", "-9223372036854775809"), ("points: got -9223372036854775809",)),
        (("runs", "--sort", "startd"), ("order: got startd", "nearest: started")),
        ((*SCHEDULE, "--every", "10x"), ("every: got 10x", "30m")),
        ((*SCHEDULE,), ("cron: got nothing", "one of cron, every, calendar and on")),
        ((*SCHEDULE, "--every", "1h", "--cron", "0 3 * * *"), ("cron: got cron and every",)),
        ((*SCHEDULE, "--cron", "0 3 * *"), ("cron: got 0 3 * *", "five cron fields")),
        ((*SCHEDULE, "--cron", "* * * * * *"), ("cron: got * * * * * *", "five cron fields")),
        ((*SCHEDULE, "--each", "month", "--day", "last payday"), ("calendar.day: got last payday", "weekday")),
        ((*SCHEDULE, "--every", "1h", "--set", "pipelin=p"), ("pipelin",)),
        ((*SCHEDULE, "--every", "1h", "--set", "pipeline"), ("set: got pipeline", "FIELD=VALUE")),
        (("predictions", "show"), ("--prediction: got nothing, expected it once",)),
        (("prediction", "show", "p", "--prediction", "q"), ("--prediction: got it twice, expected it once",)),
        (("schedules", "next"), ("Missing argument 'NAME'",)),
        (("schedules", "add", "s", "--every", "1h"), ("Missing option '--act'",)),
        (("pause",), ("name: got both or neither", "--all")),
        (("pause", "--all", "--reason", "r"), ("until: got nothing",)),
        (("pause", "--all", "--until", "tomorrow", "--reason", "r"), ("until: got tomorrow", "2h")),
        (("pause", "--all", "--until", "0s", "--reason", "r"), ("until: got", "366 days")),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused_in_one_line(
    daemon: Any, command: tuple[str, ...], words: tuple[str, ...]
) -> None:
    with daemon.client() as client:
        client.run("sorted").end()
    done = daemon.qd_process(*command)
    first = done.stderr.partition("\n")[0] + "\n"
    assert done.stderr == first or command[0] == "runs"  # which points at the place below
    refused(subprocess.CompletedProcess(done.args, done.returncode, done.stdout, first), *words)


def test_a_signature_with_a_word_that_nobody_knows_is_refused(daemon: Any, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a")
    (tmp_path / "s.json").write_text(json.dumps({"inputs": [{"name": "x", "datatyp": "FP32"}], "outputs": []}))
    done = daemon.qd_process("register", str(tmp_path / "m.onnx"), "--name", "m", "--schema", str(tmp_path / "s.json"))
    refused(done, "schema.inputs[0].datatyp: got datatyp", "nearest: datatype")


def test_a_word_of_the_wire_that_nobody_knows_is_passed_over(daemon: Any) -> None:
    """A newer client may say more than an older daemon knows: docs/wire.md."""
    done = daemon.qd_process("ask", "-", stdin=json.dumps({"type": "deployments.list", "newer": 1}) + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    with daemon.client() as client:
        assert client.ask(ListDeployments()) == []


def test_a_number_beyond_64_bits_in_a_json_line_costs_that_line_alone(daemon: Any) -> None:
    """It once ended the command with a traceback."""
    wide = {"type": "runs.start", "experiment": "wide", "params": {"a": 2 * 10**19}}
    done = daemon.qd_process("ask", "-", stdin="\n".join(map(json.dumps, (wide, {"type": "runs.list"}))) + "\n")
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["fault"]["field"] == "params.a" and "64 bits" in first["fault"]["message"]
    assert "runs" in second and done.stderr == ""


def test_a_role_that_nobody_can_hold_is_told_with_those_that_are(daemon: Any) -> None:
    fields = {"type": "people.add_key", "public": "x", "person": "bob", "roles": ["king"]}
    (line,) = daemon.qd_process("ask", "-", stdin=json.dumps(fields) + "\n").stdout.splitlines()
    fault = json.loads(line)["fault"]
    assert fault["field"] == "roles[0]" and "viewer, operator, approver, admin" in fault["message"]


def test_an_unknown_name_comes_with_three_that_exist_the_nearest_first() -> None:
    known = ["alpha", "beta", "gamma", "delta"]
    assert missing("model", "nix", known).nearest == ("alpha", "beta", "gamma")
    assert missing("model", "delt", known).nearest == ("delta", "beta", "alpha")
    assert missing("model", "nix", ["churn"]).nearest == ("churn",)


def test_the_daemon_says_a_wrong_option_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quarterdeckd", "--profile", "king"], capture_output=True, text=True, timeout=60
    )
    refused(done, "--profile", "king", "solo", "regulated")


def test_what_a_schedule_names_and_nobody_knows_is_said_with_what_is_near(daemon: Any) -> None:
    for command, code, words in (
        ((*SCHEDULE, "--on", "runs.ended", "--where", "stat=x"), 4, "on.where: got stat"),
        ((*SCHEDULE, "--on", "runs.endd"), 4, "on.event: got runs.endd"),
        (("schedule", "add", "s", "--every", "1h", "--act", "runs.ended"), 4, "act: got runs.ended"),
        (("schedule", "next", "none"), 4, "name: got none"),
        (("resume", "--all"), 5, "no maintenance is on"),
    ):
        done = daemon.qd_process(*command)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and words in done.stderr


@pytest.mark.parametrize(
    ("command", "kind"),
    [(("pipeline", "run"), "a pipeline definition"), (("features", "apply"), "feature definitions")],
)
def test_a_definition_that_is_not_there_is_said_to_be_away_and_not_of_a_wrong_kind(
    daemon: Any, tmp_path: Path, command: tuple[str, str], kind: str
) -> None:
    refused(daemon.qd_process(*command, str(tmp_path / "away.toml")), f"expected a file that is there: {kind}")
