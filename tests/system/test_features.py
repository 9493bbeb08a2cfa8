"""Features through a real daemon and the command line: defined, loaded, joined as known, also after a kill."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.conftest import Daemon
from tests.usage import DEFINED

ROWS = "customer,at,minutes,plan\n1,2026-01-01,1.5,basic\n1,2026-02-01T12:00Z,2.5,pro\n2,2026-01-15,7,\n"
BACKFILL = "customer,at,minutes,plan\n1,2026-01-01,9.5,corrected\n"
ENTITIES = "customer,event_time\n1,2026-01-05\n1,2026-02-01T12:00Z\n1,2026-06-01\n2,2026-01-20\n9,2026-01-20\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"f.toml": DEFINED, "rows.csv": ROWS, "more.csv": BACKFILL, "e.csv": ENTITIES}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def done(daemon: Daemon, *words: str | Path) -> Any:
    """What a command answers."""
    [found] = listed(daemon, *words)
    return found


def listed(daemon: Daemon, *words: str | Path) -> list[Any]:
    """The records a command answers, one a line."""
    ran = daemon.qd("--json", "features", *map(str, words))
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def made(daemon: Daemon, folder: Path, name: str, *more: str) -> tuple[Any, list[Any]]:
    """A training set, and what is in it."""
    output = folder / name
    found = done(daemon, "get", "--entities", folder / "e.csv", "--views", "usage", "-o", output, *more)
    return found, pl.read_parquet(output).select("minutes", "plan", "usage__status", "usage__age").rows()


AS_KNOWN = [
    (1.5, "basic", "PRESENT", 4 * 86_400.0),
    (2.5, "pro", "PRESENT", 0.0),
    (None, None, "EXPIRED", 119.5 * 86_400.0),
    (7.0, None, "PRESENT", 5 * 86_400.0),
    (None, None, "NOT_FOUND", None),
]


def test_a_backfill_changes_no_set_as_known_and_its_id_is_the_same_after_a_kill(absent: Daemon, folder: Path) -> None:
    absent.start()
    view = done(absent, "apply", folder / "f.toml")
    assert (view["name"], view["version"], view["ttl"]) == ("usage", 1, 30 * 86_400.0)
    assert done(absent, "load", "usage", folder / "rows.csv")["known"] == "event"
    first, rows = made(absent, folder, "first.parquet")
    assert rows == AS_KNOWN and first["statuses"]["usage"] == {"PRESENT": 3, "EXPIRED": 1, "NOT_FOUND": 1}
    absent.stop(signal.SIGKILL)
    absent.start()
    assert done(absent, "load", "usage", folder / "more.csv")["known"] == "now"
    again, rows = made(absent, folder, "again.parquet")
    assert rows == AS_KNOWN and (again["id"], again["digest"]) == (first["id"], first["digest"])
    corrected, rows = made(absent, folder, "corrected.parquet", "--as-corrected")
    assert rows[0][:2] == (9.5, "corrected") and corrected["id"] != first["id"]
    earlier, rows = made(absent, folder, "earlier.parquet", "--as-corrected", "--as-known-at", "2026-11-01")
    assert rows == AS_KNOWN and earlier["id"] not in (first["id"], corrected["id"])
    assert {each["id"] for each in listed(absent, "sets")} == {first["id"], corrected["id"], earlier["id"]}
    assert done(absent, "show", "usage")["rows"] == 4


def test_a_backfill_whose_rows_say_when_they_were_known_changes_no_id_either(absent: Daemon, folder: Path) -> None:
    (folder / "f.toml").write_text(DEFINED.replace('ttl = "30d"', 'ttl = "30d"\ncreated_time = "written"'))
    for name, written in (("rows.csv", "2026-01-02"), ("more.csv", "2026-09-01")):
        head, *rows = (folder / name).read_text().splitlines()
        (folder / name).write_text("\n".join([f"{head},written", *(f"{row},{written}" for row in rows)]) + "\n")
    absent.start()
    done(absent, "apply", folder / "f.toml")
    done(absent, "load", "usage", folder / "rows.csv")
    first, rows = made(absent, folder, "first.parquet")
    assert done(absent, "load", "usage", folder / "more.csv")["known"] == "column"
    again, same = made(absent, folder, "again.parquet")
    assert (same, again["id"], again["digest"]) == (rows, first["id"], first["digest"])
    assert made(absent, folder, "corrected.parquet", "--as-corrected")[0]["id"] != first["id"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            "customer,at,minutes\n1,2026-01-01,1\n",
            "feature: got a file without the column plan, expected it among customer, at, minutes",
        ),
        ("customer,at,minutes,plan\n1,never,1,x\n", "row 1, at: got never, expected a time"),
    ],
)
def test_rows_that_do_not_fit_are_named_and_nothing_is_kept(
    absent: Daemon, folder: Path, rows: str, words: str
) -> None:
    absent.start()
    done(absent, "apply", folder / "f.toml")
    (folder / "bad.csv").write_text(rows)
    refused = absent.qd("features", "load", "usage", str(folder / "bad.csv"))
    assert refused.returncode == 1 and words in refused.stderr and "Traceback" not in refused.stderr
    assert done(absent, "show", "usage")["rows"] == 0


def test_entities_without_a_time_are_named(absent: Daemon, folder: Path) -> None:
    absent.start()
    done(absent, "apply", folder / "f.toml")
    done(absent, "load", "usage", folder / "rows.csv")
    (folder / "e.csv").write_text("customer,when\n1,2026-01-01\n")
    words = ("features", "get", "--entities", str(folder / "e.csv"), "--view", "usage", "-o", str(folder / "x.parquet"))
    refused = absent.qd(*words)
    assert (
        refused.returncode == 1 and "without the column event_time, expected it among customer, when" in refused.stderr
    )
    assert not (folder / "x.parquet").exists()
    (folder / "e.csv").write_text("customer,event_time,usage__status\n1,2026-01-01,x\n")
    refused = absent.qd(*words)
    assert (
        refused.returncode == 1
        and "usage__status is a column there already and says how a value was found of usage@1" in refused.stderr
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "f.toml: got a file that is no TOML"),
        (DEFINED.replace("ttl =", "tttl ="), "tttl"),
        (DEFINED.replace('"30d"', '"soon"'), "views.usage.ttl: got soon, expected a span"),
        (DEFINED.replace('["customer"]', '["customers"]'), "views.usage.entities: got customers"),
        (DEFINED.replace('"number"', '"float"'), "float"),
        (DEFINED.replace('"integer"', '"uuid"'), "entities.customer.keys.customer: got uuid, expected text or integer"),
    ],
)
def test_a_definition_that_makes_no_sense_is_refused_before_anything_is_asked(
    absent: Daemon, folder: Path, text: str, words: str
) -> None:
    (folder / "f.toml").write_text(text)
    refused = absent.qd("features", "apply", str(folder / "f.toml"))
    assert refused.returncode in (2, 4) and words in refused.stderr, refused.stderr
