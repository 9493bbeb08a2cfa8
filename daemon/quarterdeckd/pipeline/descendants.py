"""What a process started and what that started, found also where it left its group: counted, measured, ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""


def adopt_orphans() -> None:
    """From now on what a descendant leaves behind becomes a child of this process, not of init, so that it is found.
    Where the kernel says no, what left its group is not found, and the group is."""
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Every process below one, itself not among them."""
    found: list[int] = []
    for child in _children(pid):
        found += [child, *descendants(child)]
    return found


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            yield from map(int, (task / "children").read_text().split())


def resident(pids: list[int]) -> int:
    """Bytes that processes have in memory, a page that they share counted for each of them."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def proportional(pids: list[int]) -> int:
    """Bytes of memory that processes hold, each shared page divided among those that share it."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += int(next(line for line in lines if line.startswith("Pss:")).split()[1]) * 1024
    return total


def held(pid: int, limit: int) -> int:
    """Bytes that a process and all it started hold; counted exactly only where the quick sum is over the limit."""
    pids = [pid, *descendants(pid)]
    quick = resident(pids)
    return quick if quick <= limit or len(pids) == 1 else proportional(pids)


def end(pid: int, seconds: float = 2.0) -> None:
    """End every process below one, also those that are started meanwhile; gives up after some seconds."""
    until = time.monotonic() + seconds
    while (found := [each for each in descendants(pid) if _lives(each)]) and time.monotonic() < until:
        for each in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def stored(folder: Path) -> int:
    """Bytes of the files below a folder as the disk holds them; what vanishes meanwhile is not counted."""
    total = 0
    folders = [str(folder)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total
