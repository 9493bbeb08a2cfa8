"""What the feed, the live run and the spool need of a client, so that they need not know how it connects."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from quarterstore.records.places import Home


class Asker(Protocol):
    """Somebody's connection to a daemon."""

    home: Home
    caller: str

    def ask(self, message: Any, *, request: str | None = None, timeout: float | None = None) -> Any:
        """The answer to a message, or its fault raised."""

    def put(self, source: Path | str | bytes) -> tuple[str, int]:
        """Send a file or bytes; its SHA-256 and size."""

    def close(self) -> None:
        """Let go of the connection."""
