"""The spool: what a run said while no daemon answered, kept in order on disk until one does.

One file a process and run, `CALLER~RUN~NONCE.spool`: frames of length, CRC-32 and msgpack `[request id, tag, message]`.
A writer holds a lock on its file, so that another process delivers only what its owner left behind. Request ids and
batch ids go along: whatever is delivered twice counts once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from quarterstore.records.base import tag_of
from quarterstore.records.datasets import AddDataset
from quarterstore.records.faults import Fault, Full, TimedOut, Unreachable, got
from quarterstore.records.names import drawn
from quarterstore.records.packages import KeepPackages
from quarterstore.records.places import Home
from quarterstore.records.runs import EndRun, LogArtefact, LogInputs, LogMetrics, LogParams, SetTags, StartRun
from quarterstore.records.wire import encode

if TYPE_CHECKING:
    from quarterdeck.asking import Asker

SPOOLED: dict[str, type] = {
    tag_of(kind): kind
    for kind in (
        StartRun,
        EndRun,
        LogParams,
        SetTags,
        LogArtefact,
        LogMetrics,
        LogInputs,
        AddDataset,
        KeepPackages,
    )
}
WITH_FILE = (LogArtefact, AddDataset)
"""What names a file that is kept aside until it is sent."""
LATER: tuple[type[Fault], ...] = (Unreachable, TimedOut, Full)
"""Faults that pass: try again; any other one is the last word on a message."""

_frame = struct.Struct("<II")

Send = Callable[[Any, str], Any]
"""Asks a message under a request id; raises its fault."""


def folder(home: Home) -> Path:
    """Where spools lie; made when it is first needed."""
    place = home.root / "spool"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


class Spool:
    """The spool of one process and run; made on the first write, gone when all of it is delivered."""

    def __init__(self, home: Home, caller: str, run: str) -> None:
        self._home = home
        self._name = f"{caller}~{run}~{os.urandom(4).hex()}.spool"
        self._file: BinaryIO | None = None
        self._offset = 0
        self.carries = False
        """Whether a message that waits names a file."""

    @property
    def empty(self) -> bool:
        """Whether nothing waits for delivery."""
        return self._file is None

    def add(self, request: str, message: Any) -> None:
        """Keep one message, after all that are here; on disk (not synced) when this returns."""
        if self._file is None:
            self._file = (folder(self._home) / self._name).open("x+b", buffering=0)
            os.fchmod(self._file.fileno(), 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._offset = 0
        self.carries |= isinstance(message, WITH_FILE)
        payload = encode((request, tag_of(type(message)), message))
        self._file.seek(0, os.SEEK_END)
        self._file.write(_frame.pack(len(payload), zlib.crc32(payload)) + payload)

    def deliver(self, send: Send) -> None:
        """Send what waits, oldest first; stops, and raises, at a fault that passes."""
        if self._file is None:
            return
        for end, request, message in read(self._file, self._offset):
            settle(send, request, message)
            self._offset = end
        path = folder(self._home) / self._name
        path.unlink(missing_ok=True)
        self._file.close()
        self._file = None
        self.carries = False

    def leave(self) -> None:
        """Let go of the file, so that another process may deliver it."""
        if self._file is not None:
            self._file.close()
            self._file = None


def settle(send: Send, request: str, message: Any) -> None:
    """Send one message; a final refusal is said once and is over, a passing fault is raised."""
    try:
        send(message, request)
    except LATER:
        raise
    except Fault as fault:
        refused(message, fault)


def refused(message: Any, fault: Fault) -> None:
    """Say that the daemon refused a message for good."""
    print(f"quarterdeck: {tag_of(type(message))}: {drawn(' '.join(fault.line().split()))}", file=sys.stderr)


def read(file: BinaryIO, offset: int) -> Iterator[tuple[int, str, Any]]:
    """(offset after it, request id, message) of each whole frame; a frame cut off by a crash ends the file."""
    while True:
        file.seek(offset)
        head = file.read(_frame.size)
        if len(head) < _frame.size:
            return
        length, crc = _frame.unpack(head)
        payload = file.read(length)
        if len(payload) < length or zlib.crc32(payload) != crc:
            return
        request, tag, raw = msgspec.msgpack.decode(payload, type=tuple[str, str, msgspec.Raw])
        offset += _frame.size + length
        yield offset, request, msgspec.msgpack.decode(raw, type=SPOOLED[tag])


def left_behind(home: Home) -> bool:
    """Whether a process left a spool in this home; one `stat` where there never was one."""
    place = home.root / "spool"
    return place.is_dir() and any(place.glob("*.spool"))


def deliver_left(home: Home, sender: Callable[[str], tuple[Send, Callable[[], None]]]) -> None:
    """Deliver what ended processes left; `sender` gives a send and a close for a caller. Stops at a fault
    that passes."""
    for path in sorted(folder(home).glob("*.spool"), key=lambda each: each.name.split("~")[1:]):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its owner lives and delivers it
            if _parent_waits(home, file):
                continue  # a run cannot be opened before the one it is nested in
            try:
                send, close = sender(path.name.split("~")[0])
            except Fault:
                continue
            try:
                for _, request, message in read(file, 0):
                    settle(send, request, message)
                path.unlink(missing_ok=True)
            except LATER:
                return
            finally:
                close()


def _parent_waits(home: Home, file: BinaryIO) -> bool:
    """Whether the spool opens a run whose parent lies in a spool that is still here."""
    _, _, first = next(read(file, 0), (0, "", None))
    if not isinstance(first, StartRun) or first.parent is None:
        return False
    return any(path.name.split("~")[1] == first.parent for path in folder(home).glob("*.spool"))


def asked(client: Asker, message: Any, request: str) -> Any:
    """Ask one of a run's messages; a file it names is sent first, and is not kept aside any longer."""
    if not isinstance(message, WITH_FILE):
        return client.ask(message, request=request)
    kept = kept_file(client.home, message.digest)
    if kept.exists():
        client.put(kept)
    answer = client.ask(message, request=request)
    kept.unlink(missing_ok=True)
    return answer


def keep_file(home: Home, source: Path) -> tuple[str, int]:
    """Copy a file aside under its SHA-256, as it is now; answers hash and size."""
    if not source.is_file():
        raise got("path", str(source), "a file that can be read")
    aside = _aside(home)
    shutil.copyfile(source, aside)
    with aside.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = aside.stat().st_size
    aside.replace(kept_file(home, digest))
    return digest, size


def keep_bytes(home: Home, data: bytes) -> tuple[str, int]:
    """Keep bytes aside under their SHA-256; answers hash and size."""
    aside = _aside(home)
    aside.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    aside.replace(kept_file(home, digest))
    return digest, len(data)


def _aside(home: Home) -> Path:
    files = folder(home) / "files"
    files.mkdir(mode=0o700, exist_ok=True)
    return files / f".{os.getpid()}-{os.urandom(4).hex()}"


def kept_file(home: Home, digest: str) -> Path:
    """Where `keep_file` put the bytes of a hash."""
    return folder(home) / "files" / digest
