"""A serving side to be thrown away: a launcher with hosts on a private port, its sockets and files in one folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from quarterdeckd.serving import last_routes
from quarterstore.records.deployments import RoutingTable
from quarterstore.records.faults import Failed, TimedOut
from quarterstore.records.hosts import AskServing, PushRoutes
from quarterstore.records.names import drawn
from quarterstore.records.places import Home
from quarterstore.records.serving import ServingState
from quarterstore.records.wire import decode, encode

READY_WITHIN = 45.0
SWITCHED_WITHIN = 40.0
ENDED_WITHIN = 10.0
LOOK = 0.2
"""Seconds between two looks whether the launcher still lives, while nothing is heard of it."""


class Sandbox:
    """A launcher that begins with `table`, for as long as the `with` lasts.

    It runs in the caller's process group and keeps everything, its sockets too, inside `folder` (near the working
    folder, because a socket's path ends at 107 bytes): whoever ends the group and removes the folder leaves nothing.
    Raises `Failed` where it does not start, `TimedOut` where it does not answer.
    """

    def __init__(self, folder: Path, table: RoutingTable, hosts: int) -> None:
        self._folder = folder.absolute()
        near = os.path.relpath(self._folder)
        self._home = Home(self._folder, {"XDG_RUNTIME_DIR": near})
        self._table = table
        self._hosts = hosts
        self._numbers = count(1)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: Any
        self._process: subprocess.Popen[bytes]
        self.address = ""
        """Where it answers, as `http://HOST:PORT`."""

    def __enter__(self) -> Sandbox:
        self._home.serving.mkdir(parents=True, mode=0o700)
        last_routes.keep(self._home, self._table)
        words = ["--home", str(self._folder), "--http", "127.0.0.1:0", "--hosts", str(self._hosts)]
        with (self._folder / "launcher.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "quarterdeckd.serving.launcher", *words],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "XDG_RUNTIME_DIR": "."},
            )
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self._socket.connect(self._home.serving_address)
        try:
            self._ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def switch(self, table: RoutingTable) -> ServingState:
        """Serve by another table; answered when every host acknowledged it, `Failed` where one cannot."""
        number = self._send(b"push", PushRoutes(table=table))
        deadline = time.monotonic() + SWITCHED_WITHIN
        while True:
            state, answered = self._next(deadline, "did not switch")
            if answered == number:
                break
        if any(not host.ready for host in state.hosts):
            raise Failed(f"a host does not hold the new routes ({self._last_words()})", field="sandbox")
        return state

    def _ready(self) -> None:
        """Until every host holds the table."""
        self._send(b"ask", AskServing(what="state"))
        deadline = time.monotonic() + READY_WITHIN
        while True:
            state, _ = self._next(deadline, "does not serve the present routes")
            if len(state.hosts) == self._hosts and all(host.ready for host in state.hosts):
                self.address = state.address or ""
                return

    def _send(self, kind: bytes, message: Any) -> int:
        number = next(self._numbers)
        self._socket.send_multipart([kind, encode(message), str(number).encode()])
        return number

    def _next(self, deadline: float, failing: str) -> tuple[ServingState, int]:
        """The next state it tells, asked for or not (0)."""
        while time.monotonic() < deadline:
            if self._socket.poll(LOOK * 1000):
                kind, payload, *number = self._socket.recv_multipart()
                if kind == b"state":
                    return decode(payload, ServingState), int(number[0]) if number else 0
            elif self._process.poll() is not None:
                raise Failed(f"the launcher ended ({self._last_words()})", field="sandbox")
        raise TimedOut(f"it {failing} in time ({self._last_words()})", field="sandbox")

    def _last_words(self) -> str:
        text = (self._folder / "launcher.log").read_text(errors="replace").strip()
        return drawn(text.rpartition("\n")[2] or "it said nothing", longest=300)

    def _end(self) -> None:
        self._socket.close()
        self._context.term()
        self._process.terminate()
        try:
            self._process.wait(ENDED_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)  # what a host still writes goes with the job's folder
