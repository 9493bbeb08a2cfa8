"""The keys that a stream has answered, in two files: at least the newest `window` of them, at most twice as many."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

SIZE = 16
"""Bytes kept of each key: two keys of a billion share them with a chance of 1e-21."""


def digest_of(key: bytes) -> bytes:
    """BLAKE2b of a key, 16 bytes (RFC 7693)."""
    return hashlib.blake2b(key, digest_size=SIZE).digest()


class Seen:
    """Written with one write(2) a key, so `kill -9` loses none; synced now and then. What is lost with the power is
    answered twice at worst."""

    def __init__(self, folder: Path, window: int) -> None:
        self._window = window
        self._newer, self._older = folder / "keys", folder / "keys.before"
        self._old = _read(self._older)
        self._new = _read(self._newer)
        self._file = self._open()

    def _open(self) -> int:
        file = os.open(self._newer, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(file, os.fstat(file).st_size // SIZE * SIZE)
        return file

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._new or digest in self._old

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def add(self, digest: bytes) -> None:
        """Remember one; raises `OSError` where the disk does not take it, and remembers it in memory all the same."""
        self._new.add(digest)
        if os.write(self._file, digest) != SIZE:
            os.ftruncate(self._file, os.fstat(self._file).st_size // SIZE * SIZE)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if len(self._new) >= self._window:
            os.replace(self._newer, self._older)
            self._old, self._new = self._new, set()
            former, self._file = self._file, self._open()
            os.close(former)  # last: where no other can be opened, it is written on, and its number is nobody else's

    def sync(self) -> None:
        """Bring to the disk what was written; takes as long as the disk does."""
        os.fdatasync(self._file)


def _read(path: Path) -> set[bytes]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return set()
    return {data[at : at + SIZE] for at in range(0, len(data) - SIZE + 1, SIZE)}
