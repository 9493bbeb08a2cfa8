"""One step as a process of its own, forked from the worker: its own group, its own folder and log, its own limits."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from quarterdeckd.pipeline.explaining import logged
from quarterdeckd.pipeline.step import At, Told
from quarterdeckd.pipeline.watch import set_limits
from quarterstore.records.base import Record
from quarterstore.records.faults import Fault
from quarterstore.records.jobs import Limits
from quarterstore.shelf.files import open_inside, write_whole

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LOOK_EVERY = 0.25
"""Seconds between two looks at what a step uses."""
STUCK = 15.0
"""Seconds for which a step may be stopped before it counts as lost."""
LONGEST_ANSWER = 4 << 20
"""Bytes of what a step says of itself."""
GRACE = 3.0
"""Seconds between asking a step to end and ending it."""


class Answer(Record, frozen=True):
    """`answer.json` in a step's folder, its last word."""

    ok: bool
    words: str
    figures: dict[str, Any] = {}


def born(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None


def adopt_orphans() -> None:
    """What a step leaves without a parent becomes ours, so that it can be found and ended."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Forked:
    """A running step as its worker sees it."""

    def __init__(self, pid: int, folder: Path, checkpoint: Path, limits: Limits) -> None:
        self.pid = pid
        self.folder = folder
        self.checkpoint = checkpoint
        self.limits = limits
        self.began = time.monotonic()
        self.descriptor = os.pidfd_open(pid)
        self.ended_for: str | None = None
        """Why the worker ended it, when it did."""
        self.asked_to_end: float | None = None
        self.preempted = False
        self._stopped: float | None = None
        self._looked = 0.0

    def look(self, table: Callable[[], dict[int, Process]]) -> None:
        """End the whole group when a limit is passed, or after a grace when it was asked to end; `table` reads the
        processes of the machine."""
        now = time.monotonic()
        if self.ended_for is not None:
            return
        if self.asked_to_end is not None and now - self.asked_to_end > GRACE:
            self._signal(signal.SIGKILL)
        if now - self.began > self.limits.seconds:
            self.end(f"seconds: the step ran longer than its limit of {self.limits.seconds:g} s")
        elif now - self._looked > LOOK_EVERY:
            self._looked = now
            self._measure(now, table())

    def ask_to_end(self) -> None:
        """SIGTERM to the whole group; `look` ends it after the grace."""
        self.asked_to_end = time.monotonic()
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def end(self, why: str) -> None:
        """End the whole group now, for a reason; an empty one is that nobody knows."""
        self.ended_for = why
        self._signal(signal.SIGKILL)

    def reap(self) -> tuple[Answer | None, str]:
        """The answer of a step that is over (None where it left none), and how its process ended; what it left in its
        group is ended."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.descriptor)
        self._signal(signal.SIGKILL)
        code = os.waitstatus_to_exitcode(status)
        how = f"ended with {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
        try:
            with open_inside(self.folder, "answer.json") as file:
                return msgspec.json.decode(file.read(LONGEST_ANSWER + 1), type=Answer), how
        except FileNotFoundError:
            return None, how
        except (msgspec.DecodeError, OSError):
            return None, f"{how} and left an answer that is none"

    def _measure(self, now: float, processes: dict[int, Process]) -> None:
        memory = memory_of(self.pid, processes)
        if memory > self.limits.memory:
            self.end(f"memory: got {memory / 1e9:.3g} GB, expected at most {self.limits.memory / 1e9:.3g} GB")
            return
        disk = _size(self.folder) + _size(self.checkpoint)
        if disk > self.limits.disk:
            self.end(f"disk: got {disk / 1e9:.3g} GB written, expected at most {self.limits.disk / 1e9:.3g} GB")
            return
        own = processes.get(self.pid)
        self._stopped = (self._stopped or now) if own is not None and own.state == "T" else None
        if self._stopped is not None and now - self._stopped > STUCK:
            self.end("")

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return


class Process(msgspec.Struct, frozen=True):
    """A line of the process table: state, parent, group, resident bytes."""

    state: str
    parent: int
    group: int
    memory: int


def processes() -> dict[int, Process]:
    """The processes of the machine, from /proc."""
    found: dict[int, Process] = {}
    page = resource.getpagesize()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue  # ended while we looked
        found[int(name)] = Process(fields[0], int(fields[1]), int(fields[2]), int(fields[21]) * page)
    return found


def end_orphans(running: set[int]) -> None:
    """End and reap what steps that are over left behind outside of their group, and whatever that started. What lost
    its parent in the group of a step that runs is that step's."""
    table = processes()
    for pid, process in table.items():
        if process.parent == os.getpid() and pid not in running and process.group not in running:
            for each in _members(pid, table):
                _kill(each)
            os.waitpid(pid, 0)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _members(leader: int, table: dict[int, Process]) -> set[int]:
    """A step's process, its group and whatever they started, in any group."""
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found: set[int] = set()
    waiting = [pid for pid, process in table.items() if pid == leader or process.group == leader]
    while waiting:
        found.add(pid := waiting.pop())
        waiting.extend(each for each in children.get(pid, ()) if each not in found)
    return found


def memory_of(leader: int, table: dict[int, Process]) -> int:
    """Resident bytes of a process, its group and whatever they started."""
    return sum(table[pid].memory for pid in _members(leader, table))


def _size(folder: Path) -> int:
    """Bytes on the disk below a folder, links not followed."""
    total, waiting = 0, [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue  # gone while we looked
    return total


def fork(do: Callable[[At], Told], at: At, folder: Path, limits: Limits) -> Forked:
    """Begin a step in a fork of this process, which must have one thread."""
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()
    worker = os.getpid()
    pid = os.fork()
    if pid == 0:
        _child(do, at, folder, limits, worker)
    lead(pid)
    return Forked(pid, folder, at.checkpoint, limits)


def lead(pid: int) -> None:
    """Put a child at the head of a group of its own; it does so too: whoever is first, the group is there at once."""
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(pid, pid)


def stand_alone(worker: int) -> None:
    """In the child of a fork: a group of its own, an end when the worker ends, none of its signal handling."""
    os.setpgid(0, 0)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    if os.getppid() != worker:
        os._exit(1)


def _child(do: Callable[[At], Told], at: At, folder: Path, limits: Limits, worker: int) -> NoReturn:
    """The step's process, from the fork to its end; nothing of it goes on up into the worker's code."""
    code = 1
    try:
        stand_alone(worker)
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(folder / "work")
        set_limits(limits)
        code = _done(do, at, folder, limits)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _done(do: Callable[[At], Told], at: At, folder: Path, limits: Limits) -> int:
    try:
        told = do(at)
        answer = Answer(True, told.words, msgspec.to_builtins(told.figures))
    except BaseException as error:  # whatever user code raises is the step's answer
        words = logged(error)
        if _too_large(error):
            words = f"disk: got a file of more, expected at most {limits.disk / 1e9:.3g} GB written ({words})"
        answer = Answer(False, words, error.figures if isinstance(error, Fault) else {})
    data = msgspec.json.encode(answer)
    if len(data) > LONGEST_ANSWER:
        words = f"figures: got {len(data):,} bytes, expected at most {LONGEST_ANSWER:,}"
        answer = Answer(False, words)
        data = msgspec.json.encode(answer)
    write_whole(folder / "answer.json", data)
    return 0 if answer.ok else 1


def _too_large(error: BaseException | None) -> bool:
    """Whether it comes of the kernel's limit for a file, which is met before the worker measures the folder."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            return True
        error = error.__cause__
    return False
