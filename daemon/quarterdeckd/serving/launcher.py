"""The launcher: owns the listening socket, keeps the hosts alive on the last routes, and needs no daemon for it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import zmq
import zmq.asyncio

from quarterdeckd.serving import last_routes, process
from quarterdeckd.serving.breaker import Breaker, Suspect
from quarterdeckd.serving.listener import address_of, held, listen, reserve
from quarterdeckd.serving.process import LEFT_WITHIN, LOADING, HostProcess
from quarterdeckd.serving.recorder import adopt_segments
from quarterdeckd.serving.restarts import Restarts
from quarterdeckd.serving.scaling import Hosts, Scaling
from quarterdeckd.serving.shadow_process import ShadowProcess
from quarterdeckd.serving.telling import Telling
from quarterdeckd.settings import least_and_most
from quarterstore.records.deployments import RoutingTable
from quarterstore.records.faults import MEANINGS, Fault
from quarterstore.records.hosts import AskServing, HostNews, PushRoutes
from quarterstore.records.places import Home
from quarterstore.records.serving import ServingState
from quarterstore.records.wire import decode, encode

log = logging.getLogger("quarterdeck.launcher")
STOP_WITHIN = 10.0
OURSELVES = 0.02
"""Seconds by which a deadline that is looked at too late says more of us than of the host it was set for."""


class Waiting(NamedTuple):
    """Somebody who waits for a table to be acknowledged."""

    identity: bytes
    number: list[bytes]


class Launcher:
    """Keeps as many hosts as the load wants on one listener; answers pushes and questions; passes news on.

    Frames from a link: kind, payload and, from one that wants its answers told apart and the news, a number, which the
    answer carries as well. Nothing is polled: hosts are waited for by pidfd, deadlines are timers.
    """

    def __init__(
        self, home: Home, listener: socket.socket, scaling: Scaling, grpc: socket.socket | None = None
    ) -> None:
        self._home = home
        self._listener = listener
        self._grpc = grpc
        self._scaling = scaling
        self._why = ""
        self._hosts: list[HostProcess] = []
        self._restarts = Restarts()
        self._filling: asyncio.TimerHandle | None = None
        self._breaker = Breaker()
        self._retrying: asyncio.TimerHandle | None = None
        self._blamed: dict[str, int] = {}
        self._waiting: list[Waiting] = []
        self._stopping = asyncio.Event()
        self._emptied = asyncio.Event()
        self._table = last_routes.kept(home)
        self._socket: Any
        self._telling: Telling
        self._shadow: ShadowProcess

    async def run(self) -> None:
        """Until told to stop."""
        self._loop = asyncio.get_running_loop()
        context = zmq.asyncio.Context()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._telling = Telling(self._socket, self.state)
        path = self._home.serving_socket
        path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        self._socket.bind(self._home.serving_address)
        os.umask(before)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stopping.set)
        self._shadow = ShadowProcess(self._home, lambda news: self._telling.soon(self._telling.tell(news)))
        self._fill()
        self._shadow.follow(self._table)
        listening = asyncio.create_task(self._listen())
        await self._stopping.wait()
        self._shadow.end()
        await self._stop_hosts()
        listening.cancel()
        await asyncio.gather(listening, self._telling.end(), return_exceptions=True)
        self._socket.close()
        context.term()
        path.unlink(missing_ok=True)

    def _fill(self) -> None:
        """Start the hosts that are missing, as soon as they may."""
        self._filling = None
        while len(self._staying) < self._scaling.wanted and not self._stopping.is_set():
            now = time.monotonic()
            if (pause := self._restarts.pause(now)) > 0:
                self._filling = self._loop.call_later(pause, self._fill)
                return
            try:
                adopt_segments(self._home.serving / "predictions")
                host = process.start(
                    self._home, self._listener, {each.status_file for each in self._hosts}, self._grpc_address
                )
            except OSError as error:
                # the disk or the process table is full: as a crash, so that it is tried again, but not at once
                self._restarts.died(now, proven=False)
                log.error("a host could not be started: %s", error.strerror)
                self._filling = self._loop.call_later(0.1, self._fill)
                return
            self._hosts.append(host)
            self._loop.add_reader(host.pidfd, self._ended, host)
            host.timer = self._loop.call_later(LOADING, self._look_at, host)

    async def _listen(self) -> None:
        while True:
            frames = await self._socket.recv_multipart()
            try:
                identity, kind, payload, *rest = frames
                await self._take(identity, kind, payload, rest)
            except Exception:  # whoever asked is not answered in time; one that listened no more would answer nobody
                log.exception("a message of %d frames could not be done", len(frames))

    async def _take(self, identity: bytes, kind: bytes, payload: bytes, rest: list[bytes]) -> None:
        if kind == b"hello":
            host = next((host for host in self._hosts if host.process.pid == int(payload)), None)
            if host is None:
                raise ValueError("a host that is none of ours")
            host.identity = identity
            await self._send_routes(host)
        elif kind == b"loading":
            if (host := self._host(identity)) is not None:
                host.within = LOADING
                host.has(decode(payload, dict[int, str]))
        elif kind == b"ack":
            await self._acknowledged(identity, payload, *rest)
        elif kind == b"news":
            if (host := self._host(identity)) is not None:
                await self._heard(host, decode(payload, HostNews))
        elif kind == b"push":
            self._telling.watch(identity, rest)
            await self._push(decode(payload, PushRoutes).table, Waiting(identity, rest))
        elif kind == b"ask":
            self._telling.watch(identity, rest)
            if decode(payload, AskServing).what == "stop":
                self._stopping.set()
            await self._telling.answer(identity, rest)

    def _host(self, identity: bytes) -> HostProcess | None:
        return next((host for host in self._hosts if host.identity == identity), None)

    async def _push(self, table: RoutingTable, waiting: Waiting) -> None:
        self._table = table
        last_routes.keep(self._home, table)
        self._breaker.keep(table)
        self._telling.tally.keep({each.endpoint for each in table.routes})
        self._waiting.append(waiting)
        await self._send_all()
        await self._settle()

    async def _send_all(self) -> None:
        self._shadow.follow(self._breaker.applied(self._table))
        for host in self._hosts:
            if host.identity:
                await self._send_routes(host)

    async def _send_routes(self, host: HostProcess) -> None:
        number = host.sent(time.monotonic())
        self._time(host)
        await self._socket.send_multipart(
            [host.identity, b"routes", number, encode(self._breaker.applied(self._table))]
        )

    def _time(self, host: HostProcess) -> None:
        host.untimed()
        host.timer = self._loop.call_later(max(0.0, host.patience(time.monotonic())), self._look_at, host)

    def _look_at(self, host: HostProcess) -> None:
        """End a host that does not come up or does not swap in time."""
        left = host.patience(time.monotonic())
        if left < -OURSELVES:
            host.excused(-left)
        if left > 0.001 or left < -OURSELVES:
            self._time(host)
            return
        log.warning("host %d did not swap in time; it is replaced", host.process.pid)
        self._end(host)

    def _end(self, host: HostProcess) -> None:
        if host in self._hosts:
            host.late = True
            host.process.kill()

    async def _acknowledged(self, identity: bytes, slots: bytes, number: bytes, epoch: bytes, lost: bytes) -> None:
        host = self._host(identity)
        if host is None:
            return
        came = host.fresh
        host.acknowledged(int(number), int(epoch), lost.decode())
        host.has(decode(slots, dict[int, str]))
        if not host.unanswered:
            host.untimed()
        await self._settle()
        if came:  # callers keep their connections: without this it would have none of those that made it come
            for other in self._staying:
                if other is not host and not other.fresh:
                    other.share()
            await self._telling.tell_state()

    async def _settle(self) -> None:
        """Answer whoever waits, when every host that has routes has acknowledged or refused the last ones. One that
        comes up holds no old routes, so nobody waits for it as long as another answers."""
        routed = [host for host in self._hosts if not host.fresh]
        if not routed or any(host.unanswered for host in routed):
            return
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            await self._telling.answer(each.identity, each.number)

    @property
    def _grpc_address(self) -> str:
        return address_of(self._grpc) if self._grpc is not None else ""

    def state(self) -> ServingState:
        """The launcher and its hosts as they are; the epoch is the oldest one that still answers."""
        return ServingState(
            launcher=os.getpid(),
            address=f"http://{address_of(self._listener)}",
            grpc=self._grpc_address or None,
            epoch=min((host.epoch for host in self._hosts if not host.fresh), default=-1),
            hosts=tuple(host.state() for host in self._hosts),
            crashes=self._blamed,
            least=self._scaling.least,
            most=self._scaling.most,
            wanted=self._scaling.wanted,
            why=self._why,
            out=tuple(f"{each.endpoint}: {each.version}" for each in self._breaker.open),
        )

    @property
    def _staying(self) -> list[HostProcess]:
        return [host for host in self._hosts if not host.leaving]

    async def _heard(self, host: HostProcess, news: HostNews) -> None:
        if news.kind != "load":
            await self._telling.pass_on(host.process.pid, news)
            return
        host.took(news)
        ready = [each for each in self._staying if not each.fresh]
        if ready and host is ready[0]:  # once for all of them
            self._weigh(ready)

    def _weigh(self, ready: list[HostProcess]) -> None:
        """Follow the load by the number of hosts."""
        loads = [host.load for host in ready]
        shed = sum(host.shed_lately() for host in ready)
        seen = Hosts(sum(each.busy for each in loads), max(each.waiting for each in loads), shed, len(ready))
        change = self._scaling.saw(time.monotonic(), seen)
        if change is not None:
            self._why = f"{change.hosts} host{'s' * (change.hosts != 1)}: {change.why}"
            log.info("%s", self._why)
            for host in self._staying[change.hosts :]:
                host.leave()
                self._loop.call_later(LEFT_WITHIN, self._end, host)
            self._fill()
        if change is not None or any(host.came for host in ready):
            self._telling.soon(self._telling.tell_state())

    def _ended(self, host: HostProcess) -> None:
        """A host is dead: say in which slot, replace it."""
        self._loop.remove_reader(host.pidfd)
        os.close(host.pidfd)
        host.untimed()
        self._hosts.remove(host)
        code = host.process.wait()
        if self._stopping.is_set():
            if not self._hosts:
                self._emptied.set()
            return
        if host.leaving and code == 0:
            self._telling.soon(self._say([]))
            return
        now, running = time.monotonic(), host.running()
        endpoint, version = next(iter(running)) if len(running) == 1 else ("", "")
        self._restarts.died(now, proven=not host.fresh and not version)
        if version:
            self._blamed[version] = self._blamed.get(version, 0) + 1
        detail = f"host {host.process.pid} ended with {code}"
        log.error("%s%s", detail, f" while {version} was running" if version else "")
        news = [HostNews(kind="crash", endpoint=endpoint, version=version, detail=detail)]
        if (out := self._breaker.died(now, self._suspects(host, running))) is not None:
            log.error("%s is taken out of traffic at %s: hosts die of it", out.version, out.endpoint)
            news.append(HostNews(kind="breaker", endpoint=out.endpoint, version=out.version, detail=detail))
            self._restarts.forgive()
            self._rerouted()
        self._fill()
        self._telling.soon(self._say(news))

    def _suspects(self, host: HostProcess, running: set[tuple[str, str]]) -> list[Suspect]:
        """What a host may have died of: what it ran, or what it was to load."""
        loading = host.identity and not host.late and (host.fresh or host.unanswered)
        return [
            Suspect(route.endpoint, slot.version, route.epoch)
            for route in self._breaker.applied(self._table).routes
            for slot in route.slots
            if slot.role != "shadow" and ((route.endpoint, slot.version) in running if running else loading)
        ]

    def _rerouted(self) -> None:
        """The breaker opened or closed: the hosts are told, and it is asked again when it is due."""
        self._telling.soon(self._send_all())
        self._retry_later()

    def _retry_later(self) -> None:
        if self._retrying is not None:
            self._retrying.cancel()
        at = self._breaker.next()
        self._retrying = None if at is None else self._loop.call_later(max(0.0, at - time.monotonic()), self._retry)

    def _retry(self) -> None:
        if self._breaker.due(time.monotonic()):
            self._rerouted()
            self._telling.soon(self._telling.tell_state())
        else:
            self._retry_later()

    async def _say(self, news: list[HostNews]) -> None:
        for each in news:
            await self._telling.tell(each)
        await self._telling.tell_state()
        await self._settle()

    async def _stop_hosts(self) -> None:
        """End the hosts: in peace, then not."""
        for timer in (self._filling, self._retrying):
            if timer is not None:
                timer.cancel()
        for host in self._hosts:
            host.process.terminate()
        if not self._hosts:
            return
        try:
            await asyncio.wait_for(self._emptied.wait(), STOP_WITHIN)
        except TimeoutError:
            for host in self._hosts:
                host.process.kill()
            await self._emptied.wait()


def main(argv: list[str] | None = None) -> int:
    """`python -m quarterdeckd.serving.launcher --home DIR`."""
    options = argparse.ArgumentParser(prog="quarterdeck-serving", description=__doc__)
    options.add_argument("--home", type=Path, required=True)
    options.add_argument("--http", default=None, metavar="HOST:PORT")
    options.add_argument("--grpc", default=None, metavar="HOST:PORT")
    options.add_argument("--hosts", default="1", metavar="MIN[:MAX]")
    given = options.parse_args(argv)
    os.umask(0o077)
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    home = Home(given.home)
    home.serving.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not held(home):
        print("error: serving: got a launcher that runs already, expected none", file=sys.stderr)
        return 5
    try:
        least, most = least_and_most(given.hosts)
        listener = listen(home, given.http)
        grpc = reserve(home, given.grpc) if given.grpc else None
    except Fault as fault:
        print(f"error: {fault.line()}", file=sys.stderr)
        return MEANINGS[type(fault)].exit
    except OSError as error:
        print(f"error: serving: got {error.strerror}, expected a folder that can be written", file=sys.stderr)
        return 2
    asyncio.run(_run(home, listener, Scaling(least, most), grpc))
    return 0


async def _run(home: Home, listener: socket.socket, scaling: Scaling, grpc: socket.socket | None) -> None:
    await Launcher(home, listener, scaling, grpc).run()


if __name__ == "__main__":
    sys.exit(main())
