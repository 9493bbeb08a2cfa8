"""Features online through a real daemon and the command line: made, pushed, read, also after a kill at any point."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Daemon

DEFINED = """
[entities.customer]
keys = { customer = "integer" }

[views.usage]
entities = ["customer"]
event_time = "at"
ttl = "30d"
[views.usage.features]
minutes = "number"
plan = "text"
"""
ROWS = "customer,at,minutes,plan\n1,2026-01-01,1.5,basic\n1,{now},2.5,pro\n2,2026-01-15,7,\n"


def asked(daemon: Daemon, *words: str | Path, stdin: str = "") -> list[Any]:
    """The records a command answers, one a line."""
    ran = daemon.qd("--json", "features", *map(str, words), stdin=stdin)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def loaded(daemon: Daemon, folder: Path, rows: str) -> None:
    (folder / "rows.csv").write_text(rows)
    asked(daemon, "load", "usage", folder / "rows.csv")


@pytest.fixture
def started(absent: Daemon, tmp_path: Path) -> Daemon:
    """With the view, and rows of two customers of which one is old."""
    absent.start()
    (tmp_path / "f.toml").write_text(DEFINED)
    asked(absent, "apply", tmp_path / "f.toml")
    loaded(absent, tmp_path, ROWS.format(now=_now()))
    return absent


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat()


def test_what_is_made_and_pushed_is_read_with_ages_and_an_answered_push_outlives_a_kill(
    started: Daemon, tmp_path: Path
) -> None:
    [status] = asked(started, "status")
    assert (status["generation"], status["rows_waiting"], status["late"]) == (None, 3, False)
    [status] = asked(started, "materialise", "usage")
    assert (status["generation"]["entities"], status["lag"], status["rows_waiting"]) == (2, 0.0, 0)
    [found] = asked(started, "online", "usage", "--key", "1", "--key", "customer=2", "--key", "3")
    assert found["statuses"] == ["PRESENT", "EXPIRED", "NOT_FOUND"]
    assert found["values"] == [[2.5, "pro"], [None, None], [None, None]]
    assert found["ages"][0] < 60 and found["ages"][1] > 30 * 86_400 and found["ages"][2] is None
    [pushed] = asked(started, "push", "usage", "--key", "3", "--value", "minutes=9", "--value", "plan=")
    assert pushed["rows"] == 1
    started.stop(signal.SIGKILL)
    started.start()
    [found] = asked(started, "online", "usage", "--key", "3", "--feature", "minutes")
    assert (found["values"], found["statuses"]) == ([[9.0]], ["PRESENT"])
    [status] = asked(started, "materialise", "usage")
    assert (status["generation"]["entities"], status["generation"]["rows"], status["pushed"]) == (3, 1, 0)
    [view] = asked(started, "show", "usage")
    assert [(each["rows"], each["known"]) for each in view["files"]] == [(3, "event"), (1, "column")]
    assert asked(started, "materialise", "usage")[0]["generation"]["id"] == status["generation"]["id"]
    [measured] = asked(started, "bench", "usage", "--entities", "3", "--rounds", "10")
    assert (measured["entities"], measured["found"], measured["rows"]) == (3, 3, 3)
    assert measured["p50"] <= measured["p95"] <= measured["p99"]
