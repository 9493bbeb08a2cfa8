"""One serving host as its launcher sees it: a process, the routes it was sent, what it acknowledged."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from asyncio import TimerHandle
from pathlib import Path

from quarterdeckd.serving import status
from quarterdeckd.serving.load import Measured
from quarterstore.records.hosts import HostNews
from quarterstore.records.places import Home
from quarterstore.records.serving import HostState

log = logging.getLogger("quarterdeck.launcher")
LAGGARD = 0.1
"""Seconds a host has to swap to routes whose sessions it holds."""
GRACE = 1.0
"""The same while it is busy; a large batch that holds its loop ends on the arm it began with."""
FORMER = 1000
"""Slots that a host had before, of which it is still known whose they were."""
LEAVE = signal.SIGUSR1
SHARE = signal.SIGUSR2
LEFT_WITHIN = 15.0
"""Seconds that a host which was told to leave may take."""
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
        """Endpoint and version of each slot it had lately, by its number."""
        self.load = Measured(0.0, 0, 0, 0)
        self.came = 0
        """Requests in that second."""
        self._shed = 0
        self.leaving = False
        """It was told to end what it has begun and go."""
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

    def has(self, slots: dict[int, str]) -> None:
        """It holds these slots now. Those before are kept for what still runs on them, but not all: a bandit makes
        new ones whenever it weighs its arms."""
        self.slots.update(slots)
        former = sorted(self.slots.keys() - slots.keys())
        for number in former[:-FORMER]:
            del self.slots[number]

    def patience(self, now: float) -> float:
        """Seconds until it is late, not above zero when it is."""
        if self.within == LAGGARD and now - self.asked >= LAGGARD and self._busy():
            self.within = GRACE
        return self.asked + self.within - now

    def excused(self, seconds: float) -> None:
        """Whoever watches it stood still for so long, and it may have as well: that is not its lateness."""
        self.asked += seconds

    def _busy(self) -> bool:
        """Whether a model or a large body holds its loop, or its loop only waits for a processor: on a crowded machine
        that takes longer than a swap, and to kill it would break calls for nothing."""
        try:
            words = Path(f"/proc/{self.process.pid}/stat").read_text()
            return words.rpartition(")")[2].split()[0] == "R" or status.busy(self.status_file)
        except OSError:
            return False

    def running(self) -> set[tuple[str, str]]:
        """Endpoint and version of the slots it may have died in, by the slots it had, not by those of a table that is
        still on its way to it; empty where it died by our hand, in none, or that cannot be read."""
        if self.late:
            return set()
        try:
            numbers = status.suspected(self.status_file)
        except OSError as error:
            log.error("%s could not be read: %s", self.status_file.name, error.strerror)
            return set()
        found = (self.slots[number].partition("\n") for number in numbers if number in self.slots)
        return {(endpoint, version) for endpoint, _, version in found}

    def took(self, news: HostNews) -> None:
        """It said how much it had to do in the last second."""
        self.came = news.requests - self.load.requests
        self.load = Measured(news.busy, news.waiting, news.requests, news.shed)

    def shed_lately(self) -> int:
        """How many requests it turned away since this was asked last."""
        before, self._shed = self._shed, self.load.shed
        return self._shed - before

    def state(self) -> HostState:
        """This host as a record."""
        return HostState(
            pid=self.process.pid,
            epoch=self.epoch,
            started=self.started,
            ready=not self.leaving and not self.fresh and not self.error and not self.unanswered,
            requests=self.load.requests,
            shed=self.load.shed,
            busy=round(self.load.busy, 2),
            waiting=self.load.waiting,
            leaving=self.leaving,
        )

    def untimed(self) -> None:
        """Nobody waits any more for what it was to do in time."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def share(self) -> None:
        """Let it part with half of its connections, each after one more answer."""
        self.process.send_signal(SHARE)

    def leave(self) -> None:
        """Let it end what it has begun, answer its connections once more each, and go."""
        self.leaving = True
        self.process.send_signal(LEAVE)


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
