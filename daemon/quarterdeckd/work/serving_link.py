"""The daemon's link to serving: a launcher found or started, routes pushed, news taken."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import zmq
import zmq.asyncio

from quarterstore.records.deployments import AskServing, HostNews, PushRoutes, RoutingTable, ServingState
from quarterstore.records.faults import Unreachable
from quarterstore.records.places import Home
from quarterstore.records.wire import decode, encode

log = logging.getLogger(__name__)
STARTED_WITHIN = 15.0
ACKNOWLEDGED_WITHIN = 40.0
STOPPED_WITHIN = 15.0


class ServingLink:
    """One DEALER to the launcher of a home; made when it is first needed."""

    def __init__(self, home: Home, on_news: Callable[[HostNews], None], http: str | None, hosts: int) -> None:
        self._home = home
        self._on_news = on_news
        self._http = http
        self._hosts = hosts
        self._context: zmq.asyncio.Context | None = None
        self._socket: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._states: asyncio.Queue[ServingState] = asyncio.Queue()
        self._one = asyncio.Lock()

    def alive(self) -> bool:
        """Whether a launcher holds its lock."""
        path = self._home.serving / "lock"
        if not path.exists():
            return False
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)

    async def start(self) -> None:
        """Find the launcher that runs, or start one that outlives us."""
        if not self.alive():
            self._spawn()
            self._drop_socket()
        if self._socket is None:
            self._context = self._context or zmq.asyncio.Context()
            self._socket = self._context.socket(zmq.DEALER)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
            self._socket.connect(self._home.serving_address)
            self._reader = asyncio.create_task(self._read(self._socket))
            await self._asked(AskServing(what="state"), b"ask", STARTED_WITHIN)

    def _spawn(self) -> None:
        words = [sys.executable, "-m", "quarterdeckd.serving.launcher", "--home", str(self._home.root)]
        words += ["--hosts", str(self._hosts), *(["--http", self._http] if self._http else [])]
        environment = {
            name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "QD_CRASH_AT")
        }
        with (self._home.serving / "launcher.log").open("ab") as log_file:
            subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
                env=environment,
            )
        log.info("started the serving launcher")

    async def _read(self, socket: Any) -> None:
        while True:
            kind, payload = await socket.recv_multipart()
            if kind == b"state":
                self._states.put_nowait(decode(payload, ServingState))
            elif kind == b"news":
                self._on_news(decode(payload, HostNews))

    async def _asked(self, message: Any, kind: bytes, seconds: float) -> ServingState:
        async with self._one:
            while not self._states.empty():
                self._states.get_nowait()
            await self._socket.send_multipart([kind, encode(message)])
            try:
                return await asyncio.wait_for(self._states.get(), seconds)
            except TimeoutError as error:
                raise Unreachable(
                    f"the serving launcher did not answer within {seconds:g} s", field="serving"
                ) from error

    async def push(self, table: RoutingTable) -> ServingState:
        """Serve by a table; answered when every host has acknowledged its epoch (or said why it cannot)."""
        return await self._asked(PushRoutes(table=table), b"push", ACKNOWLEDGED_WITHIN)

    async def state(self) -> ServingState:
        """How serving is; `Unreachable` without a launcher."""
        if self._socket is None or not self.alive():
            raise Unreachable("no serving launcher runs", field="serving")
        return await self._asked(AskServing(what="state"), b"ask", 5.0)

    async def stop(self) -> None:
        """Stop the launcher and its hosts, if any run."""
        if self.alive():
            await self.start()
            await self._asked(AskServing(what="stop"), b"ask", 10.0)
            deadline = asyncio.get_running_loop().time() + STOPPED_WITHIN
            while self.alive():
                if asyncio.get_running_loop().time() > deadline:
                    raise Unreachable(f"serving did not end within {STOPPED_WITHIN:g} s", field="serving")
                await asyncio.sleep(0.02)
            self._drop_socket()

    def _drop_socket(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        if self._socket is not None:
            self._socket.close(0)
        self._socket = self._reader = None

    def close(self) -> None:
        """Let go; the launcher goes on."""
        self._drop_socket()
        if self._context is not None:
            self._context.destroy(0)
