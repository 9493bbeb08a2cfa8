"""The shadow process: runs versions that answer nobody on copies of the requests, and records what they would say."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from quarterdeckd.serving.copies import read
from quarterdeckd.serving.features import said_of
from quarterdeckd.serving.recorder import SYNC_EVERY, Frame, Recorder
from quarterdeckd.serving.session import Loaded
from quarterdeckd.serving.status import LOOP, Status
from quarterdeckd.serving.tensors import Given, feed_of
from quarterstore.records.deployments import Route, RoutingTable
from quarterstore.records.faults import Fault
from quarterstore.records.places import Home
from quarterstore.records.wire import decode

log = logging.getLogger("quarterdeck.shadow")
WAITING = 64
"""Copies that may wait on this side."""
RUN_WITHIN = 30
"""Seconds a model has; one that hangs ends this process by SIGALRM, in which no caller waits."""


class Shadow:
    """One version on trial, and the route it stands under."""

    def __init__(self, number: int, route: Route) -> None:
        self.number = number
        self.route = route
        [self.slot] = [slot for slot in route.slots if slot.role == "shadow"]

    def load(self) -> None:
        """Load the file; raises a `Fault`."""
        self._loaded = Loaded(Path(self.slot.path), self.slot.digest, self.slot.signature)

    def frame(self, prediction: str, given: list[Given]) -> Frame:
        """What it would have answered, as it is recorded; an error is the shadow's own."""
        began = time.perf_counter()
        outputs: dict[str, Any] = {}
        error = None
        try:
            feed = feed_of(given, self._loaded, self.slot.signature)
            outputs = dict(zip(self._loaded.names, self._loaded.run(feed), strict=True))
            if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in outputs.values()):
                error, outputs = "the model's answer is not finite", {}
        except Fault as fault:
            error = f"the request does not fit its signature ({fault.line()[:200]})"
        except Exception as problem:
            log.warning("%s: %s", self.slot.version, " ".join(str(problem).split())[:300])
            error = "the model raised an error on this input"
        predicted, scores = said_of(self.slot.signature, outputs)
        milliseconds = (time.perf_counter() - began) * 1000
        about = (self.route.endpoint, self.slot.version, "shadow", self.route.epoch)
        return Frame(prediction, time.time(), *about, 500 if error else 200, milliseconds, {}, predicted, scores, error)


class Runner:
    """All shadows, one request after the other."""

    def __init__(self, home: Home, status: Status, table: RoutingTable) -> None:
        self._status = status
        self._recorder = Recorder(home.serving / "predictions", os.getpid())
        self._shadows: dict[str, Shadow] = {}
        for number, route in enumerate(table.routes, 1):
            # who dies while it loads is named as who dies while it runs
            status.mark(LOOP, number)
            shadow = self._shadows[route.endpoint] = Shadow(number, route)
            shadow.load()
            status.mark(LOOP, 0)

    def run(self, copies: Any) -> None:
        """Until killed: one copy after the other; sync what is recorded while anything is."""
        tended, open_ = time.monotonic(), False
        while True:
            if copies.poll(round(SYNC_EVERY * 1000) if open_ else None):
                self._one(copies.recv_multipart())
                open_ = True
            if open_ and time.monotonic() - tended >= SYNC_EVERY:
                tended, open_ = time.monotonic(), not self._tended()

    def _one(self, frames: list[bytes]) -> None:
        copy, given = read(frames)
        shadow = self._shadows.get(copy.endpoint)
        if shadow is None or copy.epoch != shadow.route.epoch:
            return
        self._status.mark(LOOP, shadow.number)
        signal.alarm(RUN_WITHIN)
        frame = shadow.frame(copy.prediction, given)
        signal.alarm(0)
        self._status.mark(LOOP, 0)
        self._recorder.write(frame)

    def _tended(self) -> bool:
        try:
            return self._recorder.tend()
        except OSError as error:
            log.error("what the shadow said could not be synced: %s", error.strerror)
            return False


def main(argv: list[str]) -> int:
    """`python -m quarterdeckd.serving.shadow HOME STATUS_FILE TABLE_FD`, started by the launcher with the routes that
    have a shadow; another table is another process."""
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
    if os.getppid() == 1:
        return 1
    os.nice(10)  # beside live traffic on few cores it is the shadow that waits
    home = Home(Path(argv[1]))
    status = Status(Path(argv[2]))
    with open(int(argv[3]), "rb") as file:
        table = decode(file.read(), RoutingTable)
    try:
        runner = Runner(home, status, table)
    except Fault as fault:
        log.error("%s", fault.line())
        logging.shutdown()
        os._exit(1)  # the status file still names who could not be loaded
    context: zmq.Context[Any] = zmq.Context()
    copies = context.socket(zmq.PULL)
    copies.setsockopt(zmq.LINGER, 0)
    copies.setsockopt(zmq.RCVHWM, WAITING)
    home.shadow_socket.unlink(missing_ok=True)
    os.umask(0o177)
    copies.bind(home.shadow_address)
    os.umask(0o077)
    runner.run(copies)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
