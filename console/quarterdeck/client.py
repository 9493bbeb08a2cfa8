"""The client of scripts: `ask(message)` gives its typed answer; files go in and out by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar, overload

from quarterdeck.keys import own_name
from quarterdeck.transport import Transport
from quarterdeck.uploading import sent_file
from quarterstore.records.base import Act, Blob, Pulse, Query, Sample, answer_type
from quarterstore.records.faults import Corrupt
from quarterstore.records.places import Home, default_home
from quarterstore.records.store import Chunk, GetBlob, ShowStatus, Status
from quarterstore.records.wire import Published

if TYPE_CHECKING:
    from quarterdeck.live_run import LiveRun
    from quarterdeck.sending import Sender

T = TypeVar("T")


class Client:
    """One caller's connection to one daemon."""

    def __init__(self, home: Home, caller: str = "owner", timeout: float = 30.0, *, spooled: bool = True) -> None:
        """Connects with the first question, so that a run can be opened with no daemon there; what ended processes
        spooled goes first unless `spooled` is false."""
        self.home = home
        self.caller = caller
        self.timeout = timeout
        self._spooled = spooled
        self._transport: Transport | None = None
        self._sender: Sender | None = None
        self._making = Lock()

    @property
    def transport(self) -> Transport:
        """The connection; `Unreachable` when no daemon runs there."""
        if self._transport is None:
            self._transport = Transport(self.home, self.caller)
            if self._spooled:
                self._deliver()
        return self._transport

    def _deliver(self) -> None:
        if not (self.home.root / "spool").is_dir():
            return
        from quarterdeck import spool

        def sender(caller: str) -> tuple[spool.Send, Callable[[], None]]:
            client = Client(self.home, caller, self.timeout, spooled=False)
            return (lambda message, request: spool.asked(client, message, request)), client.close

        if spool.left_behind(self.home):
            spool.deliver_left(self.home, sender)

    @overload
    def ask(self, message: Act[T], *, request: str | None = ..., timeout: float | None = ...) -> T: ...
    @overload
    def ask(self, message: Query[T], *, request: str | None = ..., timeout: float | None = ...) -> T: ...
    @overload
    def ask(self, message: Sample[T], *, request: str | None = ..., timeout: float | None = ...) -> T: ...
    @overload
    def ask(self, message: Blob[T], *, request: str | None = ..., timeout: float | None = ...) -> T: ...
    def ask(self, message: Any, *, request: str | None = None, timeout: float | None = None) -> Any:
        """The answer to a message, typed by its class; raises the daemon's fault as the same class."""
        return self.transport.ask(message, answer_type(type(message)), timeout or self.timeout, request)

    def status(self) -> Status:
        """The daemon in one record."""
        return self.ask(ShowStatus())

    def put(self, source: Path | str | bytes) -> tuple[str, int]:
        """Send a file or bytes; answers its SHA-256 and size once the daemon keeps it."""
        return sent_file(self.ask, source)

    def get(self, digest: str, path: Path) -> int:
        """Fetch a kept file; what arrives is checked against its hash before it gets its name."""
        aside = path.with_name(f".{path.name}.part")
        hasher = hashlib.sha256()
        offset = 0
        with aside.open("wb") as file:
            while True:
                chunk: Chunk = self.ask(GetBlob(digest=digest, offset=offset))
                file.write(chunk.data)
                hasher.update(chunk.data)
                offset += len(chunk.data)
                if offset >= chunk.size or not chunk.data:
                    break
        if hasher.hexdigest() != digest:
            aside.unlink()
            raise Corrupt(f"got {hasher.hexdigest()}, expected {digest}", field="digest")
        aside.replace(path)
        return offset

    def run(self, experiment: str, **about: Any) -> LiveRun:
        """A live run to log to, as a context manager; works with the daemon away too. From any thread: the runs of a
        client share a connection of their own, and outlive its `close`."""
        from quarterdeck.live_run import LiveRun
        from quarterdeck.sending import Sender

        with self._making:
            if self._sender is None:
                self._sender = Sender(self.home, self.caller)
        return LiveRun(self._sender, experiment, **about)

    def follow(self, after: int | None = None) -> Iterator[Published | Pulse]:
        """Kept entries, without a gap, and pulses, as they come; from entry `after` on when given."""
        from quarterdeck.feed import follow

        return follow(self, after)

    def close(self) -> None:
        """Let go of the sockets; what its open runs need stays until they end."""
        if self._sender is not None:
            self._sender.close()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(home: Path | str | None = None, as_: str | None = None, timeout: float = 30.0) -> Client:
    """A client of the daemon of a home, with the key of `as_` (else of `QUARTERDECK_AS`, as a job has it, else the
    owner's); its first question raises `Unreachable` when none runs there."""
    return Client(Home(Path(home) if home else default_home()), as_ or own_name(), timeout)
