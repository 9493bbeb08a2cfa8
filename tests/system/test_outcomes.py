"""Labels and outcomes through a real daemon: files by the command line, and what is kept of them after a crash."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.client import Client
from quarterstore.records import deployments, outcomes, registry
from quarterstore.records.faults import Forbidden, Invalid, NotFound, TimedOut, Unreachable
from quarterstore.records.governance import ListAudit
from quarterstore.records.jobs import Progress
from quarterstore.records.people import AddKey
from tests.conftest import Daemon, _made
from tests.contents import contents
from tests.small import onnx_file

SIGNATURE = registry.Signature(
    inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
    features=tuple(registry.Feature(name=f"f{index}", kind="number", input="x", index=index) for index in range(2)),
    label="y",
)


def deployed(daemon: Daemon, client: Client) -> str:
    """The address of `m@1`, which answers half the sum of its two numbers."""
    digest, size = client.put(onnx_file())
    client.ask(registry.RegisterVersion(model="m", digest=digest, size=size, format="onnx", signature=SIGNATURE))
    for stage in ("Staging", "Production"):
        client.ask(registry.MoveStage(version="m@1", stage=stage))
    assert daemon.qd("deploy", "m@1", "--wait").returncode == 0
    return str(client.ask(deployments.ShowServing()).address)


def asked(address: str, *rows: list[float], key: str | None = None) -> str:
    """One request; the id of its prediction."""
    tensor = {"name": "x", "shape": [len(rows), 2], "datatype": "FP32", "data": [each for row in rows for each in row]}
    body = {"inputs": [tensor], "parameters": {"key": key} if key else {}}
    with urllib.request.urlopen(f"{address}/v2/models/m/infer", json.dumps(body).encode(), timeout=10) as answer:
        return str(answer.headers["quarterdeck-prediction"])


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Daemon, str]]:
    daemon = _made()
    daemon.start("--profile", "solo")
    with daemon.client() as client:
        address = deployed(daemon, client)
    yield daemon, address
    daemon.end()


def sent(daemon: Daemon, tmp_path: Path, text: str, *words: str) -> Any:
    """A file through the command line; its answer as JSON."""
    (tmp_path / "file.csv").write_text(text)
    done = daemon.qd("--json", *words, str(tmp_path / "file.csv"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_labels_sent_right_after_their_predictions_are_joined_and_the_same_file_twice_is_all_duplicates(
    served: tuple[Daemon, str], tmp_path: Path
) -> None:
    daemon, address = served
    ids = [asked(address, [float(number % 2), 1.0]) for number in range(40)]
    text = "id,value\n" + "".join(f"{each},{1 if number % 2 else 0}\n" for number, each in enumerate(ids[:30]))
    first = sent(daemon, tmp_path, text + "nobody,1\n", "labels", "add")
    assert (first["rows"], first["joined"], first["unknown"], first["endpoints"]) == (31, 30, 1, ["m"])
    again = sent(daemon, tmp_path, text, "labels", "add")
    assert (again["joined"], again["duplicate"], again["conflicting"]) == (0, 30, 0)
    with daemon.client() as client:
        found = client.ask(outcomes.ShowOutcomes(endpoint="m"))
        assert (found.arms["m@1"].n, found.arms["m@1"].mean, found.answered["m@1"]) == (30, 0.5, 40)
        entries = [each for each in client.ask(ListAudit()) if each.act == "outcomes.note"]
        assert len(entries) == 2 and "30 joined" in entries[1].words and entries[1].events == ("outcomes.added",)
        assert client.ask(outcomes.ListUploads())[0].digest == again["digest"]
    shown = daemon.qd("labels", "show", "m").stdout
    assert "accuracy" in shown and "75%" in shown
    assert "75% of its predictions have one" in daemon.qd("labels", "add", str(tmp_path / "file.csv")).stderr


def test_rows_of_one_request_have_labels_of_their_own(served: tuple[Daemon, str], tmp_path: Path) -> None:
    daemon, address = served
    prediction = asked(address, [1.0, 1.0], [2.0, 2.0])
    text = f"id,row,value\n{prediction},0,1\n{prediction},1,2\n{prediction},2,3\n"
    found = sent(daemon, tmp_path, text, "labels", "add")
    assert (found["joined"], found["unknown"]) == (2, 1)
    assert sent(daemon, tmp_path, f"id,row,value\n{prediction},1,9\n", "labels", "add")["conflicting"] == 1
    with daemon.client() as client:
        values = client.ask(outcomes.ListValues(prediction=prediction))
    assert [(each.row, each.value, each.holds) for each in values] == [(0, "1", True), (1, "2", False), (1, "9", True)]


def test_outcomes_come_by_the_callers_key_which_is_kept_as_a_hash(served: tuple[Daemon, str], tmp_path: Path) -> None:
    daemon, address = served
    for number in range(5):
        asked(address, [1.0, 1.0], key=f"person {number}")
    text = "key,value\n" + "".join(f"person {number},{number}\n" for number in range(7))
    found = sent(daemon, tmp_path, text, "outcome", "add", "--metric", "revenue", "--endpoint", "m")
    assert (found["joined"], found["unknown"]) == (5, 2)
    with daemon.client() as client:
        arm = client.ask(outcomes.ShowOutcomes(endpoint="m", metric="revenue")).arms["m@1"]
    assert (arm.n, arm.mean, arm.m2, arm.successes) == (5, 2.0, 10.0, 4)
    kept = list(contents(daemon.home.samples))
    assert kept and not [path for path, data in kept if b"person 3" in data]


def test_a_bad_file_is_named_by_line_and_column_and_changes_nothing(served: tuple[Daemon, str], tmp_path: Path) -> None:
    daemon, _ = served
    (tmp_path / "bad.csv").write_text("id,value\na,1\nb,x\n")
    with daemon.client() as client:
        before = client.status().seq
        done = daemon.qd("outcome", "add", str(tmp_path / "bad.csv"), "--metric", "revenue")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "error: line 3, value: got x, expected a finite number\n"
        digest, _ = client.put(b"id,value\na,1\n")
        for bad in (
            outcomes.AddOutcomes(digest=digest, metric="../up"),
            outcomes.AddOutcomes(digest=digest, window=-1),
            outcomes.AddOutcomes(digest=digest, format="parquet"),
        ):
            with pytest.raises(Invalid):
                client.ask(bad)
        with pytest.raises(NotFound):
            client.ask(outcomes.AddOutcomes(digest=digest, endpoint="nowhere"))
        with pytest.raises(NotFound):
            client.ask(outcomes.ShowOutcomes(endpoint="nowhere"))
        assert client.status().seq == before
    assert daemon.qd("labels", "add", str(tmp_path / "absent.csv")).returncode == 2
    assert daemon.qd("labels", "add", "--window", "soon", str(tmp_path / "bad.csv")).returncode == 2


def test_a_file_too_large_for_a_thread_is_joined_by_a_process_that_says_how_far_it_is(
    served: tuple[Daemon, str], tmp_path: Path
) -> None:
    """What is said is a pulse; a fault comes back from there as it is."""
    daemon, address = served
    prediction = asked(address, [1.0, 1.0])
    text = f"id,value\n{prediction},1\n" + "".join(f"nobody-{number},{number}\n" for number in range(20_000))
    heard: list[Progress] = []

    def listen() -> None:
        with daemon.client() as other:
            heard.append(next(item for item in other.follow() if isinstance(item, Progress)))

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    with daemon.client(timeout=60) as client:
        digest, _ = client.put(text.encode())
        assert client.ask(outcomes.AddOutcomes(digest=digest, metric="late")).joined == 1
        deadline = time.monotonic() + 30
        while not heard and time.monotonic() < deadline:  # a subscription takes a moment
            assert client.ask(outcomes.AddOutcomes(digest=digest, metric="late")).duplicate == 1
        assert (heard[0].fraction, heard[0].words[:11]) == (1.0, "20,001 rows")
        digest, _ = client.put((text + "x,y\n").encode())
        with pytest.raises(Invalid, match="line 20003, value: got y"):
            client.ask(outcomes.AddOutcomes(digest=digest, metric="late"))


@pytest.mark.fault
@pytest.mark.parametrize("point", ["outcomes.joined", "outcomes.noted"])
def test_an_upload_that_was_cut_short_is_there_whole_or_not_at_all(absent: Daemon, tmp_path: Path, point: str) -> None:
    """The entry is the commit point: with it the rows hold after the restart, without it they are gone."""
    absent.start()
    with absent.client() as client:
        address = deployed(absent, client)
        ids = [asked(address, [1.0, 1.0]) for _ in range(4)]
        digest, _ = client.put(("id,value\n" + "".join(f"{each},1\n" for each in ids)).encode())
    absent.stop()
    absent.start(QD_CRASH_AT=point)
    with absent.client(timeout=3) as client, pytest.raises((Unreachable, TimedOut)):
        client.ask(outcomes.AddOutcomes(digest=digest))
    assert absent.process is not None and absent.process.wait(20) == 137
    absent.start()
    noted = point == "outcomes.noted"
    with absent.client() as client:
        assert len(client.ask(outcomes.ListUploads())) == noted
        again = client.ask(outcomes.AddOutcomes(digest=digest))
        assert (again.joined, again.duplicate) == ((0, 4) if noted else (4, 0))
        assert client.ask(outcomes.ShowOutcomes(endpoint="m")).arms["m@1"].n == 4
    assert not list(absent.home.samples.rglob("*.pending"))


def test_a_viewer_may_look_and_send_nothing(served: tuple[Daemon, str]) -> None:
    from quarterdeck import keys

    daemon, _ = served
    with daemon.client() as owner:
        owner.ask(AddKey(public=keys.make(daemon.home, "vera"), person="vera", roles=("viewer",)))
        digest, _ = owner.put(b"id,value\na,1\n")
    with daemon.client("vera") as vera:
        assert vera.ask(outcomes.ShowOutcomes(endpoint="m")).endpoint == "m"
        with pytest.raises(Forbidden):
            vera.ask(outcomes.AddOutcomes(digest=digest))
