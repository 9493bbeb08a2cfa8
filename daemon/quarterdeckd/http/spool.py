"""Bodies that are too large for memory: written to a file and hashed as they come."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path


class Spool:
    """One body in a file of its own; whoever wants it takes the file away, or it goes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"body-{secrets.token_hex(12)}"
        self.size = 0
        self._hash = hashlib.sha256()
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)

    def write(self, data: bytes) -> None:
        """Take the next bytes; raises `OSError` where the disk does not."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._hash.update(data)
        self.size += len(data)

    def close(self) -> None:
        """No more bytes come."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def digest(self) -> str:
        """The SHA-256 of what came."""
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Leave no file behind, unless somebody took it."""
        self.close()
        self.path.unlink(missing_ok=True)
