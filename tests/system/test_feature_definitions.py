"""Definitions in Python, and from a file of rows; features on demand in a training set."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import Daemon, _made
from tests.system.test_features import done

ROOT = Path(__file__).parents[2]
CODE = """
import os
from datetime import timedelta

from quarterdeck.features import Entity, FeatureView, Field, FileSource, Float64, Int64, String

print("this is talk")
person = Entity(name="person", join_keys=["shop", "customer"], value_type={"customer": Int64})
usage = FeatureView(
    name="usage",
    entities=[person],
    ttl=timedelta(days=30),
    schema=[Field(name="minutes", dtype=Float64), Field(name="calls", dtype=Int64), Field(name="plan", dtype=String)],
    source=FileSource(path="usage.parquet", timestamp_field="at"),
    requests=[Field(name="amount", dtype=Float64)],
    on_demand={"per_call": "minutes / calls", "dear": "amount > coalesce(minutes, 0)"},
    owner="data",
    description="what a person uses",
    tags={"team": "churn"},
)
again = usage
open("ran", "w").close()
"""
ROWS = "shop,customer,at,minutes,calls,plan\na,1,2026-01-01,6,3,x\na,2,2026-01-01,6,0,y\nb,1,2026-01-01,9,3,z\n"
ENTITIES = (
    "shop,customer,event_time,amount,bought\n"
    "a,1,2026-01-02,7,1\na,2,2026-01-02T01:00:00+01:00,,0\na,1,2026-01-02,5,1\nc,1,2026-01-02,1,0\nb,1,2026-03-01,1,1\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"defs.py": CODE, "rows.csv": ROWS, "e.csv": ENTITIES}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_python_is_run_only_when_it_is_said_and_makes_what_toml_does(absent: Daemon, folder: Path) -> None:
    absent.start()
    refused = absent.qd("features", "apply", str(folder / "defs.py"))
    assert refused.returncode == 6 and "--run-code" in refused.stderr and not (folder / "ran").exists()
    view = done(absent, "apply", folder / "defs.py", "--run-code")
    assert (view["owner"], view["source"], view["tags"]) == ("data", "usage.parquet", {"team": "churn"})
    assert [(each["name"], each["kind"]) for each in view["on_demand"]] == [("per_call", "number"), ("dear", "boolean")]
    done(absent, "load", "usage", folder / "rows.csv")
    words = ("get", "--entities", folder / "e.csv", "-o", folder / "set.parquet")
    done(absent, *words, "--view", "usage:per_call", "--view", "usage:dear")
    assert pl.read_parquet(folder / "set.parquet").drop("event_time").rows() == [
        ("a", "1", 7, 1, 2.0, True, "PRESENT", 86_400.0),
        ("a", "2", None, 0, None, None, "PRESENT", 86_400.0),
        ("a", "1", 5, 1, 2.0, False, "PRESENT", 86_400.0),
        ("c", "1", 1, 0, None, True, "NOT_FOUND", None),
        ("b", "1", 1, 1, None, True, "EXPIRED", 59 * 86_400.0),
    ]
    (folder / "e.csv").write_text("shop,customer,event_time\na,1,2026-01-02\n")
    lacking = absent.qd("features", *map(str, words), "--view", "usage:dear", "--overwrite")
    assert lacking.returncode == 1 and "got a file without the column amount" in lacking.stderr
    shown = absent.qd("features", "show", "usage")
    assert "minutes / calls" in shown.stdout and "owner data, source usage.parquet, team=churn" in shown.stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("1/0", "defs.py: ZeroDivisionError: division by zero"),
        ("x = 1", "defs.py: got no FeatureView"),
        ("import os; os._exit(0)", "defs.py: got a file that ends its process"),
        ("import sys; sys.exit(3)", "defs.py: exit code 3"),
        (CODE.replace("owner=", "batch_source="), "batch_source"),
        (CODE.replace("Float64)", "'float')"), "the dtype of minutes is 'float', expected Float64"),
        (CODE.replace('"customer": Int64', '"customer": Float64'), "the key customer of person is number"),
        (CODE.replace("minutes / calls", "minute / calls"), "on_demand.per_call: got minute, expected a known one"),
        (CODE.replace("minutes / calls", "__import__('os')"), "on_demand.per_call: got __import__"),
        (CODE.replace('"dear"', '"plan"'), "features: got plan twice"),
    ],
)
def test_a_file_of_python_that_makes_no_sense_is_refused_in_a_line(
    quiet: Daemon, folder: Path, code: str, words: str
) -> None:
    (folder / "defs.py").write_text(code)
    refused = quiet.qd("features", "apply", str(folder / "defs.py"), "--run-code")
    assert refused.returncode in (1, 2, 4) and words in refused.stderr and "Traceback" not in refused.stderr
    assert not quiet.qd("--json", "features", "list").stdout


@pytest.fixture(scope="module")
def quiet() -> Iterator[Daemon]:
    """One daemon of which nothing is ever defined."""
    daemon = _made()
    daemon.start()
    yield daemon
    daemon.end()


def test_definitions_are_written_from_rows_and_taken(absent: Daemon, folder: Path) -> None:
    absent.start()
    script = [sys.executable, str(ROOT / "scripts" / "feature_definitions.py"), str(folder / "rows.csv")]
    words = ["--view", "usage", "--key", "shop", "--key", "customer", "--time", "at", "--ttl", "30d"]
    subprocess.run([*script, *words, "-o", str(folder / "d.toml")], check=True)
    view = done(absent, "apply", folder / "d.toml")
    assert [(each["name"], each["kind"]) for each in view["features"]] == [
        ("minutes", "integer"),
        ("calls", "integer"),
        ("plan", "text"),
    ]
    assert view["entities"][0]["keys"] == [{"name": "shop", "kind": "text"}, {"name": "customer", "kind": "integer"}]
    assert done(absent, "load", "usage", folder / "rows.csv")["rows"] == 3
    (folder / "q.csv").write_text('who,at,"a ""b"""\n1,2026-01-01,2\n')
    quoted = [*script[:2], str(folder / "q.csv"), "--view", "q", "--key", "who", "--time", "at"]
    subprocess.run([*quoted, "-o", str(folder / "q.toml")], check=True)
    assert [each["name"] for each in done(absent, "apply", folder / "q.toml")["features"]] == ['a "b"']
    assert done(absent, "load", "q", folder / "q.csv")["rows"] == 1
    ran = subprocess.run([*script, "--view", "v", "--key", "whom", "--time", "at"], capture_output=True, text=True)
    assert ran.returncode == 1 and "whom: got no such column" in ran.stderr


@pytest.mark.parametrize(
    ("name", "held", "time", "words"),
    [
        ("cut.parquet", "PAR1", "at", "error: file: got "),
        ("ragged.csv", "k,at\n1,2,3\n", "at", "error: file: got "),
        ("empty.csv", "", "at", "error: file: got "),
        ("text.csv", "k,at\n1,soon\n", "at", "error: at: got text, expected times, or numbers of seconds since 1970"),
        ("k.csv", "k,at\n1,2\n", "when", "error: when: got no such column, expected one of k, at"),
    ],
)
def test_no_definition_is_written_from_a_file_that_cannot_be_read_or_has_no_times(
    tmp_path: Path, name: str, held: str, time: str, words: str
) -> None:
    (tmp_path / name).write_text(held)
    script = [sys.executable, str(ROOT / "scripts" / "feature_definitions.py"), str(tmp_path / name)]
    ran = subprocess.run([*script, "--view", "v", "--key", "k", "--time", time], capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stderr.startswith(words) and len(ran.stderr.splitlines()) == 1
