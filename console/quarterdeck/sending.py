"""What the runs of one deck share to be sent: one connection, one thread, one word when no daemon answers."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from quarterdeck.spool import LATER
from quarterdeck.transport import Transport, unreachable
from quarterdeck.uploading import sent_file
from quarterstore.records.base import answer_type
from quarterstore.records.faults import Fault
from quarterstore.records.places import Home
from quarterstore.records.runs import Beat

EVERY = 0.05
"""Seconds between two rounds over the open runs."""
BEAT = 5.0
PATIENCE = 2.0
"""Seconds an answer may take before a run spools."""
AGAIN = 0.5
"""Seconds in which a daemon that did not answer is not asked again, but at the end of a run."""
LINGER = 2.0
"""Seconds that thread and connection outlive the last open run: a script opens the next one."""
_all: weakref.WeakSet[Sender] = weakref.WeakSet()


class OpenRun(Protocol):
    """A run as its sender sees it."""

    id: str
    stopping: float | None
    """Since when the last of it is to be sent."""
    over: threading.Event
    """Set once nothing more is sent for it."""
    spoke: float
    """When the daemon last answered something of it."""

    @property
    def at_it(self) -> bool:
        """Whether a thread is sending for it."""

    @property
    def carries(self) -> bool:
        """Whether a file is among what is sent next."""

    @property
    def silent(self) -> bool:
        """Whether the daemon knows it and has not heard of it for a while."""

    def send(self) -> None:
        """Send what there is."""


class Sender:
    """Sends for the open runs of one deck; every method may be called from any thread."""

    def __init__(self, home: Home, caller: str) -> None:
        self.home = home
        self.caller = caller
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._runs: dict[str, OpenRun] = {}
        self._guard = threading.Lock()
        """Of the open runs and the thread."""
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = False
        self._line = threading.Lock()
        """Of the connection: one question at a time."""
        self._transport: Transport | None = None
        self._failed = -AGAIN
        self._away = False

    # the connection

    def away_since(self, moment: float) -> bool:
        """Whether the daemon was found away after that moment."""
        return self._failed > moment

    @property
    def resting(self) -> bool:
        """Whether the daemon was found away so lately that it is not worth another try."""
        return self.away_since(time.monotonic() - AGAIN)

    def ask(self, message: Any, *, request: str | None = None, timeout: float | None = None) -> Any:
        """The answer to a message, or its fault raised."""
        with self._connected() as transport:
            return transport.ask(message, answer_type(type(message)), timeout or PATIENCE, request)

    def ask_all(self, asked: Sequence[tuple[str, Any]], settled: Callable[[Any, Fault | None], None]) -> None:
        """Ask several messages (request id, message) at once; `settled` is told of each, in order, with the fault that
        is its last word. A fault that passes is raised: all from there on may be asked again, under their ids."""
        with self._connected() as transport:
            for (_, message), fault in zip(asked, transport.ask_all(asked, PATIENCE), strict=True):
                if isinstance(fault, LATER):
                    raise fault
                settled(message, fault)

    @contextmanager
    def _connected(self) -> Iterator[Transport]:
        """The connection, for one at a time. `Unreachable` at once where the daemon was found away while this waited
        for its turn: many that wait do not wait one after the other."""
        began = time.monotonic()
        with self._line:
            if self.away_since(began):
                raise unreachable(self.home)
            try:
                if self._transport is None:
                    self._transport = Transport(self.home, self.caller)
                yield self._transport
            except LATER:
                self._drop()
                self._failed = time.monotonic()
                if not self._away:
                    self._away = True
                    print("quarterdeck: daemon not reachable, spooling", file=sys.stderr, flush=True)
                raise
            except Fault:
                self._away = False
                raise
            self._away = False

    def put(self, source: Path | str | bytes) -> tuple[str, int]:
        """Send a file in pieces, between which the others have their turn; its SHA-256 and size."""
        return sent_file(self.ask, source)

    def _drop(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    # the runs

    def open(self, run: OpenRun) -> None:
        """Send for a run from now on."""
        with self._guard:
            self._runs[run.id] = run
            self._closed = False
            self._start()

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name=f"quarterdeck {self.caller}", daemon=True)
            self._thread.start()

    def finish(self, run: OpenRun) -> None:
        """Have the last of a run sent, and wait until it is, or lies in the spool."""
        self._wake.set()
        while not run.over.wait(1.0):
            with self._guard:
                self._start()  # should an error have ended the thread

    def leave(self, run: OpenRun) -> None:
        """Send no more for a run."""
        with self._guard:
            self._runs.pop(run.id, None)

    def close(self) -> None:
        """Let go of thread and connection, once no run is open."""
        with self._guard:
            self._closed = True
            if self._runs:
                return
            thread = self._thread
        if thread is not None:
            self._wake.set()
            thread.join()
        with self._line:
            self._drop()

    # the thread

    def _work(self) -> None:
        due = used = time.monotonic()
        while True:
            self._wake.wait(max(0.0, due - time.monotonic()))
            self._wake.clear()
            all_ = time.monotonic() >= due
            for run in list(self._runs.values()):
                if all_ or run.stopping:
                    self._turn(run)
            if all_:
                self._beat()
                used = time.monotonic() if self._runs else used
                due = time.monotonic() + EVERY
            if self._idle(since=used):
                return

    def _turn(self, run: OpenRun) -> None:
        """Let a run send. One that has a file to send does so in a thread of its own: that may take minutes, and the
        others go on."""
        if run.at_it:
            return  # its turn comes again
        if run.carries:
            try:
                threading.Thread(target=run.send, daemon=True).start()
                return
            except RuntimeError:
                pass  # no threads are made any more while the interpreter ends
        run.send()

    def _beat(self) -> None:
        for run in list(self._runs.values()):
            if not run.silent or self.resting:
                continue
            try:
                self.ask(Beat(run=run.id))
                run.spoke = time.monotonic()
            except LATER:
                return
            except Fault as fault:
                run.spoke = time.monotonic()
                print(f"quarterdeck: {run.id}: {fault.line()}", file=sys.stderr)

    def _idle(self, since: float) -> bool:
        """Whether nobody needs the thread any more; the connection goes with it."""
        with self._guard:
            if self._runs or not (self._closed or time.monotonic() - since > LINGER):
                return False
            self._thread = None
        with self._line:
            self._drop()
        return True


def _after_fork() -> None:
    """In a forked child: the thread is not there, the connection is the parent's, locks may be held for ever."""
    for sender in list(_all):
        sender._reset()


os.register_at_fork(after_in_child=_after_fork)
