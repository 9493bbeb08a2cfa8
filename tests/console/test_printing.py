"""What a person reads: times as times, reasons whole, whatever a list shows accepted, runs under their names."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from quarterdeck.cli import printing
from quarterdeck.wording import act_words
from quarterstore.records.deployments import Canary, CanaryRule, CanaryVerdict, Deployment
from quarterstore.records.drills import Drill, DrillResult
from quarterstore.records.registry import Metric, RegisterVersion
from tests.tui.conftest import SIGNATURE, model_bytes

WHY = "only 3 of the 412 requests that are needed for each arm were answered, so nothing is known of the rise; " * 2
AT = 1_795_630_000.0


def test_a_canary_is_shown_with_its_whole_reason_and_times(capsys: pytest.CaptureFixture[str]) -> None:
    """The one thing that a person looks for in a deployment on HOLD."""
    verdict = CanaryVerdict("HOLD", WHY, 412, 3)
    canary = Canary("m@2", (5, 100), 0, CanaryRule(), AT, AT, "ana", judged=verdict)
    where: Any = {"endpoint": "m", "model": "m", "environment": "default", "state": "CANARY", "live": "m@1", "epoch": 1}
    printing.out(Deployment("dep-1", **where, created=AT, changed=AT, asked_by="ana", canary=canary), False)
    said = capsys.readouterr().out
    assert WHY.split() == [word for word in said.split() if word in WHY.split()][: len(WHY.split())]
    assert "…" not in said and "e+09" not in said
    assert f"step_since {time.strftime('%Y-%m-%d', time.localtime(AT))}" in said
    assert max(map(len, said.splitlines())) < 130


def test_the_end_of_an_id_that_a_list_shows_is_accepted(daemon: Any) -> None:
    with daemon.client() as client, client.run("short") as run:
        id_ = run.id
    assert id_ in daemon.qd_process("run", "show", id_[-8:]).stdout


def test_a_run_is_shown_with_every_point_and_with_its_traceback_line_by_line(daemon: Any) -> None:
    with pytest.raises(ValueError), daemon.client() as client, client.run("shown") as run:
        for step, value in enumerate((0.5, math.nan, -math.inf, -0.0)):
            run.log(acc=value, step=step)
        run.log(loss=1e308, step=2**63 - 1)
        raise ValueError("it broke")
    said = [line.split() for line in daemon.qd_process("run", "show", run.id, "--points").stdout.splitlines()]
    values = [line[2] for line in said if line[:1] == ["acc"]]
    assert values == ["0.5", "nan", "-inf", "-0"]
    assert ["loss", "9223372036854775807", "1e+308"] in [line[:3] for line in said]
    assert ["ValueError:", "it", "broke"] in said
    assert [line[:3] for line in said if line[:1] == ["acc"]] == [
        line.split()[:3]
        for line in daemon.qd_process("runs", "history", "--run", run.id).stdout.splitlines()
        if "acc" in line
    ]


def test_runs_side_by_side_stand_under_their_ids_with_what_their_versions_were_measured_at(daemon: Any) -> None:
    ids = []
    with daemon.client() as client:
        for number in (1, 2):
            with client.run("side") as run:
                run.log(loss=1 / number)
            ids.append(run.id)
            digest, size = client.put(model_bytes(float(number)))
            metrics = (Metric("accuracy", 0.8 + number / 100),)
            client.ask(RegisterVersion("side", digest, size, "onnx", SIGNATURE, metrics=metrics, run=run.id))
    first, *lines = daemon.qd_process("compare", *ids).stdout.splitlines()
    assert first.split() == ["WHERE", "NAME", *ids]
    assert ["held", "out", "accuracy", "0.81", "0.82"] in [line.split() for line in lines]
    first, *_ = daemon.qd_process("compare", "side@1", "side@2").stdout.splitlines()
    assert first.split() == ["WHERE", "NAME", "side@1", "side@2"]
    assert "held out" in daemon.qd_process("diff", *ids).stdout


def test_what_is_tried_is_explained_where_somebody_looks_first(absent: Any) -> None:
    """Behind the bare word: the options of a start once were in no help but that of a version's name."""
    for word, options in (
        ("shadow", ("--share", "--endpoint")),
        ("ab", ("--metric", "--effect", "--split", "--alpha", "--lower")),
        ("bandit", ("--metric", "--algo", "--seed", "--floor", "--epsilon")),
    ):
        said = absent.qd_process(word, "--help").stdout
        assert not [each for each in (*options, "report", "stop") if each not in said], said
        assert max(map(len, said.splitlines())) <= 80
        started = absent.qd_process(word, "start", "--help").stdout
        assert f"qd {word} start [OPTIONS]" in started and options[0] in started


@pytest.mark.parametrize(
    ("widths", "room", "narrow"),
    [
        ([20, 3, 60], 80, [20, 3, 53]),
        ([22, 60, 19, 40], 80, [22, 16, 19, 16]),
        ([24, 24, 24, 60], 80, [24, 24, 24, 60]),
        ([20, 60], 200, [20, 60]),
    ],
)
def test_a_table_gives_way_to_a_terminal_with_its_texts_and_keeps_its_ids(
    widths: list[int], room: int, narrow: list[int]
) -> None:
    assert printing.narrowed(widths, room) == narrow


def test_a_terminal_has_no_line_that_is_wider_than_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record is folded between words; of a list the columns that have no room are left out, and named."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    verdict = CanaryVerdict("HOLD", WHY, 412, 3)
    canary = Canary("m@2", (5, 100), 0, CanaryRule(), AT, AT, "ana", judged=verdict)
    where: Any = {"endpoint": "m", "model": "m", "environment": "default", "state": "CANARY", "live": "m@1", "epoch": 1}
    printing.out(Deployment("dep-1", **where, created=AT, changed=AT, asked_by="ana", canary=canary), False)
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert WHY.split() == [word for word in said.split() if word in WHY.split()][: len(WHY.split())]
    ids = ("one", "two", "three", "four", "five")
    printing.table([{name: f"job-01kyfmesx9sb9r{name:_>5}" for name in ids}])
    caught = capsys.readouterr()
    assert caught.out.splitlines()[0].split() == ["ONE", "TWO", "THREE"]
    assert "four, five: no room here, --json has all" in caught.err


def test_a_text_that_has_room_on_a_terminal_is_not_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It once was cut at 60 columns wherever it stood, and one text gave way for another."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    printing.table([{"id": "run-1", "words": "w" * 120}])
    assert "w" * 120 in capsys.readouterr().out
    printing.table([{"id": "run-1", "words": "w" * 90, "events": "e" * 90}])
    said = capsys.readouterr().out.splitlines()[1]
    assert said.count("w") == said.count("e") > 70 and len(said) <= 160


def test_times_in_a_table_of_names_are_said_as_times(capsys: pytest.CaptureFixture[str]) -> None:
    printing.lines({"since": {"drift": AT}})
    assert capsys.readouterr().out == f"since  drift {printing.shown('at', AT, 60)}\n"


def test_a_list_says_in_words_what_each_drill_found(capsys: pytest.CaptureFixture[str]) -> None:
    found = DrillResult(ok=False, words="a caller had no answer")
    asked: Any = {"endpoint": "m", "at": AT, "live": "m@2", "to": "m@1", "rate": 50.0, "seconds": 4.0, "hosts": 1}
    printing.out([Drill("drill-1", "rollback", **asked, within=1.0, found=found)], False)
    assert capsys.readouterr().out.splitlines()[1].startswith("drill-1  a caller had no answer  rollback")


def test_an_act_is_told_in_words_without_defaults_and_without_the_marks_of_a_language() -> None:
    rule = {"effect": 0.1, "alpha": 0.05, "gates": []}
    act = {"type": "deployments.start_canary", "version": "m@2", "endpoint": None, "ladder": [10, 100], "rule": rule}
    assert act_words(act) == [("version", "m@2"), ("ladder", "10, 100"), ("rule", "effect 0.1")]
    definition = {"name": "m", "data": {"builtin": "iris"}, "steps": [{"name": "a", "uses": "train", "after": ["b"]}]}
    [(field, words)] = act_words({"type": "pipelines.run", "definition": definition})
    assert (field, words) == ("definition", "name m, data (builtin iris), steps ((name a, uses train, after (b)))")
    assert act_words({"type": "gone.by", "on": True, "rule": rule, "no": None}) == [
        ("on", "yes"),
        ("rule", "effect 0.1, alpha 0.05"),
    ]
