"""The newest entry that was posted, noted beside the projection: where that is lost, it still tells a journal that was
cut or damaged from one whose last entry was never finished."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from pathlib import Path

from quarterstore.ledger.journal import GENESIS, Head

log = logging.getLogger(__name__)
_anchor = struct.Struct("<Q32sI")


class Anchor:
    """A file of 44 bytes, written in place and never synced: it may be behind what is kept, never ahead of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Head:
        """The head that was noted; the beginning when there is none, or none that its checksum vouches for."""
        data = self.path.read_bytes() if self.path.exists() else b""
        if len(data) != _anchor.size:
            return Head(0, GENESIS)
        seq, hash_, checksum = _anchor.unpack(data)
        return Head(seq, hash_) if zlib.crc32(data[:-4]) == checksum else Head(0, GENESIS)

    def note(self, head: Head) -> None:
        """Note a head whose entry is synced. A disk that cannot take it costs this second look, nothing else."""
        data = struct.pack("<Q32s", head.seq, head.hash)
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(descriptor, data + struct.pack("<I", zlib.crc32(data)), 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("entry %d is not noted beside the projection: %s", head.seq, error.strerror)
