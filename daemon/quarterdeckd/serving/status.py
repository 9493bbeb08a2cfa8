"""What each thread of a host is running, in a file that can still be read when the host is dead."""

from __future__ import annotations

import faulthandler
import mmap
import re
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ENTRIES = 64
LOOP = 0
"""The entry of the thread that answers the sockets."""
BUSY = 0xFFFFFFFF
"""Instead of a slot's number: a large body is read or written, which holds the interpreter and so the loop."""
_entry = struct.Struct("<QI4x")


class Running(NamedTuple):
    """A thread, by its `threading.get_ident()`, and the number of the slot it runs (or `BUSY`)."""

    entry: int
    thread: int
    number: int


class Status:
    """A host's own side: one entry a running thread. Who crashes is named by it."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), ENTRIES * _entry.size)
        self._free = deque(range(1, ENTRIES))
        # the thread that a fatal signal hits, by its ident: several may be running at that moment
        self._faults = _faults(path).open("w")
        faulthandler.enable(self._faults)

    def mark(self, entry: int, number: int) -> None:
        """From here on this thread runs slot `number`; 0 for none."""
        _entry.pack_into(self._map, entry * _entry.size, threading.get_ident(), number)

    @contextmanager
    def entry(self) -> Iterator[int]:
        """An entry for a thread beside the loop; the last one is shared where all are taken."""
        try:
            number = self._free.popleft()
        except IndexError:
            yield ENTRIES - 1
            return
        try:
            yield number
        finally:
            self.mark(number, 0)
            self._free.append(number)


def fresh(path: Path) -> None:
    """An empty status file for a host that is about to start."""
    path.write_bytes(bytes(ENTRIES * _entry.size))
    _faults(path).unlink(missing_ok=True)


def running(path: Path) -> list[Running]:
    """What was being run when last looked at."""
    data = path.read_bytes()
    found = [
        Running(index, *_entry.unpack_from(data, index * _entry.size)) for index in range(len(data) // _entry.size)
    ]
    return [each for each in found if each.number]


def busy(path: Path) -> bool:
    """Whether the loop is held by a model or a large body at this moment."""
    return any(each.entry == LOOP or each.number == BUSY for each in running(path))


def to_blame(path: Path) -> int:
    """The number of the slot that a dead host surely died of; 0 where none ran or it cannot be told."""
    numbers = suspected(path)
    return numbers.pop() if len(numbers) == 1 else 0


def suspected(path: Path) -> set[int]:
    """The numbers of the slots a dead host may have died of: that of the thread a fatal signal hit where one did, else
    all that ran."""
    slots = [each for each in running(path) if each.number != BUSY]
    try:
        hit = re.search(r"Current thread 0x([0-9a-f]+)", _faults(path).read_text())
    except FileNotFoundError:
        hit = None
    if hit is not None:
        return {each.number for each in slots if each.thread == int(hit[1], 16)}
    return {each.number for each in slots}


def _faults(path: Path) -> Path:
    return path.with_name(f"{path.name}.fault")
