"""What an import from MLflow makes of a store that is broken, hostile or moved, and of ends in the middle."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from quarterstore.records import registry, runs
from tests.conftest import Daemon, _made
from tests.console.mlflow_stores.comparing import differences, expected, shown, unpacked


def taken(done: Any, code: int = 0) -> dict[str, Any]:
    """The answer of an import."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "\x1b" not in done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert len(told["left"]) == done.stderr.count("left: ") and bool(told["left"]) == bool(code)
    return told


@pytest.fixture
def other() -> Iterator[Daemon]:
    """A daemon over an empty home."""
    made = _made()
    made.start()
    yield made
    made.end()


def run_folder(store: Path, name: str) -> Path:
    """The folder of a run by its name."""
    (found,) = [path.parent for path in store.glob("mlruns/*/*/meta.yaml") if f"run_name: {name}\n" in path.read_text()]
    return found


def test_a_store_of_files_that_is_broken_everywhere_gives_what_is_whole(other: Any, tmp_path: Path) -> None:
    """Each is said once and left; what lies outside of the place is never read."""
    store = unpacked("files", tmp_path)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "meta.yaml").write_text("run_id: secret\n")
    (secret / "key").write_text("a secret")
    first, failed, killed = (run_folder(store, name) for name in ("first", "failed", "killed"))
    experiment = first.parent
    (experiment / "linked").symlink_to(secret)
    (experiment / "empty").mkdir()
    for name, text in (
        ("other", "run_id: ../../../secret\n"),
        ("yaml", "run_id: !!python/object/apply:os.system [id]\n"),
        ("half", "run_id: half\nrun_name: 'not end"),
        ("state", "run_id: state\nstatus: 99\n"),
        ("with blanks", "run_id: with blanks\nstatus: 3\n"),
    ):
        (experiment / name).mkdir()
        (experiment / name / "meta.yaml").write_text(text)
    (first / "artifacts" / "linked.txt").symlink_to(secret / "key")
    (first / "artifacts" / "folder").symlink_to(secret)
    os.mkfifo(first / "artifacts" / "pipe")
    (first / "artifacts" / "back\\slash").write_text("x")
    (first / "artifacts" / "red\x1b[31m").write_text("x")
    (first / "params" / "long").write_text("x" * 8001)
    (first / "params" / "bytes").write_bytes(b"\xff\xfe")
    (first / "params" / "linked").symlink_to(secret / "key")
    (first / "tags" / "bell\x07").write_text("x")
    lines = (
        "words\n1700000000000 0.5\n1700000000000 0.5 99999999999999999999\n1 nan 2 3\n1700000000001 0.75 1\n1700 1.0 3"
    )
    (first / "metrics" / "bad").write_text(lines)
    (first / "metrics" / "bell\x07").write_text("1700000000000 0.5 1\n")
    meta = (failed / "meta.yaml").read_text()
    uri = next(line for line in meta.splitlines() if line.startswith("artifact_uri"))
    (failed / "meta.yaml").write_text(meta.replace(uri, f"artifact_uri: file://{secret}/{failed.name}/artifacts"))
    (killed / "meta.yaml").write_text(
        (killed / "meta.yaml").read_text().replace("artifact_uri: file:///tmp", "artifact_uri: s3://bucket")
    )
    version = store / "mlruns" / "models" / "churn" / "version-4"
    (version.parent / "version-9").mkdir()
    (version.parent / "version-9" / "meta.yaml").write_text((version / "meta.yaml").read_text())
    told = taken(other.qd("--json", "import", "--from", "mlflow", str(store)), 1)
    lines = "\n".join(told["left"])
    for words in (
        "linked: link: got",
        "run empty: meta.yaml: got No such file",
        "run other: meta.yaml: run_id: got ../../../secret, expected other",
        "run yaml: yaml: got",
        "run half: yaml: got",
        "run state: status: got 99",
        "run with blanks: run: got with blanks",
        "linked.txt: path: got a link",
        "folder: path: got a link",
        "pipe: path: got no plain file",
        "back\\\\slash",
        "red\\x1b[31m",
        "'long': params: got 8001 characters, expected at most 8000",
        "bytes: bytes: got",
        "param of run",
        "bell\\x07",
        "metric of run",
        "4 lines were left",
        f"the artefacts of run {failed.name}: artifact_uri: got file://{secret}",
        f"the artefacts of run {killed.name}: artifact_uri: got s3://bucket",
        "version churn@9: version: got 4",
    ):
        assert words in lines, (words, lines)
    with other.client(timeout=30) as client:
        here, wanted = shown(client, tmp_path), expected("files")
        wanted["runs"][first.name]["points"]["bad"] = [[0, 1700000000000, "0.5"], [1, 1700000000001, "0.75"]]
        wanted["runs"][first.name]["metrics"]["bad"] = "0.75"
        assert differences(here, wanted) == []
    found = subprocess.run(["grep", "-rl", "a secret", str(other.home.root)], capture_output=True, text=True)
    assert found.stdout == ""


BAD_ROWS = """
UPDATE runs SET artifact_uri = '/etc' WHERE name = 'failed';
UPDATE runs SET artifact_uri = '/tmp/mlflow-store/mlruns/../../../etc/' || run_uuid || '/artifacts'
  WHERE name = 'killed';
UPDATE runs SET artifact_uri = 's3://bucket/' || run_uuid || '/artifacts' WHERE name = 'removed';
UPDATE runs SET start_time = 'yesterday' WHERE name = 'in the old one';
INSERT INTO runs (run_uuid, name, status, experiment_id, lifecycle_stage)
  VALUES ('../../x', 'up', 'FINISHED', 1, 'active');
INSERT INTO runs (name, run_uuid, status, experiment_id) VALUES ('short', 'abcd', 'FINISHED', 1);
INSERT INTO tags (key, value, run_uuid) VALUES ('mlflow.parentRunId', 'nobody', 'abcd');
INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES ('m', 'text', 1, 1, 0, 'abcd');
INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES ('m', 2.5, 1000, 2, 0, 'abcd');
INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (char(27) || '[2J', 2.5, 1000, 2, 0, 'abcd');
INSERT INTO params (key, value, run_uuid) VALUES ('blob', x'00ff', 'abcd');
INSERT INTO experiments (experiment_id, name, lifecycle_stage, workspace) VALUES (77, 'far', 'active', 'elsewhere');
INSERT INTO experiments (experiment_id, name, lifecycle_stage, workspace)
  VALUES (78, char(8238) || 'x', 'active', 'default');
INSERT INTO model_versions (name, version, current_stage, source, workspace, status)
  VALUES ('churn', 5, 'Production', 'runs:/x/y', 'default', 'READY');
INSERT INTO model_versions (name, version, current_stage, source, workspace, status)
  VALUES ('churn', 1000000000, 'None', 'runs:/x/y', 'default', 'READY');
INSERT INTO registered_models (name, workspace) VALUES ('a/b', 'default');
INSERT INTO registered_model_aliases (alias, version, name, workspace) VALUES ('latest', 5, 'churn', 'default');
"""


def test_a_database_with_rows_that_mlflow_does_not_write_gives_the_others(other: Any, tmp_path: Path) -> None:
    store = unpacked("database", tmp_path)
    with sqlite3.connect(store / "mlflow.db") as rows:
        rows.executescript(BAD_ROWS)
    rows.close()
    before = (store / "mlflow.db").read_bytes()
    told = taken(other.qd("--json", "import", "--from", "mlflow", str(store)), 1)
    lines = "\n".join(told["left"])
    for words in (
        "artifact_uri: got /etc, expected a path that ends with",
        "artifact_uri: got /tmp/mlflow-store/mlruns/../../../etc/",
        "artifact_uri: got s3://bucket/",
        "database: got yesterday, expected a number",
        "run ../../x: run: got ../../x",
        "run abcd: database: got bytes, expected a text",
        "experiments: workspace: got 1 in other workspaces",
        "experiment '\\u202ex'",
        "version churn@2: stage: got Production beside churn@5",
        "version churn@1000000000: version: got",
        "model 'a/b': model: got a/b",
        "alias churn@latest: alias: got latest",
    ):
        assert words in lines, (words, lines)
    assert (store / "mlflow.db").read_bytes() == before
    with other.client(timeout=30) as client:
        assert client.ask(registry.ShowVersion(version="churn@Production")).number == 5
        assert client.ask(registry.ShowVersion(version="churn@2")).stage == "None"
        here, wanted = shown(client, tmp_path), expected("database")
        old = next(id_ for id_, run in wanted["runs"].items() if run["name"] == "in the old one")
        del wanted["runs"][old], wanted["models"], here["models"]
        assert differences(here, wanted) == []


def test_a_run_of_another_form_is_taken_with_what_is_whole_of_it(other: Any, tmp_path: Path) -> None:
    """Its id is the beginning of another one's, its parent is nobody, one point is none."""
    store = unpacked("database", tmp_path)
    some = next(iter(expected("database")["runs"]))
    with sqlite3.connect(store / "mlflow.db") as rows:
        rows.executescript(
            "\n".join(line for line in BAD_ROWS.splitlines() if "'abcd'" in line and "x'00ff'" not in line)
        )
        for table in ("runs", "tags", "metrics"):
            rows.execute(f"UPDATE {table} SET run_uuid = ? WHERE run_uuid = 'abcd'", (some[:8],))
    rows.close()
    told = taken(other.qd("--json", "import", "--from", "mlflow", str(store)), 1)
    assert (told["runs"], len(told["left"])) == (10, 3)
    with other.client() as client:
        found = client.ask(runs.ListRuns(text="short")).runs[0]
        assert (found.id, found.parent, found.metrics, found.state) == (some[:8], None, {"m": 2.5}, "FINISHED")
    again = taken(other.qd("--json", "import", "--from", "mlflow", str(store)))
    assert (again["runs"], again["known"], again["points"]) == (0, 10, 0)


def test_a_database_whose_tables_are_views_is_no_database_of_mlflow(other: Any, tmp_path: Path) -> None:
    store = unpacked("database", tmp_path)
    with sqlite3.connect(store / "mlflow.db") as rows:
        rows.executescript("ALTER TABLE runs RENAME TO hidden; CREATE VIEW runs AS SELECT * FROM hidden;")
    rows.close()
    done = other.qd("import", "--from", "mlflow", str(store))
    assert done.returncode == 2 and "mlflow.db without runs" in done.stderr


@pytest.mark.fault
@pytest.mark.parametrize("place", ["journal.synced:2", "journal.synced:11", "samples.written:1", "journal.synced:40"])
def test_kill_9_of_the_daemon_is_mended_by_asking_again(place: str, absent: Any, tmp_path: Path) -> None:
    store = unpacked("files", tmp_path)
    absent.start(QD_CRASH_AT=place)
    command = [sys.executable, "-m", "quarterdeck.cli.main", "--home", str(absent.home.root), "--timeout", "3"]
    command += ["import", "--from", "mlflow", str(store)]
    asking = subprocess.Popen(command, env=absent.environ, stderr=subprocess.PIPE, text=True)
    assert absent.process.wait(60) == 137
    said = asking.communicate(timeout=60)[1]
    assert asking.returncode in (3, 124), said
    absent.start()
    taken(absent.qd("--json", "import", "--from", "mlflow", str(store)))
    with absent.client(timeout=30) as client:
        assert differences(shown(client, tmp_path), expected("files")) == []
        seq = client.status().seq
        assert taken(absent.qd("--json", "import", "--from", "mlflow", str(store)))["known"] == 9
        assert client.status().seq == seq


@pytest.mark.fault
@pytest.mark.parametrize("entries", [3, 25, 45])
def test_kill_9_of_the_import_is_mended_by_asking_again(entries: int, other: Any, tmp_path: Path) -> None:
    store = unpacked("database", tmp_path)
    with other.client(timeout=30) as client:
        seq = client.status().seq
        command = [sys.executable, "-m", "quarterdeck.cli.main", "--home", str(other.home.root)]
        asking = subprocess.Popen(
            [*command, "import", "--from", "mlflow", str(store)], env=other.environ, stderr=subprocess.DEVNULL
        )
        for item in client.follow(seq):
            if getattr(item, "seq", 0) >= seq + entries:
                asking.kill()
                break
        asking.wait(30)
        taken(other.qd("--json", "import", "--from", "mlflow", str(store)))
        assert differences(shown(client, tmp_path), expected("database")) == []


Answers = dict[str, Any]


@pytest.fixture
def hostile() -> Iterator[tuple[str, Answers, list[str]]]:
    """A server that answers what it is told to, by the end of the route; and what it was asked."""
    answers: Answers = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers.get('Authorization', '')}")
            length = int(self.headers.get("Content-Length", 0))
            self.rfile.read(length)
            route = self.path.partition("?")[0]
            found = next((answer for end, answer in answers.items() if route.endswith(end)), (404, b"{}", {}))
            status, body, headers = found(self.path) if callable(found) else found
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers, asked
    server.shutdown()
    thread.join()
    server.server_close()


def told(**fields: Any) -> tuple[int, bytes, dict[str, str]]:
    """An answer."""
    return 200, json.dumps(fields).encode(), {}


def whole_server(answers: Answers) -> None:
    """One run with one metric and one file."""
    info = {"run_id": "a" * 32, "run_name": "one", "status": "FINISHED", "start_time": "1700000000000", "end_time": 1}
    run = {"info": info, "data": {"metrics": [{"key": "m", "value": "NaN"}], "params": [{"key": "p"}]}}
    answers["experiments/search"] = told(experiments=[{"experiment_id": "1", "name": "one"}])
    answers["runs/search"] = told(runs=[run])
    answers["runs/get"] = told(run=run)
    answers["metrics/get-history"] = told(metrics=[{"key": "m", "value": "NaN", "timestamp": 5, "step": "2"}])
    answers["artifacts/list"] = told(files=[{"path": "f.txt", "is_dir": False, "file_size": 1}])
    answers["get-artifact"] = (200, b"x", {})
    answers["logged-models/search"] = told()
    answers["registered-models/search"] = told()


HOSTILE: list[tuple[str, Any, int, str]] = [
    ("artifacts/list", told(files=[{"path": "../../up"}, {"path": "/etc/passwd"}, {"path": "f.txt"}]), 1, "path: got"),
    ("artifacts/list", lambda path: told(files=[{"path": "d", "is_dir": True}]), 1, "expected one below"),
    ("get-artifact", (302, b"", {"Location": "file:///etc/passwd"}), 1, "302 for get-artifact"),
    ("get-artifact", (200, b"x", {"Content-Length": "5"}), 3, "server: "),
    ("metrics/get-history", told(metrics=[{"key": "m", "value": "much"}]), 1, "JSON of MLflow"),
    ("metrics/get-history", told(metrics=[{"key": "m", "step": 2**70}]), 1, "JSON of MLflow"),
    ("metrics/get-history", told(metrics=[], next_page_token="again"), 1, "the same page"),
    ("runs/search", (200, b"[" * 100_000, {}), 1, "JSON of MLflow"),
    ("runs/search", told(runs=[{"info": {"run_id": "../../x", "status": "FINISHED"}}]), 1, "run ../../x"),
    ("runs/search", (500, b"\x1b[2J", {}), 1, "500 for"),
    ("experiments/search", (200, b"<html>", {}), 2, "JSON of MLflow"),
    ("experiments/search", (302, b"", {"Location": "http://127.0.0.1:9/"}), 2, "302 for"),
    ("logged-models/search", (404, b"{}", {}), 0, ""),
    ("registered-models/search", told(registered_models=[{"name": "m", "aliases": [{"alias": "a"}]}]), 1, "models: "),
]


@pytest.mark.parametrize(("route", "answer", "code", "words"), HOSTILE)
def test_a_server_that_answers_something_else_is_left_and_said(
    route: str,
    answer: Any,
    code: int,
    words: str,
    other: Any,
    hostile: tuple[str, Answers, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, answers, asked = hostile
    whole_server(answers)
    answers[route] = answer
    other.environ["MLFLOW_TRACKING_TOKEN"] = "token"
    done = other.qd("import", "--from", "mlflow", address)
    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr and "\x1b" not in done.stderr
    assert all(line.endswith("Bearer token") for line in asked)
    with other.client() as client:
        for run in client.ask(runs.ListRuns()).runs:
            assert all(each.path == "f.txt" for each in run.artefacts)


def test_a_server_that_was_cut_off_is_gone_on_with(other: Any, hostile: tuple[str, Answers, list[str]]) -> None:
    address, answers, _ = hostile
    whole_server(answers)
    kept = answers["get-artifact"]
    answers["get-artifact"] = (500, b"", {})
    assert other.qd("import", "--from", "mlflow", address).returncode == 1
    answers["get-artifact"] = kept
    assert taken(other.qd("--json", "import", "--from", "mlflow", address))["left"] == []
