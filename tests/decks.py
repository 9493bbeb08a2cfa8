"""Two real decks of which one sends versions to the other, and a way between them that can be broken."""

from __future__ import annotations

import json
import socket
import struct
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quarterdeck import keys
from quarterdeck.client import Client
from quarterstore.records import deployments, registry
from quarterstore.records.people import AddKey
from tests.conftest import Daemon
from tests.doors.test_mlflow import free_port
from tests.small import onnx_file

SIGNATURE = registry.Signature(
    inputs=(registry.Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(registry.Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
)
GOLDEN = {"inputs": {"x": [[1.0, 1.0]]}, "outputs": {"y": [[1.0]]}}


def made() -> Daemon:
    return Daemon(Path(tempfile.mkdtemp(prefix="qd", dir="/tmp")))


def until(true: Callable[[], Any], seconds: float = 60) -> Any:
    """What it is, once it is so."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)
    return found


def produced(client: Client, mark: str, size: int = 0) -> str:
    """A new version of `m` in Production, with a golden row."""
    digest, length = client.put(onnx_file(mark, size=size))
    golden, _ = client.put(json.dumps(GOLDEN).encode())
    asked = registry.RegisterVersion(
        model="m", digest=digest, size=length, format="onnx", signature=SIGNATURE, golden=golden
    )
    version = client.ask(asked, timeout=60).id
    client.ask(registry.MoveStage(version=version, stage="Production", skip_stage=True, reason="a test"))
    return version


class Pair:
    """A deck that sends and one that takes; the first knows the second as `prod`."""

    def __init__(self, *options: str) -> None:
        self.ours, self.theirs, self.port = made(), made(), free_port()
        self.ours.start(QUARTERDECK_REMOTES_EVERY="0.2")
        self.open(*options)

    def open(self, *options: str) -> None:
        """Start the other deck, or start it again."""
        self.theirs.start("--remote", f"127.0.0.1:{self.port}", *options)

    def meet(self, port: int = 0, within: float = 60.0, scheme: str = "http", options: tuple[str, ...] = ()) -> None:
        """The other deck gives a token and trusts our key; `port` is a way to it that is not the straight one."""
        with self.theirs.client() as owner:
            public = keys.make(self.theirs.home, "sender")
            owner.ask(AddKey(public=public, person="sender", roles=("operator",)))
        token = self.theirs.home.secret_key("sender").read_text()
        url = f"{scheme}://127.0.0.1:{port or self.port}"
        words = ("--allow-private", "--within", str(within), *options)
        added = self.ours.qd("remote", "add", "prod", url, *words, stdin=token)
        assert added.returncode == 0, added.stderr
        key = self.ours.qd("remote", "key").stdout.strip()
        trusted = self.theirs.qd("remote", "trust", key, "laptop")
        assert trusted.returncode == 0, trusted.stderr

    def end(self) -> None:
        self.ours.end()
        self.theirs.end()


def answered(daemon: Daemon, endpoint: str = "m") -> list[float]:
    """What a deck's serving side answers to one row."""
    with daemon.client() as client:
        address = client.ask(deployments.ShowServing()).address
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 1.0]}]}
    request = urllib.request.Request(f"{address}/v2/models/{endpoint}/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        found: list[float] = json.load(answer)["outputs"][0]["data"]
    return found


class Way:
    """A way to a port that passes bytes on, or is `silent`, `drip`s a byte a second, or `reset`s what comes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._manner = "pass"
        self._most: int | None = None
        self.passed = 0
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def be(self, manner: str) -> None:
        """From now on."""
        with self._changed:
            self._manner = manner
            self._changed.notify_all()

    def stop_at(self, size: int) -> None:
        """Silent once so many bytes went over, however late whoever waits for them looks."""
        self._most = size

    def close(self) -> None:
        """Let everybody go."""
        self.be("reset")
        self._listener.close()

    def until_passed(self, size: int) -> None:
        """Wait until so many bytes went over."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.passed >= size, 60), self.passed

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            try:
                theirs = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                ours.close()
                continue
            for pair in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                while data:
                    data = self._on(data, target)
        except OSError:
            pass
        finally:
            for each in (source, target):
                each.close()

    def _on(self, data: bytes, target: socket.socket) -> bytes:
        """Pass some of it on in the present manner; what is left."""
        with self._changed:
            if self._most is not None and self.passed >= self._most:
                self._manner, self._most = "silent", None
            if self._manner == "silent":
                self._changed.wait()
                return data
            if self._manner == "reset":
                target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise OSError("reset")
            if self._manner == "drip":
                self._changed.wait(1.0)
            size = 1 if self._manner == "drip" else len(data)
            self.passed += size
            self._changed.notify_all()
        target.sendall(data[:size])
        return data[size:]
