"""Artefacts at the MLflow door: large ones go to a file as they come, some belong to no run, parts are refused."""

from __future__ import annotations

import hashlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Daemon
from tests.doors.test_mlflow import API, PROXY, free_port, post, refused

AJAX = "/ajax-api/2.0/mlflow"
BLOCK = hashlib.sha256(b"block").digest() * 32768  # 1 MiB
MANY = 192


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[Daemon, int]]:
    daemon, port = Daemon(Path(tempfile.mkdtemp(prefix="qd", dir="/tmp"))), free_port()
    daemon.start("--mlflow", f"127.0.0.1:{port}")
    yield daemon, port
    daemon.end()


@pytest.fixture(scope="module")
def door(opened: tuple[Daemon, int]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{opened[1]}", timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def run(door: httpx.Client) -> str:
    return str(post(door, "runs/create", experiment_id="0")["run"]["info"]["run_id"])


def highest(daemon: Daemon) -> int:
    """The most memory that the daemon ever held, in bytes."""
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def incoming(daemon: Daemon) -> list[Path]:
    return list(daemon.home.incoming.iterdir())


@pytest.mark.parametrize("length", [{}, {"content-length": str(MANY * len(BLOCK))}])
def test_a_large_file_goes_through_without_being_held(opened: Any, door: httpx.Client, run: str, length: Any) -> None:
    """192 MiB, as chunks and with its length told: both ways the daemon grows by less than a sixth of it."""
    before = highest(opened[0])
    path = f"{PROXY}/0/{run}/artifacts/large-{len(length)}.bin"
    door.put(path, content=(BLOCK for _ in range(MANY)), headers=length).raise_for_status()
    wanted = hashlib.sha256(BLOCK * MANY).hexdigest()
    found, size = hashlib.sha256(), 0
    with door.stream("GET", path) as answer:
        assert answer.headers["content-length"] == str(MANY * len(BLOCK))
        for data in answer.iter_bytes():
            found.update(data)
            size += len(data)
    assert (size, found.hexdigest()) == (MANY * len(BLOCK), wanted)
    assert highest(opened[0]) - before < 32 * 1024 * 1024
    assert incoming(opened[0]) == []


def test_half_a_file_leaves_nothing(opened: Any, door: httpx.Client, run: str) -> None:
    """The sender went away: no file of the run, nothing on the disk."""
    host, port = "127.0.0.1", opened[1]
    with socket.create_connection((host, port), timeout=20) as wire:
        start = f"PUT {PROXY}/0/{run}/artifacts/half.bin HTTP/1.1\r\nhost: {host}\r\ncontent-length: 99000000\r\n\r\n"
        wire.sendall(start.encode() + BLOCK * 4)
    for _ in range(100):  # the daemon hears of the closed connection between two of these
        files = door.get(f"{API}/artifacts/list", params={"run_id": run}).json()["files"]
        if not incoming(opened[0]):
            break
    assert "half.bin" not in [each["path"] for each in files]
    assert incoming(opened[0]) == []


def test_a_large_body_that_is_refused_leaves_nothing(opened: Any, door: httpx.Client, run: str) -> None:
    big = BLOCK * 12
    answer = door.post(f"{AJAX}/upload-artifact", params={"run_uuid": run, "path": "x"}, content=big)
    assert refused(answer) == (400, "INVALID_PARAMETER_VALUE") and "Max size is 10MB" in answer.text
    assert refused(door.put(f"{PROXY}/0/nobody/artifacts/x", content=big)) == (404, "RESOURCE_DOES_NOT_EXIST")
    json = {"content-type": "application/json"}
    assert refused(door.post(f"{API}/runs/search", content=b" " * 65 * 1024 * 1024, headers=json)) == (
        400,
        "BAD_REQUEST",
    )
    assert incoming(opened[0]) == []


def test_a_batch_larger_than_memory_holds_is_read_all_the_same(door: httpx.Client, run: str) -> None:
    """Batches of more than 1 MiB come by a file too."""
    tags = [{"key": f"t{n}", "value": "v" * 7999} for n in range(100)]
    params = [{"key": f"p{n}", "value": "v" * 6000} for n in range(100)]
    post(door, "runs/log-batch", run_id=run, tags=tags, params=params)
    data = door.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["data"]
    assert len(data["params"]) == 100


def test_a_file_may_belong_to_no_run(door: httpx.Client) -> None:
    """Clients put files anywhere below `mlflow-artifacts:/`; a run of its own keeps them, where everybody sees it."""
    for path, body in (("a.txt", b"0"), ("dir/b.txt", b"11")):
        door.put(f"{PROXY}/{path}", content=body).raise_for_status()
    assert door.get(f"{PROXY}/dir/b.txt").text == "11"
    assert door.get(PROXY).json() == {
        "files": [{"path": "a.txt", "is_dir": False, "file_size": 1}, {"path": "dir", "is_dir": True}]
    }
    listed = door.get(PROXY, params={"path": "dir"}).json()["files"]
    assert listed == [{"path": "b.txt", "is_dir": False, "file_size": 2}]
    number = door.get(f"{API}/experiments/get-by-name", params={"experiment_name": "mlflow-artifacts"}).json()
    (kept,) = post(door, "runs/search", experiment_ids=[number["experiment"]["experiment_id"]])["runs"]
    assert kept["info"]["status"] == "FINISHED"
    post(door, "registered-models/create", name="loose")
    post(door, "model-versions/create", name="loose", source="mlflow-artifacts:/dir")
    version = {"name": "loose", "version": "1", "path": "b.txt"}
    assert door.get("/model-versions/get-artifact", params=version).text == "11"
    door.delete(f"{PROXY}/dir/b.txt").raise_for_status()
    assert refused(door.get(f"{PROXY}/dir/b.txt")) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize("prefix", ["/api/2.0", "/ajax-api/2.0"])
def test_parts_and_signed_addresses_are_refused_so_that_a_client_sends_the_whole(
    door: httpx.Client, prefix: str
) -> None:
    """The words are what MLflow's clients look for before they fall back."""
    for route, words in (("mpu/create", "Multipart upload"), ("mpu/complete", "Multipart"), ("mpu/abort", "Multipart")):
        answer = door.post(f"{prefix}/mlflow-artifacts/{route}/1/r/artifacts/x", json={"path": "x", "num_parts": 2})
        assert refused(answer) == (501, "NOT_IMPLEMENTED")
        assert f"{words}" in answer.text and "not supported for the current artifact repository" in answer.text
    answer = door.get(f"{prefix}/mlflow-artifacts/presigned/1/r/artifacts/x")
    assert refused(answer) == (501, "NOT_IMPLEMENTED")
    answer = door.post(f"{prefix}/mlflow/artifacts/presigned-upload-url", json={"path": "x"})
    assert refused(answer) == (501, "NOT_IMPLEMENTED")
    answer = door.post(f"{prefix}/mlflow-artifacts/mpu/create/%2e%2e/x", json={})
    assert refused(answer) == (400, "INVALID_PARAMETER_VALUE")
    assert refused(door.get(f"{prefix}/mlflow-artifacts/elsewhere")) == (404, "ENDPOINT_NOT_FOUND")


def test_a_run_of_the_prompt_page_is_a_run_with_its_table(door: httpx.Client) -> None:
    given: dict[str, Any] = {}
    for name, value in (
        ("experiment_id", "0"),
        ("prompt_template", "Say {{word}}"),
        ("prompt_parameters", [{"key": "word", "value": "hello"}]),
        ("model_route", "chat"),
        ("model_input", "Say hello"),
        ("mlflow_version", "3.17.2"),
    ):
        answer = door.post(f"{AJAX}/runs/create-promptlab-run", json=given)
        assert refused(answer) == (400, "INVALID_PARAMETER_VALUE") and name in answer.text
        given[name] = value
    more = {"model_output": "hello", "model_parameters": [{"key": "temperature", "value": 0.1}], "run_name": "p"}
    made = door.post(f"{AJAX}/runs/create-promptlab-run", json={**given, **more, "user_id": "ana"}).json()["run"]
    assert (made["info"]["status"], made["info"]["user_id"]) == ("FINISHED", "ana")
    assert {"key": "temperature", "value": "0.1"} in made["data"]["params"]
    table = door.get("/get-artifact", params={"run_id": made["info"]["run_id"], "path": "eval_results_table.json"})
    assert table.json() == {"columns": ["word", "prompt", "output"], "data": [["hello", "Say hello", "hello"]]}


@pytest.mark.parametrize("prefix", ["/api/2.0", "/api/3.0", "/ajax-api/2.0", "/ajax-api/3.0"])
def test_every_prefix_of_theirs_leads_to_the_same_routes(door: httpx.Client, run: str, prefix: str) -> None:
    answer = door.get(f"{prefix}/mlflow/runs/get", params={"run_id": run})
    assert answer.json()["run"]["info"]["run_id"] == run


def test_nobody_fills_the_disk_who_may_not_speak(absent: Any) -> None:
    """In a team a large body is looked at before it is taken: its sender hears why while it still sends."""
    port = free_port()
    absent.start("--profile", "team", "--mlflow", f"127.0.0.1:{port}")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        start = f"PUT {PROXY}/x.bin HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9000000000\r\n\r\n"
        wire.sendall(start.encode() + BLOCK * 2)
        assert wire.recv(100).startswith(b"HTTP/1.1 401")
    assert incoming(absent) == []
