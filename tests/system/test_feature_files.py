"""The files of feature views through a real daemon: made few, made again, and without whom was forgotten."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from quarterstore.records import feature_files, features, jobs
from tests.conftest import Daemon
from tests.contents import contents
from tests.system.test_features import DEFINED, ENTITIES, done, listed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "f.toml").write_text(DEFINED)
    (tmp_path / "e.csv").write_text(ENTITIES.replace("9,", "90744113377,"))
    return tmp_path


def load(daemon: Daemon, folder: Path, number: int, rows: str, *more: str) -> Any:
    file = folder / f"rows{number}.csv"
    file.write_text("customer,at,minutes,plan\n" + rows)
    return done(daemon, "load", "usage", file, *more)


def make(daemon: Daemon, folder: Path, name: str, *more: str) -> Any:
    return done(daemon, "get", "--entities", folder / "e.csv", "--view", "usage", "-o", folder / name, *more)


def until(found: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Wait for something to be so."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
        threading.Event().wait(0.05)
    return answer


def holding(daemon: Daemon, needle: str) -> list[str]:
    """Every file of the home with this text in it, in its bytes or, of Parquet, in its rows."""
    found = []
    for path, data in contents(daemon.home.root):
        if path.suffix != ".duckdb":
            rows = data[:4] == data[-4:] == b"PAR1"
            text = pl.read_parquet(io.BytesIO(data)).write_csv() if rows else data.decode(errors="replace")
            if needle in text:
                found.append(str(path.relative_to(daemon.home.root)))
    return found


def test_few_files_change_no_set_and_the_many_are_gone(absent: Daemon, folder: Path) -> None:
    absent.start()
    done(absent, "apply", folder / "f.toml")
    load(absent, folder, 0, "1,2026-01-01,1,a\n2,2025-12-31,7,b\n1,2026-02-01T12:00Z,2.5,pro\n")
    first = make(absent, folder, "first.parquet")
    load(absent, folder, 1, "1,2026-01-01,9,late\n")
    corrected = make(absent, folder, "corrected.parquet", "--as-corrected")
    job = done(absent, "compact", "usage")
    assert (job["state"], job["result"]["rows"], len(job["result"]["parts"])) == ("SUCCEEDED", 4, 2)
    shown = done(absent, "show", "usage")
    assert [(each["span"], each["rows"]) for each in shown["parts"]] == [("2025", 1), ("2026", 3)]
    paths = [absent.home.artefacts / each["digest"][:2] / each["digest"] for each in shown["files"]]
    until(lambda: not any(path.exists() for path in paths), "end of the files that were made few")
    load(absent, folder, 2, "1,2026-01-01,10,later\n")
    again = make(absent, folder, "again.parquet")
    assert (again["id"], again["digest"]) == (first["id"], first["digest"])
    for made in (first, corrected):
        assert done(absent, "rebuild", made["id"])["same"] is True, "later rows are no part of it"
    refused = absent.qd("features", "rebuild", "set-nothing")
    assert refused.returncode == 4 and "set-nothing" in refused.stderr


def test_nothing_of_whom_was_forgotten_is_left_but_in_sets_that_are_named(absent: Daemon, folder: Path) -> None:
    absent.start()
    done(absent, "apply", folder / "f.toml")
    load(absent, folder, 0, "1,2026-01-01,1,a\n90744113377,2026-01-02,77.125,his\n2,2026-01-15,7,b\n")
    load(absent, folder, 1, "90744113377,2026-01-03,78.125,his\n")
    made = make(absent, folder, "set.parquet")
    with absent.client() as client:
        found = json.loads(
            absent.qd("--json", "features", "forget", "customer=90744113377", "--reason", "asked to").stdout
        )
        assert (found["rows"], found["views"], found["sets"]) == (2, ["usage"], [made["id"]])
        assert client.ask(features.ShowView(view="usage")).rows == 2
        entity = absent.home.artefacts / found["entity"][:2] / found["entity"]
        until(lambda: not entity.exists(), "end of the file that said whom")
        kept = absent.home.artefacts / made["digest"][:2] / made["digest"]
        asked = absent.home.artefacts / made["entities"][:2] / made["entities"]
        named = {str(path.relative_to(absent.home.root)) for path in (kept, asked)}
        until(lambda: set(holding(absent, "his")) <= named, "end of what held the entity")
    again = make(absent, folder, "again.parquet", "--overwrite")
    assert again["id"] != made["id"] and again["statuses"]["usage"]["NOT_FOUND"] == 1
    refused = absent.qd("features", "rebuild", made["id"])
    assert refused.returncode == 5 and "rows of" in refused.stderr
    trail = absent.qd("--json", "governance", "audit").stdout
    assert "forget one by customer: asked to" in trail and "90744113377" not in trail


def test_a_forgetting_that_is_killed_is_finished(absent: Daemon, folder: Path) -> None:
    absent.start()
    done(absent, "apply", folder / "f.toml")
    load(absent, folder, 0, "1,2026-01-01,1,a\n90744113377,2026-01-02,77.125,his\n")
    with absent.client() as client:
        digest, _ = client.put(b'{"keys": {"customer": "90744113377"}, "salt": "x"}')
        asked = client.ask(feature_files.ForgetEntity(entity=digest, keys=("customer",), reason="asked to"))
        running = until(lambda: client.ask(jobs.ShowJob(job=asked.job)).pid, "process")
        os.kill(running, signal.SIGKILL)
    absent.stop(signal.SIGKILL)
    absent.start()
    with absent.client() as client:
        [found] = until(
            lambda: [each for each in client.ask(feature_files.ListForgettings()) if each.done is not None], "end of it"
        )
        assert (found.id, found.rows) == (asked.id, 1) and client.ask(features.ShowView(view="usage")).rows == 1
        until(lambda: not holding(absent, "his"), "end of what held the entity")


def test_a_set_whose_join_paused_while_one_was_forgotten_is_not_kept(absent: Daemon, folder: Path) -> None:
    absent.start()
    done(absent, "apply", folder / "f.toml")
    load(absent, folder, 0, "1,2026-01-01,1,a\n90744113377,2026-01-02,77.125,his\n2,2026-01-15,7,b\n")
    with absent.client() as client:
        digest, _ = client.put((folder / "e.csv").read_bytes())
        asked = client.ask(features.JoinFeatures(digest=digest, format="csv", views=("usage",), time="event_time"))
        running = until(lambda: client.ask(jobs.ShowJob(job=asked.id)).pid, "process")
        os.kill(running, signal.SIGSTOP)
        try:
            absent.qd("features", "forget", "customer=90744113377", "--reason", "asked to")
            [found] = client.ask(feature_files.ListForgettings())
            assert found.done is not None and not found.sets
        finally:
            os.kill(running, signal.SIGCONT)
        ended = until(lambda: (job := client.ask(jobs.ShowJob(job=asked.id))).ended and job, "end of the join")
        assert ended.state == "FAILED" and f"rows that {found.id} took out meanwhile; ask again" in ended.error
        assert not client.ask(features.ListTrainingSets())
        until(lambda: not holding(absent, "his"), "end of what held the entity")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("customer=x",), "entity.customer: got x, expected an integer"),
        (("customer",), "entity: got customer, expected KEY=VALUE"),
        (("customers=1",), "entity: got customers, expected a known one"),
        (("customer=1", "customer=2"), "each key once"),
    ],
)
def test_whom_to_forget_is_checked_before_anything_happens(
    absent: Daemon, folder: Path, words: tuple[str, ...], said: str
) -> None:
    absent.start()
    done(absent, "apply", folder / "f.toml")
    refused = absent.qd("features", "forget", *words, "--reason", "asked to")
    assert refused.returncode in (2, 4) and said in refused.stderr
    assert not listed(absent, "forgettings")
