"""Checks of rows through a real daemon: a pipeline that stops at them, a file checked alone, a schema of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records.datasets import ListDatasets
from quarterstore.records.pipelines import ListPipelineRuns
from quarterstore.records.registry import ListVersions
from tests.conftest import Daemon

ROWS = "size,job,y\n" + "".join(
    f"{n % 37},{('clerk', 'smith')[n % 2]},{'yes' if n % 37 > 18 else 'no'}\n" for n in range(200)
)
DEFINITION = """
name = "p"
model = "m"
[data]
file = "rows.csv"
target = "y"
[validate]
{more}
[[validate.checks]]
check = "between"
column = "size"
min = 0
max = {most}
[[validate.checks]]
check = "row_count"
min = 1000
severity = "warn"
"""
SCHEMA = """
import pandera.polars as pa

rows = pa.DataFrameSchema({"size": pa.Column(int, pa.Check.lt(LIMIT)), "job": pa.Column(str)})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.csv").write_text(ROWS)
    return tmp_path


def run(daemon: Daemon, folder: Path, most: int, more: str = "") -> Any:
    """A pipeline over the rows, to its end."""
    (folder / "p.toml").write_text(DEFINITION.format(most=most, more=more))
    return daemon.qd("--json", "pipeline", "run", str(folder / "p.toml"))


def test_a_failed_check_ends_the_run_before_anything_is_learnt(daemon: Daemon, folder: Path) -> None:
    """Exit 1; the check, its column, the bad rows and three of them; no later step ran, nothing is registered."""
    done = run(daemon, folder, most=34)
    assert done.returncode == 1, done.stderr
    failed, warned = [json.loads(line) for line in done.stdout.splitlines()]
    assert (failed["check"], failed["column"], failed["bad"], failed["ok"]) == ("between", "size", 10, False)
    assert failed["samples"] == ["row 36: 35", "row 37: 36", "row 73: 35"]
    assert (warned["severity"], warned["ok"]) == ("warn", False)
    with daemon.client() as client:
        found = client.ask(ListPipelineRuns())[0]
        assert found.state == "FAILED" and found.version is None
        assert not [each for each in client.ask(ListVersions()) if each.run == found.run]
    assert [step.state for step in found.steps] == ["FAILED"] + ["WAITING"] * (len(found.steps) - 1)
    table = daemon.qd("pipeline", "run", str(folder / "p.toml"))
    assert table.returncode == 1
    assert "between" in table.stdout and "row 36: 35; row 37: 36; row 73: 35" in table.stdout
    held = run(daemon, folder, most=36)
    assert held.returncode == 0, held.stderr
    steps = {step["name"]: step for step in json.loads(held.stdout)["steps"]}
    assert "1 of 2 checks hold; WARNING: row_count: 200 rows" in steps["validate"]["words"]


def test_a_schema_of_ones_own_is_a_check(daemon: Daemon, folder: Path) -> None:
    """The file is the copy that was taken; what it finds is told as every other check."""
    pytest.importorskip("pandera", reason="a plug-in: it is there where a user installed it")
    (folder / "schema.py").write_text(SCHEMA.replace("LIMIT", "36"))
    done = run(daemon, folder, 36, 'pandera = "schema.py:rows"')
    assert done.returncode == 1, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found, done.stderr
    assert found[-1]["check"] == "pandera" and found[-1]["column"] == "size" and found[-1]["bad"] == 5
    (folder / "schema.py").write_text(SCHEMA.replace("LIMIT", "37"))
    assert run(daemon, folder, 36, 'pandera = "schema.py:rows"').returncode == 0
    (folder / "schema.py").write_text("rows = 1\n")
    assert "no schema rows" in run(daemon, folder, 36, 'pandera = "schema.py:rows"').stderr
    (folder / "schema.py").write_text("import nothing_of_that_name\nrows = 1\n")
    assert "line 1: ModuleNotFoundError" in run(daemon, folder, 36, 'pandera = "schema.py:rows"').stderr


RULES = """
reference = "rows.csv"
[[checks]]
check = "unique"
column = "size"
[[checks]]
check = "distribution"
columns = ["size", "job"]
"""


def test_a_file_is_kept_as_the_newest_dataset_of_its_name(daemon: Daemon, folder: Path) -> None:
    for more in ("", "1,clerk,no\n"):
        (folder / "kept.csv").write_text(ROWS + more)
        done = daemon.qd("--json", "data", "add", str(folder / "kept.csv"))
        assert done.returncode == 0, done.stderr
    with daemon.client() as client:
        newest = next(each for each in client.ask(ListDatasets()) if each.name == "kept.csv")
    assert newest.id == json.loads(done.stdout)["id"]
    (folder / "no.parquet").write_text(ROWS)
    for file, said in (("nothing.csv", "file: got"), ("no.parquet", "expected Parquet")):
        refused = daemon.qd("data", "add", str(folder / file))
        assert refused.returncode == 2 and said in refused.stderr and "Traceback" not in refused.stderr


def test_a_file_is_checked_alone(daemon: Daemon, folder: Path) -> None:
    (folder / "rules.toml").write_text(RULES)
    done = daemon.qd("--json", "data", "check", str(folder / "rows.csv"), str(folder / "rules.toml"))
    assert done.returncode == 1, done.stderr
    unique, *same = [json.loads(line) for line in done.stdout.splitlines()]
    assert unique["bad"] == 200 and [one["words"] for one in same] == [
        "PSI 0 over 10 bins, limit 0.25",
        "PSI 0 over 2 bins, limit 0.25",
    ]
    (folder / "rules.toml").write_text('[[checks]]\ncheck = "not_null"\ncolumn = "size"\n')
    assert daemon.qd("data", "check", str(folder / "rows.csv"), str(folder / "rules.toml")).returncode == 0


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ('[[checks]]\ncheck = "not_nul"\ncolumn = "a"\n', "expected columns_exist, column_types"),
        ('[[checks]]\ncheck = "not_null"\ncolum = "a"\n', "nearest: column"),
        ('[[checks]]\ncheck = "matches"\ncolumn = "job"\npattern = "("\n', "expected a pattern of RE2"),
        ('[[checks]]\ncheck = "distribution"\ncolumn = "a"\n', "reference"),
        ('reference = "gone.csv"\nchecks = []\n', "reference: got gone.csv"),
        ("[[checks]\n", "no TOML"),
    ],
)
def test_rules_that_are_none_are_refused_in_words(daemon: Daemon, folder: Path, rules: str, said: str) -> None:
    (folder / "rules.toml").write_text(rules)
    done = daemon.qd("data", "check", str(folder / "rows.csv"), str(folder / "rules.toml"))
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
