"""An HTTP/1.1 server on httptools: requests whole or refused, answers in order, every limit a number."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, cast

import httptools
import msgspec

from quarterdeckd.http.spool import Spool

log = logging.getLogger("quarterdeck.http")
LINGER = 1.0
"""Seconds a refused sender may go on sending before the connection closes: closed at once, it would see a reset."""
WAITING = 32
"""Pipelined requests that may wait on one connection before it is no longer read."""


PIECE = 256 * 1024
"""Bytes of a file that are sent at a time."""


class Limits(NamedTuple):
    """What one connection may do: bytes of headers and body, seconds for a whole request and between two; the names it
    may give as `Host` (all of them where None: predictions hold no management verb)."""

    headers: int = 16 * 1024
    body: int = 64 * 1024 * 1024
    slow: float = 30.0
    idle: float = 75.0
    hosts: frozenset[str] | None = None
    spool: Path | None = None
    """A folder for bodies of more than `held` bytes; without one they are all held in memory."""
    held: int = 1024 * 1024
    admit: Callable[[dict[bytes, bytes]], Response | None] | None = None
    """Looks at the headers before a large body is taken: what it answers is why it is not."""


LIMITS = Limits()

REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class Request(NamedTuple):
    """A whole request; header names are lower case."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes
    began: float
    query: str = ""
    spooled: Spool | None = None
    """A large body, in a file; `body` is empty then."""


class Response(NamedTuple):
    """An answer: status, extra headers as ready lines (each ending in CRLF), body."""

    status: int
    body: bytes
    headers: bytes = b""
    kind: bytes = b"application/json"
    file: Path | None = None
    """What is sent as the body instead, a piece at a time."""
    size: int = 0


Handler = Callable[[Request], "Response | Awaitable[Response]"]


def refusal(status: int, words: str) -> Response:
    """An error as the Open Inference Protocol spells it: `{"error": words}`."""
    return Response(status, msgspec.json.encode({"error": words}))


def render(response: Response, keep: bool) -> bytes:
    """An answer as bytes."""
    reason = REASONS.get(response.status, "")
    connection = b"" if keep else b"connection: close\r\n"
    return b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n%s%s\r\n%s" % (
        response.status,
        reason.encode(),
        response.kind,
        response.size if response.file else len(response.body),
        response.headers,
        connection,
        response.body,
    )


class Protocol(asyncio.Protocol):
    """One connection. Requests that come before the last answer is out wait their turn, so answers keep the order."""

    def __init__(self, handler: Handler, connections: set[Protocol], limits: Limits = LIMITS) -> None:
        self._handler = handler
        self._limits = limits
        self._connections = connections
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: list[tuple[Request, bool]] = []
        self._busy = False
        self._closing = False
        self._draining = False
        self._full = False
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._spool: Spool | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._began = 0.0
        self._heading = True
        self._endless = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is none of asyncio's
        self._connections.add(self)
        self._arm(self._limits.idle)
        self._look()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._closing = True
        self._room.set()
        self._forget_bodies()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, seconds: float) -> None:
        """So long from now on. The timer runs on and looks when it fires: made anew, it would cost 5 us a request."""
        self._deadline = self._loop.time() + seconds

    def _look(self) -> None:
        left = self._deadline - self._loop.time()
        if left > 0 or (self._busy and not self._began):
            # never later than the earliest deadline that may be set meanwhile
            step = min(self._limits.slow, self._limits.idle)
            self._timer = self._loop.call_later(min(left, step) if left > 0 else step, self._look)
        elif self._began and not self._closing:
            self._refuse(408, f"got no whole request within {self._limits.slow:g} s")
        else:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        before = self._began if self._heading else 0.0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "got an upgrade, expected plain HTTP/1.1")
        except httptools.HttpParserError:
            self._refuse(400, "got bytes that are no HTTP/1.1 request")
        if before and self._heading and self._began == before:
            # the parser hands a header over when it is whole: an endless one is counted here, by what was only header
            self._endless += len(data)
            if self._endless > self._limits.headers:
                self._refuse(431, f"got more than {self._limits.headers} bytes of headers")

    def on_message_begin(self) -> None:
        self._began = time.perf_counter()
        self._arm(self._limits.slow)

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value
        self._count(len(name) + len(value))

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._limits.headers:
            self._refuse(431, f"got more than {self._limits.headers} bytes of headers")

    def on_headers_complete(self) -> None:
        self._heading = False
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limits.body:
            self._refuse(413, f"body: got {int(length)} bytes, expected at most {self._limits.body}")
        elif not self._known_host():
            self._refuse(403, "host: got a name that is not served here")
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._closing:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _known_host(self) -> bool:
        if self._limits.hosts is None:
            return True
        host = self._headers.get(b"host", b"").decode("latin-1").lower()
        return (host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]) in self._limits.hosts

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body:
            self._refuse(413, f"body: got more than {self._limits.body} bytes, expected fewer")
        elif not self._closing:
            self._keep(body)

    def _keep(self, body: bytes) -> None:
        """Hold a piece of the body, or write it to a file once it is too much to hold."""
        limits = self._limits
        if limits.spool is None or self._body_bytes <= limits.held:
            self._body.append(body)
            return
        try:
            if self._spool is None:
                if limits.admit is not None and (refused := limits.admit(self._headers)) is not None:
                    self._hang_up(refused)
                    return
                self._spool = Spool(limits.spool)
                self._spool.write(b"".join(self._body))
                self._body = []
            self._spool.write(body)
        except OSError as error:
            log.error("a body could not be kept: %s", error)
            self._refuse(503, f"the disk takes no more of this body: {error.strerror}")

    def _forget_bodies(self) -> None:
        for spooled in (self._spool, *(request.spooled for request, _ in self._waiting)):
            if spooled is not None:
                spooled.discard()
        self._spool = None

    def on_message_complete(self) -> None:
        if self._closing:
            return
        path, _, query = self._url.decode("latin-1").partition("?")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method = self._parser.get_method().decode("latin-1")
        if self._spool is not None:
            self._spool.close()
        request = Request(method, path, self._headers, body, self._began, query, self._spool)
        self._spool = None
        keep = self._parser.should_keep_alive()
        self._reset()
        self._arm(self._limits.idle)
        if self._busy or self._full:
            self._waiting.append((request, keep))
            if len(self._waiting) >= WAITING:
                self._transport.pause_reading()
        else:
            self._handle(request, keep)

    def _handle(self, request: Request, keep: bool) -> None:
        try:
            answer = self._handler(request)
        except Exception as error:
            answer = _own_error(error)
        if isinstance(answer, Response):
            if request.spooled is not None:
                request.spooled.discard()
            self._answer(answer, keep and not self._last)
            return
        self._busy = True
        task = asyncio.ensure_future(answer)
        task.add_done_callback(lambda done: self._later(done, keep, request.spooled))

    def _later(self, done: asyncio.Future[Response], keep: bool, spooled: Spool | None) -> None:
        self._busy = False
        if spooled is not None:
            spooled.discard()
        error = None if done.cancelled() else done.exception()
        if done.cancelled():
            response = refusal(503, "the server stops")
        else:
            response = done.result() if error is None else _own_error(error)
        if response.file is not None and not self._transport.is_closing():
            self._busy = True
            sending = asyncio.ensure_future(self._send(response, response.file, keep and not self._last))
            sending.add_done_callback(self._sent)
            return
        self._answer(response, keep and not self._last)
        self._next()

    async def _send(self, response: Response, path: Path, keep: bool) -> None:
        """A file as the body; no more of it is read than the other side takes."""
        loop, left = asyncio.get_running_loop(), response.size
        with path.open("rb") as file:
            self._transport.write(render(response, keep))
            while left and not self._transport.is_closing():
                await asyncio.wait_for(self._room.wait(), self._limits.slow)
                data = await loop.run_in_executor(None, file.read, min(left, PIECE))
                if not data:
                    raise OSError(f"{path.name} is shorter than it was")
                self._transport.write(data)
                left -= len(data)
        if not keep:
            self._closing = True
            self._transport.close()

    def _sent(self, done: asyncio.Future[None]) -> None:
        self._busy = False
        if done.cancelled() or done.exception() is not None:
            log.error("a file was not sent whole", exc_info=None if done.cancelled() else done.exception())
            self._transport.abort()  # half a body must not look like a whole one
            return
        self._next()

    def _next(self) -> None:
        """Handle what waits, as long as the answers are read; then read on."""
        while self._waiting and not (self._closing or self._busy or self._full):
            self._handle(*self._waiting.pop(0))
        if self._closing or self._busy or self._full or self._transport.is_closing():
            return
        self._transport.resume_reading()
        if not self._began:
            self._arm(self._limits.idle)

    def pause_writing(self) -> None:
        """The other side does not read its answers: none is made until it does, and nothing is read."""
        self._full = True
        self._room.clear()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        self._room.set()
        self._next()

    def _answer(self, response: Response, keep: bool) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(render(response, keep))
        if not keep:
            self._closing = True
            self._transport.close()

    def _refuse(self, status: int, words: str) -> None:
        self._hang_up(refusal(status, words))

    def _hang_up(self, response: Response) -> None:
        """Answer and hang up, but read on for a while: what the sender still sends must not reset the answer away."""
        if self._closing or self._transport.is_closing():
            return
        self._closing = True
        self._forget_bodies()
        if self._timer is not None:
            self._timer.cancel()
        self._transport.write(render(response, False))
        self._timer = self._loop.call_later(LINGER, self._transport.close)

    @property
    def busy(self) -> bool:
        """Whether an answer is still owed."""
        return (self._busy or bool(self._waiting)) and not self._transport.is_closing()

    @property
    def _last(self) -> bool:
        """Whether the answer that is being written is the last one of this connection."""
        return self._draining and not self._waiting

    def retire(self) -> None:
        """Close after the next answer, which says so; until then whoever is at the other end may send it."""
        self._draining = True

    def drain(self) -> None:
        """Close once what is being answered is out."""
        self._draining = True
        if not self.busy:
            self._closing = True
            self._transport.close()


def _own_error(error: BaseException) -> Response:
    """Our own fault: the details go to the log under an id, the id to the asker."""
    number = secrets.token_hex(6)
    log.error("%s", number, exc_info=error)
    return Response(500, msgspec.json.encode({"error": f"the request met an error of our own, logged as {number}"}))
