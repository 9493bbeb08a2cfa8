"""The launcher: owns the listening socket, keeps the hosts alive on the last routes, and needs no daemon for it."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zmq
import zmq.asyncio

from quarterdeckd.serving.recorder import adopt_segments
from quarterdeckd.serving.tally import Tally
from quarterdeckd.settings import host_and_port
from quarterstore.records.deployments import (
    AskServing,
    HostNews,
    HostState,
    PushRoutes,
    RoutingTable,
    ServingState,
)
from quarterstore.records.faults import Fault
from quarterstore.records.places import Home
from quarterstore.records.wire import decode, encode
from quarterstore.shelf.files import write_whole

log = logging.getLogger("quarterdeck.launcher")
LAGGARD = 0.1
"""Seconds a host has to swap to routes whose sessions it holds."""
LOADING = 30.0
CRASHES, WITHIN, PAUSE = 3, 60.0, 5.0
PORT_WITHIN = 6.0
EMPTY = RoutingTable(epoch=0, routes=())


class HostProcess:
    """One host as its launcher sees it."""

    def __init__(self, process: subprocess.Popen[bytes], status: Path) -> None:
        self.process = process
        self.status = status
        self.identity = b""
        self.epoch = -1
        self.started = time.time()
        self.asked = 0.0
        self.loading = False
        self.error = ""
        self.slots: list[str] = []
        """Endpoint and version of each slot it acknowledged, by its number less one."""
        self.late = False

    def running(self) -> int:
        """The number of the slot that was running when last looked at, 0 for none or where that cannot be read."""
        try:
            return (self.status.read_bytes() or b"\0")[0]
        except OSError as error:
            log.error("%s could not be read: %s", self.status.name, error.strerror)
            return 0


class Waiting(NamedTuple):
    """Somebody who waits for an epoch to be acknowledged."""

    identity: bytes
    epoch: int


class Launcher:
    """Keeps `count` hosts on one listener; answers pushes and questions; passes news on to whoever asked last."""

    def __init__(self, home: Home, listener: socket.socket, count: int) -> None:
        self._home = home
        self._listener = listener
        self._count = count
        self._hosts: list[HostProcess] = []
        self._crashes: list[float] = []
        self._blamed: dict[str, int] = {}
        self._watchers: dict[bytes, float] = {}
        self._waiting: list[Waiting] = []
        self._tally = Tally()
        self._told = 0.0
        self._stopping = asyncio.Event()
        self._table = _kept_table(home)
        self._socket: Any

    async def run(self) -> None:
        """Until told to stop."""
        context = zmq.asyncio.Context()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 500)
        path = self._home.serving_socket
        path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        self._socket.bind(self._home.serving_address)
        os.umask(before)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        for _ in range(self._count):
            self._start_host()
        listening = asyncio.create_task(self._listen())
        keeping = asyncio.create_task(self._keep())
        await self._stopping.wait()
        keeping.cancel()
        await self._stop_hosts()
        await asyncio.sleep(0.05)
        listening.cancel()
        await asyncio.gather(listening, keeping, return_exceptions=True)
        self._socket.close()
        context.term()
        path.unlink(missing_ok=True)

    def _start_host(self) -> None:
        adopt_segments(self._home.serving / "predictions")
        number = len(self._hosts)
        taken = {host.status.name for host in self._hosts}
        while (name := f"status-{number}") in taken:
            number += 1
        status = self._home.serving / name
        status.write_bytes(b"\0")
        os.set_inheritable(self._listener.fileno(), True)
        words = [str(self._home.root), str(self._listener.fileno()), str(status), self._home.serving_address]
        process = subprocess.Popen(
            [sys.executable, "-m", "quarterdeckd.serving.host", *words],
            pass_fds=(self._listener.fileno(),),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._hosts.append(HostProcess(process, status))

    def _try_host(self) -> None:
        """Start a host; where the disk or the process table is full, count it as a crash and try again later."""
        try:
            self._start_host()
        except OSError as error:
            self._crashes.append(time.monotonic())
            log.error("a host could not be started: %s", error.strerror)

    async def _listen(self) -> None:
        while True:
            frames = await self._socket.recv_multipart()
            try:
                identity, kind, *payload = frames
                await self._take(identity, kind, payload)
            except (msgspec.DecodeError, ValueError, IndexError) as error:
                log.error("a message of %d frames could not be read: %s", len(frames), error)

    async def _take(self, identity: bytes, kind: bytes, payload: list[bytes]) -> None:
        if kind == b"hello":
            host = next((host for host in self._hosts if host.process.pid == int(payload[0])), None)
            if host is None:
                raise ValueError("a host that is none of ours")
            host.identity = identity
            await self._send_routes(host)
        elif kind in (b"ack", b"loading"):
            await self._acknowledged(identity, kind, payload)
        elif kind == b"news":
            await self._pass_on(decode(payload[0], HostNews), identity)
        elif kind == b"push":
            self._watchers[identity] = time.monotonic()
            await self._push(decode(payload[0], PushRoutes).table, identity)
        elif kind == b"ask":
            self._watchers[identity] = time.monotonic()
            if decode(payload[0], AskServing).what == "stop":
                self._stopping.set()
            await self._answer(identity)

    async def _push(self, table: RoutingTable, identity: bytes) -> None:
        self._table = table
        try:
            write_whole(self._home.serving / "routes.json", msgspec.json.encode(table))
        except OSError as error:
            log.error("the routes could not be kept for a restart: %s", error.strerror)
        self._tally.keep({each.endpoint for each in table.routes})
        self._waiting.append(Waiting(identity, table.epoch))
        for host in self._hosts:
            if host.identity:
                await self._send_routes(host)
        await self._settle()

    async def _send_routes(self, host: HostProcess) -> None:
        host.asked, host.loading, host.epoch, host.error = time.monotonic(), False, -1, ""
        await self._socket.send_multipart([host.identity, b"routes", encode(self._table)])

    async def _acknowledged(self, identity: bytes, kind: bytes, payload: list[bytes]) -> None:
        host = next((host for host in self._hosts if host.identity == identity), None)
        if host is None:
            return
        if kind == b"loading":
            host.loading = True
            return
        host.epoch, host.error = int(payload[0]), payload[1].decode()
        host.slots = decode(payload[2], list[str])
        await self._settle()

    async def _settle(self) -> None:
        """Answer whoever waits for an epoch that every host has acknowledged or refused."""
        done = [host for host in self._hosts if host.epoch >= self._table.epoch or host.error]
        if len(done) < len(self._hosts) or not self._hosts:
            return
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            await self._answer(each.identity)

    async def _answer(self, identity: bytes) -> None:
        await self._socket.send_multipart([identity, b"state", encode(self.state())])

    def state(self) -> ServingState:
        """The launcher and its hosts as they are."""
        address = address_of(self._listener)
        epoch = min((host.epoch for host in self._hosts), default=-1)
        hosts = tuple(
            HostState(pid=host.process.pid, epoch=host.epoch, started=host.started, ready=host.epoch >= 0)
            for host in self._hosts
        )
        return ServingState(
            launcher=os.getpid(), address=f"http://{address}", epoch=epoch, hosts=hosts, crashes=self._blamed
        )

    async def _pass_on(self, news: HostNews, identity: bytes) -> None:
        if news.kind == "latency":
            host = next((host for host in self._hosts if host.identity == identity), None)
            if host is not None and news.latency is not None:
                self._tally.take(host.process.pid, news, {news.version: news.latency.role})
            return
        await self._tell(news)

    async def _tell(self, news: HostNews) -> None:
        for identity in list(self._watchers):
            await self._socket.send_multipart([identity, b"news", encode(news)])

    async def _keep(self) -> None:
        """Replace hosts that died, end those that do not swap in time."""
        while True:
            await asyncio.sleep(0.02)
            for host in list(self._hosts):
                if host.process.poll() is not None:
                    await self._died(host)
                elif host.identity and host.epoch < 0 and not host.error and self._late(host):
                    log.warning("host %d did not swap in time; it is replaced", host.process.pid)
                    host.late = True
                    host.process.kill()
            if len(self._hosts) < self._count and self._may_start():
                self._try_host()
            if time.monotonic() - self._told >= 1.0:
                self._told = time.monotonic()
                for news in self._tally.tell():
                    await self._tell(news)

    def _late(self, host: HostProcess) -> bool:
        return time.monotonic() - host.asked > (LOADING if host.loading else LAGGARD)

    def _may_start(self) -> bool:
        now = time.monotonic()
        self._crashes = [moment for moment in self._crashes if now - moment < WITHIN]
        return len(self._crashes) < CRASHES or now - self._crashes[-1] > PAUSE

    async def _died(self, host: HostProcess) -> None:
        self._hosts.remove(host)
        self._crashes.append(time.monotonic())
        number = 0 if host.late else host.running()
        # by the slots the host had, not by those of a table that is still on its way to it
        endpoint, version = host.slots[number - 1].split("\n") if 0 < number <= len(host.slots) else ("", "")
        if version:
            self._blamed[version] = self._blamed.get(version, 0) + 1
        detail = f"host {host.process.pid} ended with {host.process.returncode}"
        log.error("%s%s", detail, f" while {version} was running" if version else "")
        await self._tell(HostNews(kind="crash", endpoint=endpoint, version=version, detail=detail))

    async def _stop_hosts(self) -> None:
        for host in self._hosts:
            host.process.terminate()
        deadline = time.monotonic() + 10.0
        while any(host.process.poll() is None for host in self._hosts) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        for host in self._hosts:
            if host.process.poll() is None:
                host.process.kill()
        self._hosts.clear()


def _kept_table(home: Home) -> RoutingTable:
    path = home.serving / "routes.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=RoutingTable) if path.exists() else EMPTY
    except msgspec.DecodeError as error:
        log.error("the last routes could not be read (%s); the daemon pushes them again", error)
        return EMPTY


def address_of(listener: socket.socket) -> str:
    """HOST:PORT of a listener."""
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"


def listen(home: Home, address: str | None) -> socket.socket:
    """The listening socket: at `address`, else where it was last time, else where the kernel says."""
    remembered = home.serving / "address"
    host, port = host_and_port("http", address) if address else ("127.0.0.1", 0)
    if not address and remembered.exists():
        host, port = host_and_port("http", remembered.read_text().strip())
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    deadline = time.monotonic() + PORT_WITHIN
    while True:
        try:
            listener.bind((host, port))
            break
        except OSError:
            # the hosts of a launcher that was killed hold the port until they have drained
            if time.monotonic() < deadline:
                time.sleep(0.05)
            elif address:
                raise
            else:
                port = 0
    listener.listen(1024)
    listener.setblocking(False)
    write_whole(remembered, address_of(listener).encode())
    return listener


def held(lock: int) -> bool:
    """Whether the lock is ours now; whoever asks if a launcher lives holds it for an instant, so once is not enough."""
    for _ in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02)
    return False


def main(argv: list[str] | None = None) -> int:
    """`python -m quarterdeckd.serving.launcher --home DIR`."""
    options = argparse.ArgumentParser(prog="quarterdeck-serving", description=__doc__)
    options.add_argument("--home", type=Path, required=True)
    options.add_argument("--http", default=None, metavar="HOST:PORT")
    options.add_argument("--hosts", type=int, default=1)
    given = options.parse_args(argv)
    os.umask(0o077)
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    home = Home(given.home)
    home.serving.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(home.serving / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not held(lock):
        print("error: serving: got a launcher that runs already, expected none", file=sys.stderr)
        return 5
    try:
        listener = listen(home, given.http)
    except (OSError, Fault) as error:
        words = (
            error.line()
            if isinstance(error, Fault)
            else f"http: got {given.http}: {error.strerror}, expected a free address"
        )
        print(f"error: {words}", file=sys.stderr)
        return 2
    about = {"pid": os.getpid(), "started": time.time(), "address": "http://" + address_of(listener)}
    write_whole(home.serving / "launcher.json", msgspec.json.encode(about))
    asyncio.run(_run(home, listener, given.hosts))
    return 0


async def _run(home: Home, listener: socket.socket, count: int) -> None:
    await Launcher(home, listener, count).run()


if __name__ == "__main__":
    sys.exit(main())
