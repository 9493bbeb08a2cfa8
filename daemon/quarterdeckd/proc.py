"""What /proc says of a process: when it was born, and for which job it was started."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

JOB = "QD_JOB"
"""Names the job in the environment of its worker, which whatever the worker starts inherits, in any session."""
PASSES = 20
ENDS_WITHIN = 1000
"""Milliseconds that one process is waited for."""


def born(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat), None when it is gone or a
    zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def end_started_for(job: str) -> int:
    """End every process that was started for a job, and answer how many there were; again until none is found, since
    what is ended may just have started another."""
    mark, ended = f"{JOB}={job}".encode(), 0
    for _ in range(PASSES):
        found = sum(_ended(int(name), mark) for name in os.listdir("/proc") if name.isdigit())
        if not found:
            break
        ended += found
    return ended


def _ended(pid: int, mark: bytes) -> bool:
    """Held by a descriptor before it is looked at: a number that is given to another process meanwhile ends nobody."""
    try:
        held = os.pidfd_open(pid)
    except OSError:
        return False  # gone meanwhile
    try:
        if mark not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return False
        signal.pidfd_send_signal(held, signal.SIGKILL)
        over = select.poll()
        over.register(held, select.POLLIN)
        over.poll(ENDS_WITHIN)
    except OSError:
        return False  # gone meanwhile, or another user's
    finally:
        os.close(held)
    return True
