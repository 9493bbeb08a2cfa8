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
        self.unanswered = 0
        """Tables it was sent and has not acknowledged; it does so in order."""
        self.asked = time.monotonic()
        self.within = LOADING
        self.error = ""
        self.slots: list[str] = []
        """Endpoint and version of each slot it acknowledged, by its number less one."""
        self.late = False
        self.timer: TimerHandle | None = None
        self.started = time.time()

    def sent(self, now: float) -> None:
        """It was sent a table."""
        self.asked, self.error = now, ""
        self.within = LOADING if self.fresh else LAGGARD
        self.unanswered += 1

    def acknowledged(self, epoch: int, error: str, slots: list[str]) -> None:
        """It serves by the oldest table that was unanswered, or says what it lacks for it."""
        self.unanswered -= 1
        self.epoch, self.error, self.slots, self.fresh = epoch, error, slots, False

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
        if not 0 < number <= len(self.slots):
            return "", ""
        endpoint, version = self.slots[number - 1].split("\n")
        return endpoint, version

    def state(self) -> HostState:
        """This host as a record."""
        return HostState(
            pid=self.process.pid,
            epoch=self.epoch,
            started=self.started,
            ready=not self.fresh and not self.error and not self.unanswered,
        )


def start(home: Home, listener: socket.socket, taken: set[Path]) -> HostProcess:
    """Start a host on the launcher's listener, with a status file that no other one has; raises `OSError`."""
    number = 0
    while (file := home.serving / f"status-{number}") in taken:
        number += 1
    status.fresh(file)
    os.set_inheritable(listener.fileno(), True)
    words = [str(home.root), str(listener.fileno()), str(file), home.serving_address]
    process = subprocess.Popen(
        [sys.executable, "-m", "quarterdeckd.serving.host", *words],
        pass_fds=(listener.fileno(),),
        stdin=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return HostProcess(process, file)
