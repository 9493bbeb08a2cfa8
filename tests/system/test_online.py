"""Features online through a real daemon and the command line: made, pushed, read, also after a kill at any point."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper

from quarterstore.records import deployments, jobs, monitoring, online
from tests.conftest import Daemon
from tests.decks import until
from tests.usage import DEFINED

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


def model_file(mark: str) -> bytes:
    """y = x @ w for x of two numbers, a missing one as 0."""
    number = TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("IsNaN", ["x"], ["lacks"]),
            helper.make_node("Where", ["lacks", "zero", "x"], ["filled"]),
            helper.make_node("MatMul", ["filled", "w"], ["y"]),
        ],
        "small",
        [helper.make_tensor_value_info("x", number, ["n", 2])],
        [helper.make_tensor_value_info("y", number, ["n", 1])],
        [
            numpy_helper.from_array(np.full((2, 1), 0.5, np.float32), "w"),
            numpy_helper.from_array(np.zeros((), np.float32), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model.doc_string = mark
    return bytes(model.SerializeToString())


def registered(daemon: Daemon, folder: Path, *options: str) -> str:
    """A version of `m` in Production that takes `minutes` and `age`: y is half the sum of what is there."""
    (folder / "m.onnx").write_bytes(model_file(" ".join(options)))
    schema = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
        "features": [
            {"name": name, "kind": "number", "input": "x", "index": index}
            for index, name in enumerate(("minutes", "age"))
        ],
    }
    (folder / "schema.json").write_text(json.dumps(schema))
    words = ("--schema", str(folder / "schema.json"), "--features", "usage:minutes", *options)
    ran = daemon.qd("--json", "register", str(folder / "m.onnx"), "--name", "m", *words)
    assert ran.returncode == 0, ran.stderr
    version = json.loads(ran.stdout)
    assert version["views"] == [{"name": "usage", "version": 1, "features": ["minutes"]}]
    done = daemon.qd("promote", version["id"], "Production", "--reason", "a test", "--skip-stage")
    assert done.returncode == 0, done.stderr
    return str(version["id"])


def posted(url: str, body: Any) -> Any:
    """The answer to a body, also where it is a refusal."""
    try:
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        return {"status": refusal.code, **json.load(refusal)}


def shown(daemon: Daemon, prediction: str) -> str:
    """A prediction as it was recorded, once it is."""
    return daemon.qd("--json", "predictions", "show", "--prediction", prediction).stdout


def served(daemon: Daemon, version: str) -> str:
    """The address at which a version answers."""
    ran = daemon.qd("--json", "serve", version)
    assert ran.returncode == 0, ran.stderr
    return str(json.loads(ran.stdout)["predict"]).partition("/v1/")[0]


def test_a_caller_gives_keys_instead_of_values_and_the_prediction_keeps_what_was_read_also_without_the_daemon(
    started: Daemon, tmp_path: Path
) -> None:
    asked(started, "materialise", "usage")
    address = served(started, registered(started, tmp_path))
    predict = f"{address}/v1/predict/m"
    found = posted(
        predict, {"rows": [{"customer": 1, "age": 1.5}, {"minutes": 1, "age": 2}, {"customer": 9, "age": 1}]}
    )
    assert found["rows"] == [{"y": 2.0}, {"y": 1.5}, {"y": 0.5}]
    assert found["features"]["usage@1"]["statuses"] == ["PRESENT", None, "NOT_FOUND"]
    infer = {"inputs": [], "parameters": {"keys": [{"customer": 1}]}}
    assert "age" in posted(f"{address}/v2/models/m/infer", infer)["error"]
    infer["parameters"]["keys"][0]["age"] = 1.5  # type: ignore[call-overload]
    assert posted(f"{address}/v2/models/m/infer", infer)["outputs"][0]["data"] == [2.0]
    assert posted(predict, {"rows": [{"customer": "1", "age": 1}]})["error"].startswith("rows[0].customer: got 1 (str)")
    features = f"{address}/v1/features/usage"
    read = posted(features, {"keys": [{"customer": 1}, {"customer": 2}], "features": ["plan"]})
    assert (read["values"], read["statuses"]) == ([["pro"], [None]], ["PRESENT", "EXPIRED"])
    assert "plan" in posted(features, {"keys": [{"customer": 1}], "features": ["plane"]})["error"]
    assert posted(f"{address}/v1/features/usag", {"keys": [{"customer": 1}]})["status"] == 404
    asked(started, "push", "usage", "--key", "9", "--value", "minutes=3", "--value", "plan=")
    assert posted(predict, {"rows": [{"customer": 9, "age": 1}]})["rows"] == [{"y": 2.0}]
    kept = json.loads(until(lambda: shown(started, found["prediction"])))  # a segment is closed after a second
    assert kept["inputs"] == {"minutes": 2.5, "age": 1.5}
    [status, age] = kept["features_read"]["usage@1"]
    assert status == "PRESENT" and age == found["features"]["usage@1"]["ages"][0]
    started.stop(signal.SIGKILL)
    assert posted(predict, {"rows": [{"customer": 9, "age": 2}]})["rows"] == [{"y": 2.5}]
    assert posted(features, {"keys": [{"customer": 9}], "features": ["minutes"]})["values"] == [[3.0]]
    started.start()


@pytest.mark.parametrize(("on_expired", "expected"), [("fail", "EXPIRED"), ("null", 0.5), ("last", 4.0)])
def test_a_version_says_what_it_is_given_of_an_old_value(
    started: Daemon, tmp_path: Path, on_expired: str, expected: Any
) -> None:
    asked(started, "materialise", "usage")
    address = served(started, registered(started, tmp_path, "--on-expired", on_expired))
    found = posted(f"{address}/v1/predict/m", {"rows": [{"customer": 2, "age": 1}]})
    if on_expired == "fail":
        assert found["status"] == 409 and "EXPIRED" in found["error"]
    else:
        assert found["rows"] == [{"y": expected}]
        assert found["features"]["usage@1"]["statuses"] == ["EXPIRED"]


def test_who_is_forgotten_is_read_no_more_at_once_and_is_on_the_disk_no_more_afterwards(
    started: Daemon, tmp_path: Path
) -> None:
    first = asked(started, "materialise", "usage")[0]["generation"]["id"]
    asked(started, "push", "usage", "--key", "1", "--value", "minutes=9", "--value", "plan=secret-plan")
    asked(started, "forget", "customer=1", "--reason", "asked to")
    [found] = asked(started, "online", "usage", "--key", "1", "--key", "2")
    assert found["statuses"] == ["NOT_FOUND", "EXPIRED"]
    again = until(lambda: next((g for g in [generation(started)] if g["id"] != first), None))
    assert (again["entities"], again["full"]) == (1, True)
    folder = started.home.online / "usage"
    until(lambda: [each.name for each in folder.iterdir()] == [again["id"]])
    assert asked(started, "online", "usage", "--key", "1")[0]["statuses"] == ["NOT_FOUND"]


PAIRS = """
[entities.pair]
keys = ["region", "name"]
[views.pairs]
entities = ["pair"]
event_time = "at"
[views.pairs.features]
v = "number"
"""


def test_who_is_forgotten_by_a_part_of_a_key_is_read_no_more_also_where_the_key_is_kept_by_its_hash(
    absent: Daemon, tmp_path: Path
) -> None:
    absent.start()
    (tmp_path / "f.toml").write_text(PAIRS)
    asked(absent, "apply", tmp_path / "f.toml")
    long = "x" * 600
    (tmp_path / "rows.csv").write_text(f"region,name,at,v\neu,{long},2026-01-01,1\nus,{long},2026-01-01,2\n")
    asked(absent, "load", "pairs", tmp_path / "rows.csv")
    asked(absent, "materialise", "pairs")
    rows = "".join(json.dumps({"region": region, "name": long, "v": 42}) + "\n" for region in ("eu", "us"))
    asked(absent, "push", "pairs", stdin=rows)
    asked(absent, "forget", "region=eu", "--reason", "asked to")
    keys = [word for region in ("eu", "us") for word in ("--key", json.dumps({"region": region, "name": long}))]

    def read() -> Any:
        [found] = asked(absent, "online", "pairs", *keys)
        return list(zip(found["statuses"], found["values"], strict=True))

    assert read()[0] == ("NOT_FOUND", [None])
    until(lambda: asked(absent, "status", "pairs")[0]["generation"]["full"])
    # the job that made it may not have ended yet, and two of a view do not run beside each other
    until(lambda: absent.qd("--json", "features", "materialise", "pairs", "--full").returncode == 0)
    assert read() == [("NOT_FOUND", [None]), ("PRESENT", [42.0])]
    assert asked(absent, "show", "pairs")[0]["rows"] == 2, "nothing of it came back into a file"


def test_a_generation_that_is_gone_from_the_disk_is_made_again_and_a_host_that_begins_without_it_answers(
    started: Daemon, tmp_path: Path
) -> None:
    first = asked(started, "materialise", "usage")[0]["generation"]["id"]
    address = served(started, registered(started, tmp_path))
    with started.client() as client:
        [host] = client.ask(deployments.ShowServing()).hosts
    started.stop(signal.SIGKILL)
    shutil.rmtree(started.home.online / "usage")
    os.kill(host.pid, signal.SIGKILL)

    def answer(row: dict[str, Any]) -> Any:
        with contextlib.suppress(OSError):
            return posted(f"{address}/v1/predict/m", {"rows": [row]})

    assert until(lambda: answer({"minutes": 1, "age": 2}))["rows"] == [{"y": 1.5}]
    refused = answer({"customer": 1, "age": 2})
    assert refused["status"] == 503 and "usage@1 cannot be read" in refused["error"]
    started.start()
    until(lambda: generation(started)["id"] != first)
    assert until(lambda: answer({"customer": 1, "age": 1.5}).get("rows")) == [{"y": 2.0}]


def generation(daemon: Daemon) -> Any:
    """The newest generation."""
    [status] = asked(daemon, "status", "usage")
    return status["generation"]


def test_a_killed_materialise_leaves_the_old_state_and_the_next_one_finishes(started: Daemon, tmp_path: Path) -> None:
    old = asked(started, "materialise", "usage")[0]["generation"]
    many = 400_000
    rows = pl.select(
        customer=pl.int_range(10, many + 10), at=pl.lit(datetime.now(UTC)), minutes=1.5, plan=pl.lit("new")
    )
    rows.write_parquet(tmp_path / "many.parquet")
    asked(started, "load", "usage", tmp_path / "many.parquet")
    part = started.home.online / "usage"
    with started.client() as client:
        job = client.ask(online.Materialise(view="usage"))
        until(lambda: any(each.name.endswith(".part") for each in part.iterdir()))
        os.kill(client.ask(jobs.ShowJob(job=job.id)).pid, signal.SIGKILL)
        assert until(lambda: client.ask(jobs.ShowJob(job=job.id)).state not in ("QUEUED", "RUNNING"))
        assert client.ask(jobs.ShowJob(job=job.id)).state == "LOST"
    assert generation(started) == old
    assert asked(started, "online", "usage", "--key", "1", "--key", "10")[0]["statuses"] == ["PRESENT", "NOT_FOUND"]
    [status] = asked(started, "materialise", "usage")
    assert (status["generation"]["entities"], status["generation"]["full"]) == (many + 2, False)
    until(lambda: {each.name for each in part.iterdir()} == {old["id"], status["generation"]["id"]})
    assert asked(started, "online", "usage", "--key", "1", "--key", "10")[0]["statuses"] == ["PRESENT", "PRESENT"]


@pytest.mark.parametrize("point", ["online.noted", "online.kept"])
def test_pushed_rows_become_a_file_once_wherever_the_daemon_dies(absent: Daemon, tmp_path: Path, point: str) -> None:
    absent.start(QD_CRASH_AT=point)
    (tmp_path / "f.toml").write_text(DEFINED)
    asked(absent, "apply", tmp_path / "f.toml")
    loaded(absent, tmp_path, ROWS.format(now=_now()))
    lines = "".join(json.dumps({"customer": n, "minutes": n, "plan": None}) + "\n" for n in range(100, 1300))
    answers = asked(absent, "push", "usage", stdin=lines)
    assert [each["rows"] for each in answers] == [1000, 200]
    died = absent.qd("--timeout", "3", "features", "materialise", "usage")  # what was pushed becomes a file first
    assert died.returncode != 0
    absent.start()
    asked(absent, "push", "usage", "--key", "7", "--value", "minutes=1", "--value", "plan=x")
    [status] = asked(absent, "materialise", "usage")
    assert (status["generation"]["entities"], status["pushed"]) == (2 + 1200 + 1, 0)
    [view] = asked(absent, "show", "usage")
    assert view["rows"] == 3 + 1200 + 1
    [found] = asked(absent, "online", "usage", "--key", "100", "--key", "1299", "--key", "7")
    assert [each[0] for each in found["values"]] == [100.0, 1299.0, 1.0]


def test_a_view_whose_rows_wait_too_long_has_an_alert_until_they_are_online(absent: Daemon, tmp_path: Path) -> None:
    absent.start()
    (tmp_path / "f.toml").write_text(DEFINED.replace('ttl = "30d"', 'max_lag = "1s"'))
    asked(absent, "apply", tmp_path / "f.toml")
    loaded(absent, tmp_path, ROWS.format(now=_now()))
    asked(absent, "materialise", "usage")
    loaded(absent, tmp_path, "customer,at,minutes,plan\n5,2026-01-01,1,a\n")

    def alerts() -> list[str]:
        return [each.kind for each in client.ask(monitoring.ListAlerts()) if each.subject == "usage"]

    with absent.client() as client:
        until(lambda: alerts() == ["features late"])
        assert absent.qd("features", "status").returncode == 1
        asked(absent, "materialise", "usage")
        until(lambda: alerts() == [])
    assert absent.qd("features", "status").returncode == 0


@pytest.fixture(scope="module")
def kept(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    """With the view, and no row."""
    file = tmp_path_factory.mktemp("kept") / "f.toml"
    file.write_text(DEFINED)
    asked(daemon, "apply", file)
    return daemon


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("materialise", "usag"), "usag"),
        (("status", "usag"), "usag"),
        (("online", "usage", "--key", "one"), "keys[0].customer"),
        (("online", "usage", "--key", "user=1"), "keys[0].customer"),
        (("online", "usage", "--key", '{"customer": 1, "other": 2}'), "keys[0]"),
        (("online", "usage", "--key", "{"), "key"),
        (("online", "usage", "--key", "1", "--feature", "minute"), "minutes"),
        (("push", "usage", "--key", "1"), "rows[0].minutes"),
        (("push", "usage", "--key", "1", "--value", "minutes=much", "--value", "plan="), "rows[0].minutes"),
        (("push", "usage", "--key", "1", "--value", "minute=1"), "minutes"),
        (("push", "usage", "--key", "1", "--value", "minutes=1", "--value", "plan=", "--at", "2999-01-01"), "past"),
        (("push", "usage", "--value", "minutes=1"), "--key"),
        (("online", "usage", "--key", "\udcff"), "UTF-8"),
        (("status", "us\udcff"), "UTF-8"),
        (("bench", "usage", "--entities", "0"), "entities"),
        (("bench", "usage"), "materialise"),
    ],
)
def test_what_cannot_be_read_or_pushed_is_a_line_that_says_why(kept: Daemon, words: tuple[str, ...], told: str) -> None:
    done = kept.qd("features", *words)
    assert done.returncode in (2, 4, 6) and done.stdout == "" and "Traceback" not in done.stderr
    assert told in done.stderr and done.stderr.startswith("error: ")


def test_rows_that_are_no_utf_8_are_named_by_their_line(kept: Daemon) -> None:
    command = [sys.executable, "-m", "quarterdeck.cli.main", "--home", str(kept.home.root), "features", "push", "usage"]
    done = subprocess.run(command, env=kept.environ, input=b'{"plan": "\xff"}\n', capture_output=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith(b"error: line 1: got no JSON object")
