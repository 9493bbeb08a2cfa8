"""The journal: one entry an act, chained by hash, in segments written ahead of need; the commit point of the whole
store.

A segment is a file `00000001.journal`: a header (magic, first seq, the hash before it), then frames, then zeros. A
frame is a length (4 bytes, little-endian), a hash (32) and that many bytes of msgpack. hash = SHA-256(hash before,
payload): one checksum that also is the chain. Segments are extended by zeros in advance, because a sync that need not
change a file's length costs a third of one that must (0.12 against 0.37 ms here).
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from quarterstore.records.faults import Corrupt
from quarterstore.shelf.files import NO_ROOM, make_folder, sync_folder, write_all

MAGIC = b"QDJ1"
GENESIS = bytes(32)
SEGMENT = 16 * 1024 * 1024
AHEAD = 1024 * 1024
_header = struct.Struct("<4sQ32s20x")
_frame = struct.Struct("<I32s")
LARGEST = 64 * 1024 * 1024


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One act as it is kept: who, when, under which request id, what was asked, what came of it, what was answered.

    `body` is the first 16 bytes of the SHA-256 of the asked message: a request id used again with another body is
    refused.
    """

    seq: int
    at: float
    actor: str
    key: str
    request: str
    body: bytes
    act: str
    words: str
    message: msgspec.Raw
    events: msgspec.Raw
    answer: msgspec.Raw


class Head(NamedTuple):
    """The newest entry's number and hash."""

    seq: int
    hash: bytes


class Found(NamedTuple):
    """An entry with its hash and where it lies."""

    entry: Entry
    hash: bytes
    position: int


_decoder = msgspec.msgpack.Decoder(Entry)
_encoder = msgspec.msgpack.Encoder()


def chained(before: bytes, payload: bytes | memoryview) -> bytes:
    """The hash of an entry, given the one before: SHA-256 over both."""
    digest = hashlib.sha256(before)
    digest.update(payload)
    return digest.digest()


class Segment(NamedTuple):
    """A file of the journal and where it begins in the chain."""

    number: int
    path: Path
    first: int
    before: bytes


class Journal:
    """The open end of the journal: appends a group of entries and syncs them; not thread-safe, the writer owns it.

    Opening verifies the last segment only; `verify` reads everything. A torn end beyond `known` (the newest entry that
    the projection holds) is cut off and kept aside; anything else that does not fit raises `Corrupt`.
    """

    def __init__(self, folder: Path, known: Head | None = None) -> None:
        self.folder = folder
        make_folder(folder)
        self.recovered = ""
        segments = segments_of(folder)
        if not segments:
            self.head = Head(0, GENESIS)
            if known is not None and known.seq > 0:
                raise Corrupt(f"got an empty folder, expected {known.seq} entries", field="journal")
            self._create(1)
            return
        last = segments[-1]
        self._number = last.number
        end, head, torn = _scan_end(last)
        if known is not None and known.seq > head.seq:
            lost = known.seq - head.seq
            raise Corrupt(
                f"got entry {head.seq} as the last, expected {known.seq}: {lost} acknowledged changes missing",
                field="journal",
            )
        self.head = head
        self._file = os.open(last.path, os.O_RDWR)
        self._length = os.fstat(self._file).st_size
        self._end = end
        if torn:
            self._set_aside(last, end)

    def _create(self, number: int) -> None:
        path = self.folder / f"{number:08d}.journal"
        aside = path.with_suffix(".part")
        file = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        header = _header.pack(MAGIC, self.head.seq + 1, self.head.hash)
        try:
            write_all(file, header + bytes(AHEAD - len(header)))
            os.fsync(file)
        except OSError:
            os.close(file)
            aside.unlink()
            raise
        os.rename(aside, path)
        sync_folder(self.folder)
        self._file, self._number, self._end, self._length = file, number, _header.size, AHEAD

    def _set_aside(self, segment: Segment, end: int) -> None:
        size = self._length - end
        rest = os.pread(self._file, size, end).rstrip(b"\0")
        aside = self.folder / f"torn-{segment.number:08d}-{self.head.seq}.bin"
        aside.write_bytes(rest)
        os.pwrite(self._file, bytes(size), end)
        os.fsync(self._file)
        self.recovered = f"cut {len(rest)} bytes of an unfinished entry after {self.head.seq} (kept as {aside.name})"

    def append(self, entries: Sequence[Entry]) -> list[tuple[bytes, int]]:
        """Write a group and sync it once; each entry's hash and position. An `OSError` means: not acknowledged, and
        whether it is kept is only known after a restart; the caller must not go on."""
        chunks: list[bytes] = []
        placed: list[tuple[bytes, int]] = []
        before, offset = self.head.hash, self._end
        for entry in entries:
            payload = _encoder.encode(entry)
            before = chained(before, payload)
            placed.append((before, (self._number << 32) | offset))
            chunks.append(_frame.pack(len(payload), before))
            chunks.append(payload)
            offset += _frame.size + len(payload)
        self._reserve(offset)
        data = b"".join(chunks)
        written = os.pwrite(self._file, data, self._end)
        if written != len(data):
            raise OSError(28, f"only {written} of {len(data)} bytes were written")
        crash("journal.written")
        os.fdatasync(self._file)
        self._end = offset
        self.head = Head(entries[-1].seq, before)
        if self._end > SEGMENT:
            self.roll()
        return placed

    def _reserve(self, end: int) -> None:
        if end + _frame.size <= self._length:
            return
        grow = max(AHEAD, end + _frame.size - self._length)
        written = os.pwrite(self._file, bytes(grow), self._length)
        self._length += written
        if written != grow:
            raise OSError(28, "no room for the journal to grow")

    def can_grow(self, size: int) -> bool:
        """Whether `size` more bytes surely fit: reserved now if they are not yet; False when the disk is full."""
        try:
            self._reserve(self._end + size)
        except OSError:
            return False
        return True

    def roll(self) -> None:
        """Begin the next segment and close this one; without room for another this one grows on, and the next append
        tries again."""
        full, end = self._file, self._end
        try:
            self._create(self._number + 1)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            return
        os.ftruncate(full, end)
        os.fsync(full)
        os.close(full)

    def close(self) -> None:
        """Close the file; nothing is pending, every append was synced."""
        os.close(self._file)


CRASH_AT = os.environ.get("QD_CRASH_AT", "")


def crash(point: str) -> None:
    """Leave at once, as kill -9 would, at a point the fault tests name in `QD_CRASH_AT` (`point` or `point:N`, the Nth
    time)."""
    if CRASH_AT and CRASH_AT.partition(":")[0] == point:
        _countdown[point] = _countdown.get(point, int(CRASH_AT.partition(":")[2] or 1)) - 1
        if _countdown[point] == 0:
            os._exit(137)


_countdown: dict[str, int] = {}


def segments_of(folder: Path) -> list[Segment]:
    """The segments of a journal in order; `Corrupt` for a gap in their numbers or a header that is none."""
    found: list[Segment] = []
    for path in sorted(folder.glob("*.journal")):
        with path.open("rb") as file:
            raw = file.read(_header.size)
        if len(raw) < _header.size or raw[:4] != MAGIC:
            raise Corrupt(f"got {raw[:4]!r} at the start of {path.name}, expected {MAGIC!r}", field="journal")
        _, first, before = _header.unpack(raw)
        found.append(Segment(int(path.stem), path, first, before))
        if len(found) > 1 and found[-1].number != found[-2].number + 1:
            raise Corrupt(
                f"got segment {found[-1].number} after {found[-2].number}, expected none missing", field="journal"
            )
    return found


def _frames(segment: Segment) -> Iterator[tuple[int, bytes, memoryview]]:
    """Offset, stored hash and payload of each frame, until the zeros; raises `Corrupt` where a frame is cut."""
    data = memoryview(segment.path.read_bytes())
    offset = _header.size
    while offset + _frame.size <= len(data):
        length, stored = _frame.unpack_from(data, offset)
        if length == 0:
            break
        end = offset + _frame.size + length
        if length > LARGEST or end > len(data):
            raise Corrupt(
                f"got a frame of {length} bytes at {offset} of {segment.path.name}, expected it to end in the file",
                field="journal",
            )
        yield offset, stored, data[offset + _frame.size : end]
        offset = end
    if bytes(data[offset:]).strip(b"\0"):
        raise Corrupt(f"got bytes after the end at {offset} of {segment.path.name}, expected zeros", field="journal")


def _scan_end(segment: Segment) -> tuple[int, Head, bool]:
    """Where the last segment ends, its head, and whether an unfinished entry lies behind it."""
    head = Head(segment.first - 1, segment.before)
    end = _header.size
    try:
        for offset, stored, payload in _frames(segment):
            if chained(head.hash, payload) != stored:
                return end, head, True
            head = Head(head.seq + 1, stored)
            end = offset + _frame.size + len(payload)
    except Corrupt:
        return end, head, True
    return end, head, False


def newest(folder: Path) -> Head:
    """The last whole entry of a journal that nobody has open; the beginning where there is none."""
    segments = segments_of(folder)
    return _scan_end(segments[-1])[1] if segments else Head(0, GENESIS)


def read(folder: Path, after: int = 0, until: int | None = None) -> Iterator[Found]:
    """Every entry beyond `after`, verified on the way; raises `Corrupt` at the first that does not fit. Nothing behind
    entry `until` is looked at: while a daemon writes, half an entry may be there."""
    segments = segments_of(folder)
    for index, segment in enumerate(segments):
        following = segments[index + 1] if index + 1 < len(segments) else None
        if following is not None and following.first <= after + 1:
            continue
        if until is not None and segment.first > until:
            return
        seq, before = segment.first - 1, segment.before
        for offset, stored, payload in _frames(segment):
            expected = chained(before, payload)
            if expected != stored:
                raise Corrupt(
                    f"entry {seq + 1}: got hash {stored.hex()[:16]}, expected {expected.hex()[:16]}", field="journal"
                )
            entry = _decoder.decode(payload)
            if entry.seq != seq + 1:
                raise Corrupt(f"entry {seq + 1}: got number {entry.seq}", field="journal")
            seq, before = entry.seq, stored
            if seq > after:
                yield Found(entry, stored, (segment.number << 32) | offset)
            if seq == until:
                return
        if following is not None and (following.first, following.before) != (seq + 1, before):
            raise Corrupt(f"entry {seq + 1}: got a segment that does not continue {segment.path.name}", field="journal")


def read_at(folder: Path, position: int, before: bytes | None = None) -> Entry:
    """One entry by its position, checked when the hash of the entry before it is given; `Corrupt` when its bytes are
    not those that were written."""
    path = folder / f"{position >> 32:08d}.journal"
    offset = position & 0xFFFFFFFF
    with path.open("rb") as file:
        file.seek(offset)
        head = file.read(_frame.size)
        length, stored = _frame.unpack(head) if len(head) == _frame.size else (0, b"")
        payload = file.read(length) if 0 < length <= LARGEST else b""
    found = chained(before, payload) if before is not None else stored
    if not payload or len(payload) < length or found != stored:
        raise Corrupt(
            f"{path.name} at {offset}: got {found.hex()[:16] or 'nothing'}, expected {stored.hex()[:16] or 'an entry'}",
            field="journal",
        )
    return _decoder.decode(payload)


def end_of(folder: Path, position: int) -> tuple[int, int]:
    """The segment of an entry and where the entry ends in it; (1, header) before the first one."""
    if position == 0:
        return 1, _header.size
    number, offset = position >> 32, position & 0xFFFFFFFF
    with (folder / f"{number:08d}.journal").open("rb") as file:
        file.seek(offset)
        length, _ = _frame.unpack(file.read(_frame.size))
    return number, offset + _frame.size + length


class Verdict(NamedTuple):
    """What reading the whole journal found."""

    entries: int
    head: Head
    first_bad: int | None
    why: str


def verify(folder: Path, anchor: Head | None = None, until: int | None = None) -> Verdict:
    """Read the journal from its first byte, that of a daemon which writes until the entry that is certain. With an
    `anchor` kept outside the store, a tail that was cut, or a chain that was recomputed from some entry on, is found
    too (RFC 6962's consistency check, by keeping the whole log)."""
    head = Head(0, GENESIS)
    try:
        for found in read(folder, 0, until):
            head = Head(found.entry.seq, found.hash)
            if anchor is not None and head.seq == anchor.seq and head.hash != anchor.hash:
                return Verdict(head.seq, head, head.seq, "this entry is not the one whose hash was kept outside")
    except Corrupt as fault:
        return Verdict(head.seq, head, head.seq + 1, fault.message)
    if anchor is not None and anchor.seq > head.seq:
        return Verdict(
            head.seq, head, head.seq + 1, f"the journal ends here, the head kept outside is entry {anchor.seq}"
        )
    return Verdict(head.seq, head, None, "")
