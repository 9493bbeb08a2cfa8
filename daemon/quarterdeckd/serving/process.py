"""One serving host as its launcher sees it: a process, the routes it was sent, what it acknowledged."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from asyncio import TimerHandle
from pathlib import Path

from quarterdeckd.serving import status
from quarterstore.records.deployments import HostState
from quarterstore.records.places import Home

log = logging.getLogger("quarterdeck.launcher")
LAGGARD = 0.1
"""Seconds a host has to swap to routes whose sessions it holds."""
GRACE = 1.0
"""The same while a large batch holds its loop: what runs there ends on the arm it began with."""
LOADING = 30.0
"""Seconds to load what it does not hold, and to come up at all."""


class HostProcess:
    """One host; `pidfd` becomes readable when it ends."""

    def __init__(self, process: subprocess.Popen[bytes], status_file: Path) -> None:
        self.process = process
        self.pidfd = os.pidfd_open(process.pid)
        self.status_file = status_file
        self.identity = b""
        self.epoch = -1
        self.fresh = True
        """It never had routes, so it answers nothing."""
        self.sent_tables = 0
        self.acknowledged_tables = 0
        """How many tables it was sent, and the number of the last one it acknowledged."""
        self.asked = time.monotonic()
        self.within = LOADING
        self.error = ""
        self.slots: dict[int, str] = {}
        """Endpoint and version of each slot it ever had, by its number."""
        self.late = False
        self.timer: TimerHandle | None = None
        self.started = time.time()

    @property
    def unanswered(self) -> bool:
        """Whether it has not acknowledged the last table."""
        return self.acknowledged_tables < self.sent_tables

    def sent(self, now: float) -> bytes:
        """It is sent a table; answers that one's number."""
        self.asked, self.error = now, ""
        self.within = LOADING if self.fresh else LAGGARD
        self.sent_tables += 1
        return str(self.sent_tables).encode()

    def acknowledged(self, number: int, epoch: int, error: str) -> None:
        """It serves by a table and so by none before it, or says what it lacks for it."""
        self.acknowledged_tables = number
        self.epoch, self.error, self.fresh = epoch, error, False

    def patience(self, now: float) -> float:
        """Seconds until it is late, not above zero when it is."""
        if self.within == LAGGARD and now - self.asked >= LAGGARD and self._busy():
            self.within = GRACE
        return self.asked + self.within - now

    def _busy(self) -> bool:
        try:
            return status.busy(self.status_file)
        except OSError:
            return False

    def blamed(self) -> tuple[str, str]:
        """Endpoint and version of the slot it died in, by the slots it had, not by those of a table that is still on
        its way to it; empty where it died by our hand, in none, or that cannot be read."""
        if self.late:
            return "", ""
        try:
            number = status.to_blame(self.status_file)
        except OSError as error:
            log.error("%s could not be read: %s", self.status_file.name, error.strerror)
            return "", ""
        endpoint, _, version = self.slots.get(number, "").partition("\n")
        return endpoint, version

    def state(self) -> HostState:
        """This host as a record."""
        return HostState(
            pid=self.process.pid,
            epoch=self.epoch,
            started=self.started,
            ready=not self.fresh and not self.error and not self.unanswered,
        )


def start(home: Home, listener: socket.socket, taken: set[Path], grpc: str) -> HostProcess:
    """Start a host on the launcher's listener, with a status file that no other one has, and gRPC at `grpc` if that is
    an address; raises `OSError`."""
    number = 0
    while (file := home.serving / f"status-{number}") in taken:
        number += 1
    status.fresh(file)
    os.set_inheritable(listener.fileno(), True)
    words = [str(home.root), str(listener.fileno()), str(file), home.serving_address, *([grpc] if grpc else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "quarterdeckd.serving.host", *words],
        pass_fds=(listener.fileno(),),
        stdin=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return HostProcess(process, file)
