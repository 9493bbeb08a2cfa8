"""From features to a version and back: what it was trained on, and whether the values are like that still."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quarterstore.records import feature_checks, jobs, monitoring, online, schedules
from quarterstore.records.faults import Fault
from quarterstore.records.registry import ShowVersion
from quarterstore.records.wire import plain
from quarterstore.shelf.online import packed, pairs_in, write
from tests.conftest import Daemon
from tests.system.test_feature_files import until
from tests.system.test_features import DEFINED, done

PEOPLE = 240


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = random.Random(1)
    amounts = [round(draw.gauss(50, 10), 3) for _ in range(PEOPLE)]
    rows = [f"{number},2026-01-01,{amount},{draw.choice('ab')}" for number, amount in enumerate(amounts)]
    asked = [f"{number},2026-01-02,{int(amount > 50)}" for number, amount in enumerate(amounts)]
    moved = [f"{number},2026-03-01,{round(amount + 20, 3)},a" for number, amount in enumerate(amounts)]
    (tmp_path / "f.toml").write_text(DEFINED)
    for name, head, lines in (
        ("rows.csv", "customer,at,minutes,plan", rows),
        ("moved.csv", "customer,at,minutes,plan", moved),
        ("e.csv", "customer,event_time,left", asked),
    ):
        (tmp_path / name).write_text("\n".join([head, *lines]) + "\n")
    return tmp_path


def trained(daemon: Daemon, folder: Path) -> tuple[Any, str]:
    """A set, and the version that was trained on it."""
    done(daemon, "apply", folder / "f.toml")
    done(daemon, "load", "usage", folder / "rows.csv")
    made = done(daemon, "get", "--entities", folder / "e.csv", "--view", "usage", "-o", folder / "leavers.parquet")
    words = (
        "quickstart",
        str(folder / "leavers.parquet"),
        "--target",
        "left",
        "--ignore",
        "customer",
        "--ignore",
        "event_time",
    )
    ran = daemon.qd("--json", *words, "--out", str(folder / "leavers.toml"))
    assert ran.returncode == 0, ran.stderr
    return made, json.loads(ran.stdout.splitlines()[-1])


def test_a_version_knows_its_views_and_a_view_how_far_it_is_from_a_version(absent: Daemon, folder: Path) -> None:
    absent.start()
    made, version = trained(absent, folder)
    names = [each["name"] for each in version["signature"]["features"]]
    assert names == ["minutes", "plan"], "how a feature was found is none"
    up = json.loads(absent.qd("--json", "lineage", version["id"]).stdout)["up"]
    assert [(each["kind"], each["id"]) for each in up if "data" not in each["kind"] and each["kind"] != "run"] == [
        ("training set", made["id"]),
        ("feature view", "usage@1"),
    ]
    of_set = json.loads(absent.qd("--json", "lineage", made["id"]).stdout)
    assert [each["id"] for each in of_set["up"]] == ["usage@1"]
    assert version["id"] in [each["id"] for each in of_set["down"]]
    same = done(absent, "stats", "usage")
    assert (same["against"], same["verdict"], same["rows"]) == (version["id"], "NONE", PEOPLE)
    done(absent, "load", "usage", folder / "moved.csv")
    minutes, plan = done(absent, "stats", "usage", "--since", "2026-02-01", "--against", version["id"])["features"]
    assert (minutes["verdict"], minutes["nulls"], minutes["distinct"] > 200) == ("DRIFT", 0, True)
    assert minutes["effect"] > 1 and minutes["lowest"] < minutes["mean"] < minutes["highest"]
    assert (plan["distinct"], plan["lowest"], plan["mean"], plan["verdict"]) == (1, "a", None, "DRIFT")
    first = done(absent, "stats", "usage", "--since", "2026-01-01", "--until", "2026-03-01")
    assert (first["verdict"], first["rows"]) == ("NONE", PEOPLE)
    shown = absent.qd("features", "stats", "usage")
    assert "minutes" in shown.stdout and f"usage@1 against {version['id']}" in shown.stderr
    forgotten = done(absent, "forget", "customer=7", "--reason", "asked to")
    assert (forgotten["rows"], forgotten["sets"], forgotten["versions"]) == (2, [made["id"]], [version["id"]])


def test_a_view_without_a_version_has_no_verdict_and_what_makes_no_sense_is_refused(
    absent: Daemon, folder: Path
) -> None:
    absent.start()
    done(absent, "apply", folder / "f.toml")
    empty = absent.qd("features", "stats", "usage")
    assert empty.returncode == 6 and "usage has no rows" in empty.stderr
    done(absent, "load", "usage", folder / "rows.csv")
    found = done(absent, "stats", "usage")
    assert (found["verdict"], found["against"], len(found["features"])) == (None, None, 2)
    for words, said in (
        (("--against", "m@1"), "model: got m"),
        (("--since", "2999-01-01"), "since: got 2999-01-01 00:00:00 UTC, expected a time that is past"),
        (("--since", "soon"), "since: got soon, expected a time"),
        (
            ("--since", "2026-02-01", "--until", "2026-01-01"),
            "until: got 2026-01-01 00:00:00 UTC, expected a time after 2026-02-01",
        ),
    ):
        refused = absent.qd("features", "stats", "usage", *words)
        assert refused.returncode in (2, 4) and said in refused.stderr, refused.stderr
    assert [job["kind"] for job in listed_jobs(absent)].count("feature_stats") == 1


def test_a_pipeline_that_names_features_learns_from_them_as_they_were_known(absent: Daemon, folder: Path) -> None:
    absent.start()
    done(absent, "apply", folder / "f.toml")
    done(absent, "load", "usage", folder / "rows.csv")
    head, *asked = (folder / "e.csv").read_text().splitlines()
    lines = [f"{head},visits,plan", *(f"{line},{n * 7 % 50},{'ab'[n % 2]}" for n, line in enumerate(asked))]
    (folder / "e.csv").write_text("\n".join(lines) + "\n")
    (folder / "p.toml").write_text(
        'name = "leavers"\nmodel = "leavers"\n[data]\nfile = "e.csv"\ntarget = "left"\nfeatures = ["usage:minutes"]\n'
    )
    ran = absent.qd("--json", "pipeline", "run", str(folder / "p.toml"), "--wait")
    assert ran.returncode == 0, ran.stderr
    version = json.loads(ran.stdout.splitlines()[-1])["version"]
    with absent.client() as client:
        shown = plain(client.ask(ShowVersion(version=version)))
    found = {each["name"]: each["kind"] for each in shown["signature"]["features"]}
    assert found == {"visits": "number", "plan": "category", "minutes": "number"}  # the file of entities is a CSV
    up = json.loads(absent.qd("--json", "lineage", version).stdout)["up"]
    assert "usage@1" in [each["id"] for each in up]
    (folder / "p.toml").write_text(
        'name = "leavers"\nmodel = "leavers"\n[data]\nfile = "e.csv"\ntarget = "left"\nfeatures = ["nothing"]\n'
    )
    refused = absent.qd("pipeline", "run", str(folder / "p.toml"))
    assert refused.returncode == 4 and "nothing" in refused.stderr


def test_what_is_read_online_is_compared_and_an_alert_stands_as_long_as_it_differs(
    absent: Daemon, folder: Path
) -> None:
    absent.start()
    (folder / "f.toml").write_text(DEFINED.replace('ttl = "30d"', ""))
    done(absent, "apply", folder / "f.toml")
    done(absent, "load", "usage", folder / "rows.csv")
    early = absent.qd("features", "parity", "usage")
    assert early.returncode == 6 and "usage is not online" in early.stderr
    with absent.client() as client:
        job = ended(client, client.ask(online.Materialise(view="usage")))
        client.ask(online.PushRows(view="usage", rows=({"customer": 7, "minutes": 1.5, "plan": None},)))
        good = absent.qd("features", "parity", "usage", "--sample", "1000")
        assert good.returncode == 0 and "0 mismatches of 240" in good.stderr, good.stderr
        made = absent.home.online / "usage" / job.id
        pairs = [(key, packed([*msgspec.msgpack.decode(row)[:2], 999.0, "x"])) for key, row in pairs_in(made)]
        made.rename(made.with_name("aside"))
        write(made, pairs)
        bad = absent.qd("features", "parity", "usage", "--sample", "50")
        assert bad.returncode == 1 and "mismatches of 50" in bad.stderr and "999" in bad.stdout
        ended(client, client.ask(feature_checks.CheckParity(view="usage")))
        [alert] = [each for each in client.ask(monitoring.ListAlerts()) if each.kind == "features differ"]
        assert (alert.subject, alert.resolved) == ("usage", None)
        ended(client, client.ask(online.Materialise(view="usage", full=True)))
        assert ended(client, client.ask(feature_checks.CheckParity(view="usage"))).result["mismatches"] == 0
        assert not [each for each in client.ask(monitoring.ListAlerts()) if each.kind == "features differ"]
        for sample in (0, 100_001):
            with pytest.raises(Fault, match="1 to 100,000"):
                client.ask(feature_checks.CheckParity(view="usage", sample=sample))
        name, act = "parity", {"type": "features.parity", "view": "usage"}
        assert client.ask(schedules.AddSchedule(name=name, act=act, every=3600.0)).every == 3600.0


def ended(client: Any, job: jobs.Job) -> jobs.Job:
    return until(lambda: (found := client.ask(jobs.ShowJob(job=job.id))).ended and found, "end of the job")


def listed_jobs(daemon: Daemon) -> list[Any]:
    return [json.loads(line) for line in daemon.qd("--json", "jobs", "list").stdout.splitlines()]
