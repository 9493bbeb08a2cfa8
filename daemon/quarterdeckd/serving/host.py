"""A serving host: one process that answers predictions by the routes it was given, records them and counts."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
import zmq
import zmq.asyncio

from quarterdeckd.http.server import Protocol
from quarterdeckd.measures import latency
from quarterdeckd.serving.copies import Copies
from quarterdeckd.serving.inference import Inference
from quarterdeckd.serving.process import LEAVE, SHARE
from quarterdeckd.serving.recorder import SYNC_EVERY, Recorder
from quarterdeckd.serving.router import Arm, Routes, Way
from quarterdeckd.serving.status import Status
from quarterdeckd.serving.web import Web
from quarterstore.records.deployments import LatencySummary, RoutingTable, Slot
from quarterstore.records.faults import Fault
from quarterstore.records.hosts import HostNews
from quarterstore.records.places import Home
from quarterstore.records.wire import decode, encode

if TYPE_CHECKING:
    from quarterdeckd.serving.rpc import Rpc

log = logging.getLogger("quarterdeck.host")
ACCEPT_AGAIN = 0.2
ACCEPTED = 1000
"""Connections a second that are taken however long the turns of the loop are."""
LONGEST_TURN = 0.5
"""Seconds between two looks at the listener from which on they were not two turns: nobody came meanwhile."""
LOADERS = 4
"""Files that are loaded at a time."""
SEEN_OFF = 6.0
"""Seconds in which a host that leaves answers each of its connections once more."""
GARBAGE = 20_000
"""Objects more than before after which cycles are looked for: by default 700, which cost every request 3 %."""
DRAIN = 5.0
"""Seconds that requests have to end in when the host is told to stop."""


class Host:
    """Answers requests; told its routes by the launcher."""

    def __init__(self, home: Home, listener: socket.socket, status: Status, copies: Copies, grpc: str = "") -> None:
        self._listener = listener
        self._grpc = grpc
        """HOST:PORT where gRPC is answered, if it is."""
        self.routes = Routes(home.pushed)
        self._recorder = Recorder(home.serving / "predictions", os.getpid())
        self._connections: set[Protocol] = set()
        self._accepted = 0.0
        """When the listener was looked at last."""
        self._dropped_told = 0
        self._wanted: tuple[RoutingTable, bytes]
        self._acknowledged = b""
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._lost: dict[str, str] = {}
        """Why a file could not be loaded for the newest table, by digest."""
        self._loaders = ThreadPoolExecutor(LOADERS, "load")
        self._ready = False
        """Whether every endpoint of the last table that was acknowledged is served as it says."""
        self._taking: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._leaving = False
        self._routed = asyncio.Event()
        self._written = asyncio.Event()
        self._copies = copies
        self._full = asyncio.Event()
        self._inference = Inference(self.routes, self._recorder, status, copies, self._recorded)
        self._web = Web(self.routes, self._inference, lambda: self._ready)

    def _recorded(self) -> None:
        self._written.set()
        if self._recorder.full():
            self._full.set()

    async def serve(self, control: Any) -> None:
        """Answer until told to stop: drain, close the segment, leave."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(LEAVE, self._leave)
        loop.add_signal_handler(SHARE, self._share)
        tasks = [asyncio.create_task(each) for each in (self._obey(control), self._tell(control), self._tend())]
        rpc = await self._open_grpc()
        await control.send_multipart([b"hello", str(os.getpid()).encode()])
        for task in tasks:
            task.add_done_callback(self._ended)
        # callers wait in the listener's queue until there are routes: a host that is replaced answers no 404 meanwhile
        await self._routed.wait()
        loop.add_reader(self._listener.fileno(), self._accept)
        await self._stopping.wait()
        loop.remove_reader(self._listener.fileno())
        leaving = [self._see_off()] if self._leaving else []
        await asyncio.gather(*leaving, *self._taking, *([rpc.stop(DRAIN)] if rpc is not None else []))
        for connection in list(self._connections):
            connection.drain()
        deadline = loop.time() + DRAIN
        while any(connection.busy for connection in self._connections) and loop.time() < deadline:
            await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
        self._recorder.tend(close=True)

    async def _see_off(self) -> None:
        """Answer each connection once more and tell it so (`connection: close`): one that is closed while its caller
        is sending fails that call. Whoever sends nothing in all that time is hung up on, as after any long silence."""
        deadline = time.monotonic() + SEEN_OFF
        while self._connections and time.monotonic() < deadline:
            for connection in self._connections:
                connection.retire()
            await asyncio.sleep(0.05)

    async def _open_grpc(self) -> Rpc | None:
        if not self._grpc:
            return None
        from quarterdeckd.serving.rpc import Rpc  # an extra that a host without this door does not need

        rpc = Rpc(self.routes, self._inference, lambda: self._ready, self._routed)
        await rpc.start(self._grpc)
        return rpc

    def _accept(self) -> None:
        """Take one connection a turn of the loop, and one more for each millisecond that the last turn took: whoever is
        less busy gets the next, and nobody waits for a busy host for long (at one a turn of 60 ms, four hundred callers
        waited for up to 25 s). A server of uvloop takes all that wait at once: one of two hosts had 29 of 32."""
        now, before = time.monotonic(), self._accepted
        self._accepted = now
        turn = now - before if now - before < LONGEST_TURN else 0.0
        for _ in range(1 + int(turn * ACCEPTED)):
            if not self._accept_one():
                break

    def _accept_one(self) -> bool:
        """Take a connection that waits; whether there was one."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another host was quicker, or the caller is gone
        except OSError as error:
            # no descriptor is left: the listener stays readable, so look away for a moment
            log.error("a connection could not be taken: %s", error.strerror)
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener.fileno())
            loop.call_later(ACCEPT_AGAIN, self._accept_again)
            return False
        connection.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._take(connection))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        return True

    def _accept_again(self) -> None:
        if not self._stopping.is_set():
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    async def _take(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._connected, connection)
        except OSError as error:
            log.info("a connection was lost before it began: %s", error.strerror)

    def _connected(self) -> Protocol:
        return Protocol(self._web.handle, self._connections)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A part of the host that ended by an error takes the host with it; the launcher starts another."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the host gives up", exc_info=error)
            self._stop()

    def _leave(self) -> None:
        self._leaving = True
        self._stop()

    def _share(self) -> None:
        """Another host came: every second connection is answered once more and told to close. Its caller calls again,
        and whoever is less busy takes it."""
        for connection in islice(self._connections, 0, None, 2):
            connection.retire()

    def _stop(self) -> None:
        self._stopping.set()
        self._routed.set()

    async def _obey(self, control: Any) -> None:
        """Serve by each table as soon as it comes, as far as its sessions are held; each file that is lacking is loaded
        beside, so that a rollback waits for nobody's large one."""
        while True:
            kind, number, payload = await control.recv_multipart()
            if kind != b"routes":
                continue
            table = decode(payload, RoutingTable)
            self._recorder.limit(table.waiting)
            self._wanted = (table, number)
            self._lost.clear()
            for slot in self.routes.lacking(table):
                if slot.digest not in self._loading:
                    self._loading[slot.digest] = task = asyncio.create_task(self._load(control, slot))
                    task.add_done_callback(self._ended)
            await self._proceed(control)

    async def _load(self, control: Any, slot: Slot) -> None:
        loop = asyncio.get_running_loop()
        try:
            self.routes.hold(await loop.run_in_executor(self._loaders, self.routes.load, slot))
        except Fault as fault:
            self._lost[slot.digest] = f"{slot.version}: {fault.line()}"
            log.error("%s", self._lost[slot.digest])
        finally:
            del self._loading[slot.digest]
        await self._proceed(control)

    async def _proceed(self, control: Any) -> None:
        """Swap to the newest table as far as it goes; acknowledge it once nothing of it is still being loaded."""
        table, number = self._wanted
        if number == self._acknowledged:
            return
        before = list(self.routes.ways.values())
        self.routes.swap(table)
        for way in before:
            if self.routes.ways.get(way.route.endpoint) is not way:
                await self._tell_way(control, way)  # what it answered since it was told last
        lacking = [slot.digest for slot in self.routes.lacking(table)]
        if any(digest in self._loading for digest in lacking):
            await control.send_multipart([b"loading", encode(self._slots())])
            return
        self._acknowledged = number
        self._ready = self.routes.whole
        self._routed.set()
        lost = "; ".join(self._lost[digest] for digest in lacking)
        epoch = str(-1 if lacking else table.epoch).encode()
        await control.send_multipart([b"ack", encode(self._slots()), number, epoch, lost.encode()])

    def _slots(self) -> dict[int, str]:
        arms = (each for way in self.routes.ways.values() for each in way.arms)
        return {each.number: f"{each.route.endpoint}\n{each.slot.version}" for each in arms}

    async def _tell(self, control: Any) -> None:
        while True:
            await asyncio.sleep(1.0)
            busy, waiting, requests, shed = self._inference.load.measured()
            news = HostNews(kind="load", busy=busy, waiting=waiting, requests=requests, shed=shed)
            await control.send_multipart([b"news", encode(news)])
            for way in list(self.routes.ways.values()):
                await self._tell_way(control, way)
                if way.shadow is not None:
                    await control.send_multipart([b"news", encode(self._copies.news(way.route))])
            if self._recorder.dropped != self._dropped_told:
                self._dropped_told = self._recorder.dropped
                news = HostNews(kind="dropped", dropped=self._dropped_told, detail=self._recorder.why)
                await control.send_multipart([b"news", encode(news)])

    async def _tell_way(self, control: Any, way: Way) -> None:
        """What the arms of an endpoint have done since its epoch began."""
        counts = {each.slot.version: each.counts() for each in way.arms}
        for each in way.arms:
            news = HostNews(
                kind="latency",
                latency=_summary(each),
                counts=counts,
                refused=way.refused,
                shed=way.shed,
                endpoint=way.route.endpoint,
                version=each.slot.version,
                epoch=way.route.epoch,
            )
            await control.send_multipart([b"news", encode(news)])

    async def _tend(self) -> None:
        """Sync what is recorded while anything is, sooner when a segment is full, and sleep while nothing is."""
        while True:
            await self._written.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SYNC_EVERY):
                    await self._full.wait()
            self._full.clear()
            self._written.clear()
            try:
                if not await asyncio.to_thread(self._recorder.tend):
                    self._written.set()
            except OSError as error:
                log.error("the predictions could not be synced: %s", error.strerror)


def _summary(arm: Arm) -> LatencySummary:
    recent, errors = arm.recent, arm.recent_errors
    arm.recent, arm.recent_errors = latency.empty(), 0
    total = latency.total(recent)
    return LatencySummary(
        endpoint=arm.route.endpoint,
        version=arm.slot.version,
        role=arm.slot.role,
        epoch=arm.route.epoch,
        at=time.time(),
        requests=total,
        errors=errors,
        p50=latency.percentile(recent, 50) if total else None,
        p95=latency.percentile(recent, 95) if total else None,
        p99=latency.percentile(recent, 99) if total else None,
        total_requests=arm.requests,
        total_errors=arm.errors,
    )


def main(argv: list[str]) -> int:
    """`python -m quarterdeckd.serving.host HOME LISTENER_FD STATUS_FILE CONTROL_ADDRESS [GRPC_ADDRESS]`, started by the
    launcher."""
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # a host without its launcher would hold the port and know no routes but its last
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)
    if os.getppid() == 1:
        return 1
    home = Home(Path(argv[1]))
    # what was imported lives as long as the host; a request's own garbage goes by its counts, cycles are few
    gc.freeze()
    gc.set_threshold(GARBAGE)
    listener = socket.socket(fileno=int(argv[2]))
    status = Status(Path(argv[3]))

    async def run() -> None:
        context = zmq.asyncio.Context()
        control: Any = context.socket(zmq.DEALER)
        control.setsockopt(zmq.LINGER, 200)
        control.connect(argv[4])
        copies = Copies(zmq.Context.shadow(context.underlying), home.shadow_address)
        await Host(home, listener, status, copies, "".join(argv[5:6])).serve(control)
        copies.close()
        control.close()
        context.term()

    uvloop.run(run())
    logging.shutdown()
    os._exit(0)  # a model that hangs in a thread must not hold its host open


if __name__ == "__main__":
    sys.exit(main(sys.argv))
