"""Fields that do not fit: one line with the field, what was found and what fits."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from quarterstore.records import registry, runs
from quarterstore.records.faults import Fault
from quarterstore.records.misfits import misfit
from quarterstore.records.spaces import TuneSection


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ([], "message", "got [], expected a JSON object"),
        ({"a": 1}, "type", "got nothing, expected the word"),
        ({"type": "runs.strat"}, "type", "got runs.strat"),
        ({"type": "runs.start"}, "experiment", "got nothing, expected a value"),
        ({"type": "runs.end", "run": 5}, "run", "got int, expected str"),
        ({"type": "registry.move_stage", "version": "a@1", "stage": "staging"}, "stage", "expected None, Staging"),
    ],
)
def test_qd_ask_says_which_field_does_not_fit(daemon: Any, given: Any, field: str, words: str) -> None:
    done = daemon.qd_process("ask", "-", stdin=json.dumps(given) + "\n")
    fault = json.loads(done.stdout)["fault"]
    assert (fault["field"], done.stderr, done.returncode) == (field, "", 1)
    assert words in fault["message"]


def test_a_wrong_stage_names_the_right_one_over_the_socket(daemon: Any) -> None:
    """Told by the daemon too: a client in another language checks nothing itself."""
    with daemon.client() as client:
        with pytest.raises(
            Fault, match="stage: got staging, expected None, Staging, Production, Archived; nearest: Stag"
        ):
            client.ask(registry.MoveStage(version="a@1", stage="staging"))  # type: ignore[arg-type]
        with pytest.raises(Fault, match="run: got int, expected str"):
            client.ask(runs.EndRun(run=5))  # type: ignore[arg-type]


def test_what_is_wrong_in_a_table_says_what_fits() -> None:
    """msgspec does not say under which name."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"objectives": {"f1": "maximize"}, "space": {}}, TuneSection)
    fault = misfit(TuneSection, str(caught.value))
    assert str(fault) == "objectives[...]: got maximize, expected maximise, minimise; nearest: maximise, minimise"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"objectives": {"f1": "minimise", "rmse": "maximize"}, "space": {}},
            "objectives.rmse: got maximize, expected",
        ),
        ({"objectives": {}, "space": {"c": {"kind": "choice"}, "lr": {"kind": "flot"}}}, "space.lr.kind: got flot"),
        ({"objectives": {}, "space": {"c": {}}}, "space.c.kind: got nothing, expected a value"),
        ({"objectives": {}, "space": {"a.b": {"kind": "int", "when": {"x": [{}]}}}}, "space.a.b.when.x[0]: "),
    ],
)
def test_what_is_wrong_in_a_table_that_is_at_hand_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(given, TuneSection)
    assert str(misfit(TuneSection, str(caught.value), given)).startswith(words)


def test_no_line_of_a_commands_help_is_wider_than_a_terminal(daemon: Any) -> None:
    said = daemon.qd_process("jobs", "list", "--help").stdout
    assert "materialise" in said and max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("noun", ["outcomes", "people", "audit"])
def test_a_noun_without_a_verb_names_the_verbs(daemon: Any, noun: str) -> None:
    done = daemon.qd_process(noun)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: qd {noun}: got no verb, expected one of ")
    assert done.stderr.count("\n") == 1
