"""A real daemon in a home of its own, for whoever asks for one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import zmq
from hypothesis import HealthCheck, settings

from quarterdeck import keys
from quarterdeck.client import Client
from quarterstore.records.faults import Fault
from quarterstore.records.people import AddKey
from quarterstore.records.places import Home
from tests.command import said

# A commit is judged by the same examples every time; scripts/test --all looks for new ones.
# how long a draw takes says how busy the machine is, and nothing of what is tested
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
if not os.environ.get("QUARTERDECK_EXPLORE"):
    settings.load_profile("repeatable")

# Where the environment forbids Python to keep what it compiles, each of some thousand processes would compile all of
# our modules again: a third of the start of a daemon, and ten seconds before the first test.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A failing test keeps its sockets in its traceback; collected, its context would wait for them, and the suite hang.
zmq.Context.__del__ = lambda self: None  # type: ignore[method-assign]


def pytest_configure(config: pytest.Config) -> None:
    """Whoever ends the tests before their time (`timeout`, a machine that stops) ends what they started as well: a
    serving side, which has a session of its own, would go on for ever."""
    signal.signal(signal.SIGTERM, _interrupted)


def _interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt


class Daemon:
    """One daemon process over one home; can be killed, frozen and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {**os.environ, "XDG_RUNTIME_DIR": str(folder / "r"), "NO_COLOR": "1"}
        (folder / "r").mkdir(mode=0o700)
        self.home = Home(folder / "home", self.environ)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str, wait: bool = True, **environ: str) -> None:
        """Start and wait until it answers; further words are options of the daemon, further names its environment."""
        command = [sys.executable, "-m", "quarterdeckd", "--home", str(self.home.root), "--http", "127.0.0.1:0", *words]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env={**self.environ, **environ}, stderr=log, stdout=log)
        if wait:
            self.answer()

    def answer(self) -> None:
        """Wait until it answers."""
        assert self.process is not None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            client = Client(self.home, timeout=1.0, spooled=False)
            try:
                client.status()
                return
            except Fault:
                time.sleep(0.05)
            finally:
                client.close()
        raise AssertionError(self.log())

    def log(self) -> str:
        """The end of what it said."""
        return (self.folder / "log").read_text()[-3000:]

    def client(self, name: str = "owner", timeout: float = 30.0) -> Client:
        """A client with somebody's key."""
        return Client(self.home, name, timeout=timeout, spooled=False)

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(20)

    def qd(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command line on this home, in this process where that can be: in its main thread."""
        if threading.current_thread() is threading.main_thread():
            return said(("--home", str(self.home.root), *words), self.environ, stdin)
        return self.qd_process(*words, stdin=stdin)

    def qd_process(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command line on this home as a process of its own."""
        command = [sys.executable, "-m", "quarterdeck.cli.main", "--home", str(self.home.root), *words]
        return subprocess.run(command, env=self.environ, input=stdin, capture_output=True, text=True, timeout=200)

    def python(self, code: str, *, talk: bool = False) -> subprocess.Popen[str]:
        """Run a script that finds this home; with `talk` it can be told something on its stdin."""
        environ = {**self.environ, "QUARTERDECK_HOME": str(self.home.root)}
        command = [sys.executable, "-u", "-c", code]
        stdin = subprocess.PIPE if talk else None
        return subprocess.Popen(
            command, env=environ, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def end(self) -> None:
        """Leave nothing behind: the serving side outlives the daemon on purpose."""
        if self.process is not None:
            self.qd("serving", "stop")
        self.stop(signal.SIGKILL)
        for left in psutil.process_iter(["cmdline"]):  # a launcher that was being started hears of no stop
            if str(self.home.root) in (left.info["cmdline"] or ()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _made() -> Daemon:
    return Daemon(Path(tempfile.mkdtemp(prefix="qd", dir="/tmp")))


@pytest.fixture
def absent() -> Iterator[Daemon]:
    """A home whose daemon does not run until the test starts it."""
    daemon = _made()
    yield daemon
    daemon.end()


@pytest.fixture
def team() -> Iterator[Daemon]:
    """A daemon in profile `team`, with ana and bob who may approve and carl who may look."""
    made = _made()
    made.start("--profile", "team")
    with made.client() as owner:
        for name, role in (("ana", "approver"), ("bob", "approver"), ("carl", "viewer")):
            owner.ask(AddKey(public=keys.make(made.home, name), person=name, roles=(role,)))  # type: ignore[arg-type]
    yield made
    made.end()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon that the tests of a module share."""
    made = _made()
    made.start()
    yield made
    made.end()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    """The owner's client."""
    with Client(daemon.home) as found:
        yield found
