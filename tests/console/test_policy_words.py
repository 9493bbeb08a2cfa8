"""A policy of continuous training as people read it: spans, times and limits in words, no entry number, no float."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from quarterdeck.cli.policies import policy_words, retrain_words, show_standing, show_why
from quarterdeck.cli.spans import seconds, written
from quarterstore.records import ct
from quarterstore.records.canaries import CanaryGate, CanaryRule
from quarterstore.records.moments import Moment

AT = 1_795_630_000.0
SAID = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(AT))
WHY = "cooling down for 5 h 58 min more (2 of 2 checks in a row found drift: 3 of 12 features moved, the most age)"


def policy(**more: Any) -> ct.Policy:
    return ct.Policy(
        model="churn",
        pipeline="weekly",
        endpoint="door",
        set_by="ana",
        at=AT,
        schedule=ct.OnSchedule(every=604_800.0),
        drift=ct.OnDrift(checks=2, every=3600.0),
        accuracy=ct.OnAccuracy(),
        rows=ct.OnRows(of="features", view="usage"),
        strategy="canary",
        rule=CanaryRule(gates=(CanaryGate(kind="accuracy", limit=0.02),)),
        counted={"drift": 4711},
        since={"drift": AT},
        **more,
    )


RETRAIN = ct.Retrain(
    id="retrain-1",
    cause="drift",
    at=AT,
    words="2 of 2 checks in a row found drift",
    pipeline_run="pipe-1",
    value=2.0,
    limit=2.0,
    live="churn@1",
    verdict="UNCHANGED",
    began=Moment(at=AT, up=47_221.7, boot="a5abbed3"),
    seq=4711,
)


def standing(of: ct.Policy) -> ct.PolicyStatus:
    triggers = (
        ct.TriggerStatus("schedule", "BELOW", AT, AT + 604_800, "time", None, "due 2026-12-02 18:06:40 UTC"),
        ct.TriggerStatus("drift", "HELD", 2, 2, "checks in a row", AT, WHY),
        ct.TriggerStatus("accuracy", "WAITING", None, 5.0, "points", AT, "too few labels yet: 120 of 200"),
        ct.TriggerStatus("rows", "BELOW", 1204, 10_000, "rows", AT, "1,204 rows came into usage"),
    )
    return ct.PolicyStatus("churn", of, triggers, "retrain-1 by drift: churn@2 is on its way", "qd ct off churn")


def test_a_policy_that_was_set_is_said_in_spans_and_limits_with_their_units() -> None:
    found = policy_words(policy())
    assert found["state"] == f"off (qd ct on churn), set by ana {SAID}"
    assert found["schedule"] == "every 7d"
    assert found["drift"] == "2 checks in a row that find it, one each 1h of the last 1d"
    assert found["rows"] == "10,000 rows of usage since the last training"
    assert found["cool-down"] == "6h between two retrains at least"
    assert found["goes out"] == "canary: 5, 10, 25, 50, 100 % of the traffic, gate accuracy"
    said = " ".join(str(value) for value in found.values())
    assert not re.search(r"4711|604800|86400|\be\+|1795630000", said), said


def test_what_was_suppressed_and_what_was_held_last_stand_in_it_with_their_times() -> None:
    found = policy_words(
        policy(
            enabled=True,
            suppressed={"drift": ct.Suppressed("drift", AT, "unchanged with churn@2")},
            held=ct.Held("schedule", AT, "maintenance is on"),
        )
    )
    assert found["drift SUPPRESSED"] == f"since {SAID}: unchanged with churn@2"
    assert found["last held"] == f"{SAID}, by schedule: maintenance is on"


def test_a_retrain_names_what_set_it_off_and_what_came_of_it() -> None:
    found = retrain_words(RETRAIN)
    assert found["retrained"] == f"{SAID} by drift"
    assert found["why"] == "2 of 2 checks in a row found drift (2 against a limit of 2)"
    assert found["run"] == "qd pipeline show pipe-1" and found["signal"].startswith("UNCHANGED")
    assert "4711" not in str(found) and "a5abbed3" not in str(found)


@pytest.mark.parametrize("columns", [80, 160])
def test_each_trigger_has_value_limit_last_check_and_the_whole_reason_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    """The reason once stood in the last column, which had no room on 80."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    found = standing(policy(enabled=True, retrains={"drift": RETRAIN}))
    show_standing(found)
    caught = capsys.readouterr()
    said = caught.out.splitlines()
    assert max(map(len, said)) <= columns and not caught.err
    assert said[0].split() == ["TRIGGER", "STATE", "VALUE", "LIMIT", "CHECKED"]
    assert said[2].split() == ["drift", "HELD", "2", "2", "checks", "in", "a", "row", *SAID.split()]
    assert said[4].split() == ["rows", "BELOW", "1,204", "10,000", "rows", *SAID.split()]
    assert WHY in " ".join(caught.out.split())
    show_why(found)
    caught = capsys.readouterr()
    assert max(map(len, caught.out.splitlines())) <= columns
    assert "qd ct off churn" in caught.out and "drift HELD" in caught.out and "4711" not in caught.out


@pytest.mark.parametrize("text", ["7d", "6h", "90m", "45s", "0d"])
def test_a_span_is_said_as_it_is_written(text: str) -> None:
    assert written(seconds("cooldown", text)) == text


def test_a_span_that_no_unit_divides_is_said_in_seconds() -> None:
    assert (written(86_401), written(0.5)) == ("86401s", "0.5s")
