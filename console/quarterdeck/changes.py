"""Whether tracked files of a repository were written to since the last look, told by the kernel (inotify): a look costs
a microsecond, asking git costs two processes."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable

MOST = 4096
"""Folders that are watched at most: a user has a few thousand watches."""
NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
# inotify(7): attrib, modify, close after writing, moved from and to, created, deleted, the folder deleted or moved
MASK = 0x4 | 0x2 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
OVERFLOW, IGNORED = 0x4000, 0x8000
_event = struct.Struct("iIII")


class Changes:
    """Watches folders; `seen` tells whether something that counts happened in them since it was last asked."""

    def __init__(self, top: str, tracked: Iterable[str], whole: str) -> None:
        """Watches the folders of the `tracked` files below `top`, where only those files and their folders count, and
        one folder where everything does. `OSError` where the kernel cannot."""
        if not sys.platform.startswith("linux"):
            raise OSError("only Linux has inotify")
        names: dict[str, set[bytes]] = {"": set()}
        for path in tracked:
            folder, _, name = path.rpartition("/")
            while name and os.fsencode(name) not in names.setdefault(folder, set()):
                names[folder].add(os.fsencode(name))
                folder, _, name = folder.rpartition("/")
        if len(names) > MOST:
            raise OSError(f"{len(names)} folders are too many")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(NONBLOCK_CLOEXEC))
        self._names: dict[int, set[bytes] | None] = {}
        try:
            for folder, known in names.items():
                self._names[self._watched(os.path.join(top, folder))] = known
            self._names[self._watched(whole)] = None
        except OSError:
            self.close()
            raise

    def _watched(self, folder: str) -> int:
        return self._checked(self._libc.inotify_add_watch(self._fd, os.fsencode(folder), MASK))

    def _checked(self, answer: int) -> int:
        if answer < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return answer

    def seen(self) -> bool:
        """Whether something that counts happened."""
        found = False
        while True:
            try:
                data = os.read(self._fd, 65_536)
            except BlockingIOError:
                return found
            at = 0
            while at < len(data):
                watch, mask, _, length = _event.unpack_from(data, at)
                name = data[at + _event.size : at + _event.size + length].rstrip(b"\0")
                at += _event.size + length
                known = self._names.get(watch)
                found |= not name or known is None or name in known or bool(mask & (OVERFLOW | IGNORED))

    def close(self) -> None:
        """Watch no more."""
        os.close(self._fd)
