"""Workers of a study: forked warm from its owner, each in a group of its own, used again for trial after trial, ended
with all they started when a trial takes too long."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from quarterdeckd.pipeline.forking import (
    LOOK_EVERY,
    Process,
    adopt_orphans,
    end_orphans,
    lead,
    memory_of,
    processes,
    stand_alone,
)
from quarterdeckd.pipeline.tuning.messages import LARGEST, Asked, Said, Task, encode, said
from quarterstore.records.spaces import Budget


class Worker:
    """One worker as its owner sees it: its process, our end of the sockets, what it does since when."""

    def __init__(self, pid: int, end: socket.socket) -> None:
        self.pid, self.end = pid, end
        self.ready = False
        self.task: Task | None = None
        self.since = time.monotonic()

    def give(self, words: Asked) -> None:
        """Say something to it; one that is gone is found out when it is listened to."""
        if isinstance(words, Task):
            self.task, self.since = words, time.monotonic()
        try:
            self.end.send(encode(words))
        except (BrokenPipeError, ConnectionResetError):
            return


class Lost:
    """What is heard of a worker that ended: the signal it died of, and whether we sent it for a reason."""

    def __init__(self, number: int, why: str | None) -> None:
        self.number, self.why = number, why

    def words(self) -> str:
        """For a person."""
        if self.why is not None:
            return self.why
        return f"its process was ended by {signal.Signals(self.number).name}" if self.number else "its process ended"


class Pool:
    """Keeps `count` workers, and says what they say."""

    def __init__(self, count: int, serve: Callable[[socket.socket], None], budget: Budget) -> None:
        self._serve, self._seconds, self._memory = serve, budget.trial_seconds, budget.trial_memory
        self._selector = selectors.DefaultSelector()
        self._workers: list[Worker] = []
        self._looked = 0.0
        adopt_orphans()
        for _ in range(count):
            self._fork()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *gone: object) -> None:
        for worker in list(self._workers):
            self._end(worker)

    def idle(self) -> list[Worker]:
        """Those that wait for a trial."""
        return [worker for worker in self._workers if worker.ready and worker.task is None]

    def busy(self) -> bool:
        """Whether a trial runs, or a worker is still being made ready."""
        return any(worker.task is not None or not worker.ready for worker in self._workers)

    def heard(self, within: float) -> Iterator[tuple[Worker, Said | Lost]]:
        """What workers said within so many seconds; those over a limit are ended, and others forked in their place."""
        for key, _ in self._selector.select(within):
            worker: Worker = key.data
            try:
                data = worker.end.recv(LARGEST)
            except ConnectionResetError:
                data = b""
            yield (worker, said(data)) if data else (worker, self._replaced(worker, None))
        if (now := time.monotonic()) - self._looked < LOOK_EVERY:
            return
        self._looked = now
        table = processes()
        for worker in list(self._workers):
            if (why := self._over(worker, table)) is not None:
                yield worker, self._replaced(worker, why)

    def _over(self, worker: Worker, table: dict[int, Process]) -> str | None:
        """Why a worker is to be ended: the time of its trial, or the memory of its process and all that it started."""
        if worker.task is not None and time.monotonic() - worker.since > self._seconds:
            return f"seconds: the trial ran longer than its limit of {self._seconds:g} s"
        if (memory := memory_of(worker.pid, table)) > self._memory:
            return f"memory: got {memory / 1e9:.2f} GB, expected at most {self._memory / 1e9:.2f} GB"
        return None

    def _replaced(self, worker: Worker, why: str | None) -> Lost:
        number = self._end(worker)
        self._fork()
        return Lost(number, why)

    def _end(self, worker: Worker) -> int:
        """End it with all that it started, also what left its group; the signal it died of."""
        self._selector.unregister(worker.end)
        self._workers.remove(worker)
        worker.end.close()
        _kill_group(worker.pid)
        _, status = os.waitpid(worker.pid, 0)
        end_orphans({each.pid for each in self._workers})
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def _fork(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        sys.stderr.flush()
        owner, pid = os.getpid(), os.fork()
        if pid == 0:
            _work(theirs, owner, self._serve)
        theirs.close()
        lead(pid)
        worker = Worker(pid, ours)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _work(end: socket.socket, owner: int, serve: Callable[[socket.socket], None]) -> NoReturn:
    """In the child: nothing of the owner but its memory; never returns into the owner's code."""
    code = 1
    try:
        stand_alone(owner)
        _let_go(end.fileno())
        serve(end)
        code = 0
    except ConnectionError:
        code = 0  # the owner is gone
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _let_go(kept: int) -> None:
    """Close the owner's files in the child: the job's lock above all, which would outlive the owner."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number != kept:
            try:
                os.close(number)
            except OSError:
                continue  # the one that listed them
