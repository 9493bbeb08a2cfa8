"""A file on its way to the daemon, piece by piece, under its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from quarterstore.records.faults import got
from quarterstore.records.store import PutBlob, Received
from quarterstore.records.wire import CHUNK


def sent_file(ask: Callable[[PutBlob], Received], source: Path | str | bytes) -> tuple[str, int]:
    """Send a file or bytes in pieces by `ask`; answers its SHA-256 and size once the daemon keeps it."""
    if isinstance(source, bytes):
        return _sent(ask, iter([source]), hashlib.sha256(source).hexdigest(), len(source))
    path = Path(source)
    if not path.is_file():
        raise got("file", str(path), "a file that can be read")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _sent(ask, _chunks(path), digest, path.stat().st_size)


def _sent(ask: Callable[[PutBlob], Received], chunks: Iterator[bytes], digest: str, size: int) -> tuple[str, int]:
    offset = 0
    received: Received | None = None
    pending = next(chunks, b"")
    while received is None or received.digest is None:
        part, pending = pending[:CHUNK], pending[CHUNK:] or next(chunks, b"")
        last = not pending
        received = ask(PutBlob(upload=digest, offset=offset, data=part, digest=digest if last else None))
        offset += len(part)
    return digest, size


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
