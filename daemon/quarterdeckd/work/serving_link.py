"""The daemon's link to serving: a launcher found or started, routes pushed, news taken."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import zmq
import zmq.asyncio

from quarterdeckd.serving.listener import refuse_taken
from quarterstore.records.deployments import RoutingTable
from quarterstore.records.faults import Unreachable
from quarterstore.records.hosts import AskServing, HostNews, PushRoutes
from quarterstore.records.places import Home
from quarterstore.records.serving import ServingState
from quarterstore.records.wire import decode, encode

log = logging.getLogger(__name__)
STARTED_WITHIN = 15.0
ACKNOWLEDGED_WITHIN = 40.0
STOPPED_WITHIN = 15.0
LEFT_ALONE = 3.0
"""Seconds in which a launcher that somebody else started (a unit: its RestartSec is 1) may come back before we start
one; ours would live in the daemon's own unit and end with it."""


class ServingLink:
    """One DEALER to the launcher of a home; made when it is first needed.

    Every question has a number that its answer carries. The launcher is watched by pidfd: whoever waits for one that
    ended is told at once. When another launcher takes its place, whoever started it, the socket reconnects by itself,
    we ask for its state, and from then on it tells us its news.
    """

    def __init__(
        self,
        home: Home,
        on_news: Callable[[HostNews], None],
        http: str | None,
        hosts: int | str,
        grpc: str | None = None,
    ) -> None:
        self.on_state: Callable[[ServingState], None] = lambda state: None
        """Told each state that comes, asked for or not."""
        self.on_ended: Callable[[], None] = lambda: None
        """Told when the launcher ended."""
        self._home = home
        self._on_news = on_news
        self._http = http
        self._hosts = hosts
        self._grpc = grpc
        self._context: zmq.asyncio.Context | None = None
        self._socket: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = count(1)
        self._asking: dict[int, asyncio.Future[ServingState]] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._answered = False
        """Whether the launcher that was reached or started has answered yet."""
        self._log_from = 0
        """Where in the launcher's log our own one began."""
        self._pid = 0
        self._pidfd = -1
        self._ended = asyncio.Event()
        self._left_alone_until = 0.0
        self._starting = asyncio.Lock()

    def launcher(self) -> int:
        """The pid of the launcher that holds the home's lock, 0 where none does."""
        path = self._home.serving / "lock"
        if not path.exists():
            return 0
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return 0
        except BlockingIOError:
            text = os.pread(descriptor, 20, 0)
            return int(text) if text.isdigit() else -1
        finally:
            os.close(descriptor)

    def alive(self) -> bool:
        """Whether a launcher holds the home's lock."""
        return self.launcher() != 0

    def beginning(self) -> bool:
        """Whether a launcher that we started is on its way: it may not hold the lock yet, but it will."""
        child = self._child
        return not self._answered and child is not None and child.pid == self._pid and child.poll() is None

    def refuse_taken(self) -> None:
        """Raise `Conflict` where a launcher of ours could not have its addresses, naming who has them."""
        if not self.alive():
            refuse_taken(self._home, {"http": self._http, "grpc": self._grpc})

    async def start(self) -> None:
        """Find the launcher that runs, or start one that outlives us; raises `Unreachable` or `Failed`."""
        async with self._starting:
            pid = self._pid if self.beginning() else self.launcher()
            if pid == 0:
                if self._pid and self._pidfd >= 0:
                    self._gone()  # its lock is free: it ended, and the loop has not come to say so
                if time.monotonic() < self._left_alone_until:
                    raise Unreachable(
                        f"the launcher ended; whoever started it has {LEFT_ALONE:g} s to do so again", field="serving"
                    )
                self._drop_socket()
                pid = self._spawn()
            self._watch(pid)
            if self._socket is None:
                self._connect()
                self._answered = False
            if not self._answered:
                await self._asked(AskServing(what="state"), b"ask", STARTED_WITHIN)

    def _connect(self) -> None:
        self._context = self._context or zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        monitor = self._socket.get_monitor_socket(zmq.EVENT_CONNECTED)
        self._socket.connect(self._home.serving_address)
        self._tasks = [
            asyncio.create_task(self._read(self._socket)),
            asyncio.create_task(self._introduce(self._socket, monitor)),
        ]
        for task in self._tasks:
            task.add_done_callback(_said)

    async def _introduce(self, socket: Any, monitor: Any) -> None:
        """Ask a launcher that was just reached: it tells its news to those who asked it before."""
        while True:
            await monitor.recv_multipart()
            await socket.send_multipart([b"ask", encode(AskServing(what="state")), b"0"])

    def _watch(self, pid: int) -> None:
        """From here on whoever waits for this launcher is told when it ends."""
        if pid <= 0 or pid == self._pid:
            return
        self._unwatch()
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        self._pid = pid
        self._ended.clear()
        asyncio.get_running_loop().add_reader(self._pidfd, self._gone)

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
        self._pid, self._pidfd = 0, -1

    def _gone(self) -> None:
        ours = self._child is not None and self._child.pid == self._pid
        why = ""
        if self._child is not None and (code := self._child.poll()) is not None:
            why = self._last_words() if code else ""
            self._child = None
        self._left_alone_until = 0.0 if ours else time.monotonic() + LEFT_ALONE
        log.warning("the serving launcher %d ended", self._pid)
        self._unwatch()
        self._ended.set()
        for future in self._asking.values():
            if not future.done():
                words = why or "the serving launcher ended before it answered"
                future.set_exception(Unreachable(words, field="serving"))
        self.on_ended()

    def _last_words(self) -> str:
        """What our launcher complained of, if it did."""
        with (self._home.serving / "launcher.log").open("rb") as file:
            file.seek(self._log_from)
            lines = file.read().decode("utf-8", "replace").splitlines()
        return next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), "")

    def _spawn(self) -> int:
        words = [sys.executable, "-m", "quarterdeckd.serving.launcher", "--home", str(self._home.root)]
        words += ["--hosts", str(self._hosts), *(["--http", self._http] if self._http else [])]
        words += ["--grpc", self._grpc] if self._grpc else []
        environment = {
            name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "QD_CRASH_AT")
        }
        with (self._home.serving / "launcher.log").open("ab") as log_file:
            self._log_from = log_file.tell()
            self._child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
                env=environment,
            )
        self._answered = False
        log.info("started the serving launcher %d", self._child.pid)
        return self._child.pid

    async def _read(self, socket: Any) -> None:
        while True:
            frames = await socket.recv_multipart()
            try:
                self._take(*frames)
            except Exception:  # deaf to what comes next, nobody would judge a canary or hear that a push was taken
                log.exception("what the launcher said could not be taken")

    def _take(self, kind: bytes, payload: bytes, *number: bytes) -> None:
        if kind == b"news":
            self._on_news(decode(payload, HostNews))
        elif kind == b"state":
            state = decode(payload, ServingState)
            if state.launcher is not None:
                self._watch(state.launcher)
                self._answered = True
            future = self._asking.get(int(number[0])) if number else None
            if future is not None and not future.done():
                future.set_result(state)
            self.on_state(state)

    async def _asked(self, message: Any, kind: bytes, seconds: float) -> ServingState:
        number = next(self._numbers)
        future = self._asking[number] = asyncio.get_running_loop().create_future()
        try:
            # not wait_for: in Python 3.11 that swallows a cancel that comes together with the answer
            async with asyncio.timeout(seconds):
                await self._socket.send_multipart([kind, encode(message), str(number).encode()])
                answer: ServingState = await future
            return answer
        except TimeoutError as error:
            raise Unreachable(f"the serving launcher did not answer within {seconds:g} s", field="serving") from error
        finally:
            del self._asking[number]

    async def push(self, table: RoutingTable) -> ServingState:
        """Serve by a table; answered when every host that has routes has acknowledged its epoch (or said why it
        cannot); `Unreachable` as soon as the launcher ends."""
        if self._socket is None or not self._pid:
            raise Unreachable("no serving launcher runs", field="serving")
        return await self._asked(PushRoutes(table=table), b"push", ACKNOWLEDGED_WITHIN)

    async def state(self) -> ServingState:
        """How serving is; `Unreachable` without a launcher."""
        if self._socket is None or not self.alive():
            raise Unreachable("no serving launcher runs", field="serving")
        return await self._asked(AskServing(what="state"), b"ask", 5.0)

    async def stop(self) -> None:
        """Stop the launcher and its hosts, if any run."""
        if self.alive() or self.beginning():
            await self.start()
            try:
                await self._asked(AskServing(what="stop"), b"ask", 10.0)
            except Unreachable:
                if not self._ended.is_set():  # it may have ended before its answer was read
                    raise
            try:
                await asyncio.wait_for(self._ended.wait(), STOPPED_WITHIN)
            except TimeoutError as error:
                raise Unreachable(f"serving did not end within {STOPPED_WITHIN:g} s", field="serving") from error
        self._left_alone_until = 0.0
        self._drop_socket()

    def _drop_socket(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._socket is not None:
            self._socket.disable_monitor()
            self._socket.close(0)
        self._socket, self._tasks = None, []

    def close(self) -> None:
        """Let go; the launcher goes on."""
        self._drop_socket()
        self._unwatch()
        if self._context is not None:
            self._context.destroy(0)


def _said(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the link to serving is deaf until it is made anew", exc_info=error)
