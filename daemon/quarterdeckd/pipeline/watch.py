"""The second thread of a job's process: it shows that the process lives, ends it when told to, and keeps its limits."""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from quarterstore.records.jobs import JobResult, Limits
from quarterstore.shelf.files import write_whole

BEAT = 2.0
"""Seconds between two touches of the file `beat`; a stopped process stops touching it."""

RESERVED = 4 * 1024**3
"""Address space granted above the memory limit: without a GPU, VmPeak exceeds VmHWM by 1.1 GB with torch, scikit-learn,
polars and onnxruntime loaded (libraries, arenas, stacks); the rest is for more threads. What a process really holds
(VmRSS) is watched as well, against the limit itself."""


def beat_alone() -> None:
    """In a job's process that forks, which takes one thread: it beats by a timer, and SIGTERM ends it where it stands
    (`KeyboardInterrupt`, which a job's result calls cancelled). What it forks has neither
    (`forking.stand_alone`)."""

    def interrupted(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGALRM, lambda number, frame: Path("beat").touch())
    signal.setitimer(signal.ITIMER_REAL, 0.001, BEAT)


class Outcome:
    """The one result of a job: whoever settles it first has said it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._result: JobResult | None = None

    def settle(self, result: JobResult) -> JobResult:
        """Write `result.json` unless it was settled before; returns what holds. A failure leaves nothing half-made."""
        with self._lock:
            if self._result is None:
                if not result.ok:
                    shutil.rmtree(
                        self._folder / "out", ignore_errors=True
                    )  # nothing half-made is left to be taken for whole
                write_whole(self._folder / "result.json", msgspec.json.encode(result))
                self._result = result
            return self._result


def set_limits(limits: Limits) -> None:
    """What the kernel can hold a job to: address space, file size, no core.

    Address space is not limited where there is a GPU, because CUDA reserves tens of GB of it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_FSIZE, limits.disk)
    if not os.path.exists("/dev/nvidiactl"):
        _lower(resource.RLIMIT_AS, limits.memory + RESERVED)


def _lower(what: int, to: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (to if hard == resource.RLIM_INFINITY else min(to, hard), hard))


def held(pid: int | str = "self") -> int:
    """Bytes of memory this process, or a child of it, holds (resident pages)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


class Watch(threading.Thread):
    """Beats, and ends the process group on SIGTERM or when time or memory is used up, also while the main thread is
    inside a library call that no Python signal handler can interrupt."""

    def __init__(self, outcome: Outcome, limits: Limits) -> None:
        super().__init__(name="watch", daemon=True)
        self._outcome = outcome
        self._limits = limits
        self._until = time.monotonic() + limits.seconds
        self._bell, ringer = os.pipe()
        os.set_blocking(ringer, False)
        self._ringer = ringer
        signal.set_wakeup_fd(ringer, warn_on_full_buffer=False)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The Python half of SIGTERM, for code that took the wake-up descriptor for itself (an event loop)."""
        os.write(self._ringer, bytes([number]))

    def run(self) -> None:
        """Until the process ends."""
        beat = Path("beat")
        while True:
            try:
                beat.touch()
            except FileNotFoundError:
                self._leave(1)  # the home was taken away: there is nobody to say anything to
            ready, _, _ = select.select([self._bell], [], [], min(BEAT, max(0.0, self._until - time.monotonic())))
            if ready and signal.SIGTERM in os.read(self._bell, 64):
                self._end("cancelled")
            if time.monotonic() >= self._until:
                self._end(f"seconds: the job ran longer than its limit of {self._limits.seconds:g} s")
            if held() > self._limits.memory:
                self._end(f"memory: got {held() / 1e9:.2f} GB, expected at most {self._limits.memory / 1e9:.2f} GB")

    def _end(self, why: str) -> NoReturn:
        settled = self._outcome.settle(JobResult(ok=False, error=why))
        print(f"ended: {why}", flush=True)
        self._leave(0 if settled.ok else 1)

    def _leave(self, code: int) -> NoReturn:
        if os.getpgrp() == os.getpid():  # leader of its own group, as the supervisor starts it: take children along
            os.killpg(os.getpid(), signal.SIGTERM)  # to itself only a byte in the pipe
        os._exit(code)
