"""One command from a Production version to an address that answers, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import socket
import time
import urllib.request
from typing import Any

import psutil
import pytest

from quarterstore.records import registry
from quarterstore.records.registry import Feature, Signature, Tensor
from tests.small import onnx_file

SIGNATURE = Signature(
    inputs=(Tensor("x", "FP32", (-1, 2)),),
    outputs=(Tensor("y", "FP32", (-1, 1)),),
    features=(Feature("age", "number", "x", 0), Feature("income", "number", "x", 1)),
)


def registered(daemon: Any, size: int = 0) -> str:
    """A version of `m` in Production, its file at least so large."""
    with daemon.client(timeout=60) as client:
        digest, found = client.put(onnx_file("m", size))
        act = registry.RegisterVersion(model="m", digest=digest, size=found, format="onnx", signature=SIGNATURE)
        version = client.ask(act)
        client.ask(registry.MoveStage(version=version.id, stage="Staging"))
        client.ask(registry.MoveStage(version=version.id, stage="Production", reason="a test"))
    return str(version.id)


@pytest.mark.alone
def test_a_model_of_10_mb_is_served_within_five_seconds_by_one_command(absent: Any) -> None:
    """From the command to the first answer; asked again it only says where."""
    absent.start("--grpc", "127.0.0.1:0")
    registered(absent, 10 << 20)
    began = time.monotonic()
    done = absent.qd("--json", "serve", "m@Production")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    body = json.dumps({"rows": [{"age": 1, "income": 2}, {"age": 3, "income": 4}]}).encode()
    with urllib.request.urlopen(told["predict"], body, timeout=10) as answer:
        rows = json.load(answer)["rows"]
    took = time.monotonic() - began
    print(f"10 MB served after {took:.2f} s")
    assert took <= 5
    assert rows == [{"y": 1.5}, {"y": 3.5}]
    assert told["version"] == "m@1" and told["infer"].endswith("/v2/models/m/infer") and told["grpc"]
    again = absent.qd("--json", "serve", "m@Production")
    assert (again.returncode, json.loads(again.stdout)) == (0, told)


def test_the_batches_of_an_endpoint_are_given_and_taken_back_by_the_command_that_serves(absent: Any) -> None:
    absent.start()
    registered(absent)
    done = absent.qd("serve", "m@Production", "--max-wait-ms", "5")
    assert done.returncode == 2 and "max-wait-ms: got 5 without --max-batch" in done.stderr
    done = absent.qd("deploy", "m", "--to", "prod", "--max-batch", "32")
    assert done.returncode == 2 and "max-batch: got it with --to or --for" in done.stderr, (
        "it was passed over in silence"
    )
    for words, batching in (
        (("--max-batch", "32", "--max-wait-ms", "2"), {"max_batch": 32, "max_wait_ms": 2.0}),
        ((), {"max_batch": 32, "max_wait_ms": 2.0}),
        (("--max-batch", "1"), {}),
    ):
        done = absent.qd("serve", "m@Production", *words)
        assert done.returncode == 0, done.stderr
        shown = json.loads(absent.qd("--json", "deployments", "show", "--endpoint", "m").stdout)
        assert {name: value for name, value in shown["batching"].items() if value not in (1, 0.0)} == batching


def test_a_version_that_is_not_there_is_answered_with_those_that_are(absent: Any) -> None:
    absent.start()
    registered(absent)
    done = absent.qd("serve", "m@7")
    assert done.returncode == 4 and "m@1.0.0" in done.stderr
    done = absent.qd("serve", "m@latest", "--endpoint", "other")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("door", ["http", "grpc", "mlflow", "rest"])
def test_a_port_that_is_taken_names_who_has_it(absent: Any, door: str) -> None:
    """At the daemon's start, before anything is deployed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        absent.start(f"--{door}", f"127.0.0.1:{port}", wait=False)
        assert absent.process.wait(20) == 5
    log = absent.log()
    assert f"error: {door}: got 127.0.0.1:{port}, which " in log and f"(process {os.getpid()}: " in log


def test_a_port_that_was_taken_meanwhile_is_said_by_the_command_that_serves(absent: Any) -> None:
    """The daemon had it free at its start; whoever took it since is named to who serves, and by the doctor."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    absent.start("--http", f"127.0.0.1:{port}")
    registered(absent)
    with socket.create_server(("127.0.0.1", port)):
        done = absent.qd("serve", "m@Production")
        assert done.returncode != 0 and f"got 127.0.0.1:{port}, which {psutil.Process().name()}" in done.stderr, (
            done.stderr
        )
        assert f"(process {os.getpid()}: " in absent.qd("--json", "doctor").stdout
    assert absent.qd("serve", "m@Production").returncode == 0
