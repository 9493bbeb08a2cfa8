"""Two real decks on one machine: a version is sent, cut off, gone on with, deployed, rolled back; and a remote that is
silent, hangs up or drips holds up nobody."""

from __future__ import annotations

import json
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterdeck import keys
from quarterdeck.client import Client
from quarterstore.records import deployments, registry, remotes
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


def until(true: Callable[[], Any], seconds: float = 30) -> Any:
    """What it is, once it is so."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
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

    def meet(self, role: str = "operator") -> None:
        """The other deck gives a token and trusts our key."""
        with self.theirs.client() as owner:
            public = keys.make(self.theirs.home, "sender")
            owner.ask(AddKey(public=public, person="sender", roles=(role,)))  # type: ignore[arg-type]
        token = self.theirs.home.secret_key("sender").read_text()
        words = ("remote", "add", "prod", f"http://127.0.0.1:{self.port}", "--allow-private", "--within", "5")
        added = self.ours.qd(*words, stdin=token)
        assert added.returncode == 0, added.stderr
        key = self.ours.qd("remote", "key").stdout.strip()
        trusted = self.theirs.qd("remote", "trust", key, "laptop")
        assert trusted.returncode == 0, trusted.stderr

    def end(self) -> None:
        self.ours.end()
        self.theirs.end()


@pytest.fixture
def pair() -> Iterator[Pair]:
    found = Pair()
    found.meet()
    yield found
    found.end()


def answered(daemon: Daemon, endpoint: str = "m") -> list[float]:
    """What a deck's serving side answers to one row."""
    with daemon.client() as client:
        address = client.ask(deployments.ShowServing()).address
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 1.0]}]}
    request = urllib.request.Request(f"{address}/v2/models/{endpoint}/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=5) as answer:
        found: list[float] = json.load(answer)["outputs"][0]["data"]
    return found


def test_a_version_is_sent_deployed_and_rolled_back_and_both_journals_say_so(pair: Pair) -> None:
    with pair.ours.client() as ours, pair.theirs.client() as theirs:
        first, second = produced(ours, "one"), ""
        sent = pair.ours.qd("--json", "deploy", "m", "--to", "prod")
        assert sent.returncode == 0, sent.stderr + pair.theirs.log()
        change = json.loads(sent.stdout)
        assert (change["state"], change["version"], change["there"]) == ("DONE", first, "m@1")
        assert theirs.ask(deployments.ShowDeployment(endpoint="m")).live == "m@1"
        until(lambda: theirs.ask(deployments.ShowServing()).hosts)
        assert answered(pair.theirs) == [1.0]
        second = produced(ours, "two")
        assert pair.ours.qd("deploy", second, "--to", "prod").returncode == 0
        assert theirs.ask(deployments.ShowDeployment(endpoint="m")).live == "m@2"
        back = pair.ours.qd("remote", "rollback", "prod", "m", "--reason", "worse")
        assert back.returncode == 0, back.stderr
        found = theirs.ask(deployments.ShowDeployment(endpoint="m"))
        assert found.live == "m@1"
        again = pair.ours.qd("deploy", second, "--to", "prod")
        assert again.returncode == 0, again.stderr
        assert theirs.ask(deployments.ShowDeployment(endpoint="m")).live == "m@2", "the file is there: no third version"
        bundles = theirs.ask(remotes.ListBundles())
        changes = ours.ask(remotes.ListChanges())
        assert [each.bundle for each in changes if each.kind == "deploy"] == [each.id for each in bundles]
        assert [(each.sender, each.by, each.theirs) for each in bundles][-1] == ("laptop", "sender", "m@1")
        status = pair.ours.qd("remote", "status", "prod")
        assert status.returncode == 0 and "REACHABLE" in status.stdout and "m@2" in status.stdout


def test_an_upload_that_is_killed_in_the_middle_goes_on_where_it_was(pair: Pair) -> None:
    """Both ends are killed while the file is on its way; each time what is there stays there."""
    with pair.ours.client() as ours:
        produced(ours, "large", size=96 * 1024 * 1024)
        digest = ours.ask(registry.ShowVersion(version="m@1")).digest
        asked = ours.ask(remotes.SendVersion(version="m@1", remote="prod"), timeout=30)

    def half() -> int:
        return max((path.stat().st_size for path in pair.theirs.home.incoming.glob("bundle-*")), default=0)

    until(lambda: half() > 2 * 1024 * 1024)
    pair.ours.stop(signal.SIGKILL)
    before = half()
    assert 0 < before < 96 * 1024 * 1024
    pair.theirs.stop(signal.SIGKILL)
    pair.open()
    pair.ours.start()
    with pair.ours.client() as ours, pair.theirs.client() as theirs:
        done = until(lambda: (found := ours.ask(remotes.ShowChange(change=asked.id))).state != "WAITING" and found, 60)
        assert (done.state, done.why) == ("DONE", "")
        assert theirs.ask(remotes.ListBundles())[0].digest == digest
        assert not list(pair.theirs.home.incoming.glob("bundle-*"))
