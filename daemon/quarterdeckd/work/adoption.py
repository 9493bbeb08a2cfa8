"""Processes that outlive the daemon: known again by pid and start time, and by the lock their job's folder holds."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import time
from pathlib import Path

from quarterdeckd.proc import born, end_started_for

log = logging.getLogger(__name__)


def age(since: int) -> float:
    """Seconds since a process with this start time began; no jump of the wall clock changes it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - since / os.sysconf("SC_CLK_TCK")


def alive(pid: int | None, since: int | None) -> bool:
    """Whether that very process still runs: a pid that was given to another does not count."""
    return pid is not None and since is not None and born(pid) == since


def holder(folder: Path) -> int | None:
    """The pid of the worker that holds a job's folder, None when nobody does."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)


def claimer(folder: Path) -> int | None:
    """The pid of the worker that last held a job's folder, whether it lives or not."""
    path = folder / "lock"
    text = path.read_text(errors="replace").strip() if path.exists() else ""
    return int(text) if text.isdigit() else None


def end_group(pid: int, number: signal.Signals) -> None:
    """Signal a job's whole process group; one that is gone already is what was wanted."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def end_left(pid: int | None, since: int | None) -> None:
    """End what a job's process left behind in its group, and in the groups of its session: workers have one each, to be
    ended alone. A number that was given to another process meanwhile is
    another group, and is left alone."""
    if pid is None or pid <= 1 or ((found := born(pid)) is not None and found != since):
        return
    end_group(pid, signal.SIGKILL)
    for group in _groups_of_session(pid):
        end_group(group, signal.SIGKILL)


def _groups_of_session(session: int) -> set[int]:
    """The process groups of a session, by field 5 and 6 of each /proc/PID/stat."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        if int(fields[3]) == session:
            found.add(int(fields[2]))
    return found


def end_all(folder: Path, pid: int | None, since: int | None) -> None:
    """End everything of a job whose worker is over: what is left in its session, in the groups of its steps, and
    whatever these started in sessions of their own."""
    end_left(pid, since)
    end_groups(folder)
    if count := end_started_for(folder.name):
        log.warning("%s: %d processes that it had started were ended", folder.name, count)


def end_groups(folder: Path) -> None:
    """End the groups of the steps that a worker forked, as it noted them in its job's folder."""
    path = folder / "groups"
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        pid, _, since = line.partition(" ")
        if pid.isdigit() and since.isdigit():
            end_left(int(pid), int(since))


def ending_of(code: int | None) -> str:
    """How a process ended, from its return code: `ended with 0`, `was ended by SIGSEGV`; unknown of one that was
    adopted."""
    if code is None:
        return "ended"
    return f"ended with {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
