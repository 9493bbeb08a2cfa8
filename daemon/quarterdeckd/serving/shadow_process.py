"""The shadow process as its launcher sees it: started with the routes that have a shadow, ended with them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from quarterdeckd.serving import status
from quarterdeckd.serving.recorder import adopt_segments
from quarterdeckd.serving.restarts import Restarts
from quarterstore.records.deployments import Route, RoutingTable
from quarterstore.records.hosts import HostNews
from quarterstore.records.places import Home
from quarterstore.records.wire import encode

log = logging.getLogger("quarterdeck.launcher")
AGAIN = 1.0
"""Seconds until it is tried again where it could not be started."""


class ShadowProcess:
    """At most one process beside the hosts. It is told its routes once: others are another process, whose start loses
    copies and no answer. `tell` is told of a death inside a version, which takes that shadow away for good."""

    def __init__(self, home: Home, tell: Callable[[HostNews], None]) -> None:
        self._home = home
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._file = home.serving / "status-shadow"
        self._routes: tuple[Route, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._restarts = Restarts()
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, table: RoutingTable) -> None:
        """Run the shadows of a table, or none."""
        routes = tuple(route for route in table.routes if any(slot.role == "shadow" for slot in route.slots))
        if routes != self._routes:
            self.end()
            self._routes = routes
            self._start()

    def end(self) -> None:
        """End it at once: nobody waits for what it does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._routes = ()
        if self._process is not None:
            self._process.kill()
            self._reap()

    def _start(self) -> None:
        self._timer = None
        if not self._routes:
            return
        table = os.memfd_create("shadows")
        try:
            with os.fdopen(os.dup(table), "wb") as file:
                file.write(encode(RoutingTable(epoch=0, routes=self._routes)))
            os.lseek(table, 0, os.SEEK_SET)
            status.fresh(self._file)
            words = [str(self._home.root), str(self._file), str(table)]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "quarterdeckd.serving.shadow", *words],
                pass_fds=(table,),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            log.error("the shadow could not be started: %s", error.strerror)
            self._timer = self._loop.call_later(AGAIN, self._start)
            return
        finally:
            os.close(table)
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._died)

    def _died(self) -> None:
        """Not by our hand: say in which version, and start another; one that died in none (killed from outside) too."""
        number = self._blamed()
        code = self._reap()
        self._restarts.died(time.monotonic(), proven=False)
        detail = "gave no answer in time" if code == -signal.SIGALRM else f"the shadow process ended with {code}"
        log.error("shadow: %s", detail)
        if 0 < number <= len(self._routes):
            route = self._routes[number - 1]
            [slot] = [slot for slot in route.slots if slot.role == "shadow"]
            self._tell(HostNews(kind="crash", endpoint=route.endpoint, version=slot.version, detail=detail))
            self._routes = tuple(each for each in self._routes if each is not route)
        self._timer = self._loop.call_later(self._restarts.pause(time.monotonic()), self._start)

    def _blamed(self) -> int:
        try:
            return status.to_blame(self._file)
        except OSError as error:
            log.error("%s could not be read: %s", self._file.name, error.strerror)
            return 0

    def _reap(self) -> int:
        assert self._process is not None
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = self._process.wait()
        self._process = None
        adopt_segments(self._home.serving / "predictions")
        return code
