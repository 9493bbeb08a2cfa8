"""An HTTP/1.1 server on httptools: requests whole or refused, answers in order, every limit a number."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import httptools
import msgspec

HEADERS = 16 * 1024
BODY = 64 * 1024 * 1024
SLOW = 30.0
"""Seconds within which a request has to be whole."""
IDLE = 75.0
"""Seconds a connection may wait for its next request."""

REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Request(NamedTuple):
    """A whole request; header names are lower case."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes
    began: float


class Response(NamedTuple):
    """An answer: status, extra headers as ready lines (each ending in CRLF), body."""

    status: int
    body: bytes
    headers: bytes = b""
    kind: bytes = b"application/json"


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
        len(response.body),
        response.headers,
        connection,
        response.body,
    )


class Protocol(asyncio.Protocol):
    """One connection. Requests that come before the last answer is out wait their turn, so answers keep the order."""

    def __init__(self, handler: Handler, connections: set[Protocol]) -> None:
        self._handler = handler
        self._connections = connections
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: list[tuple[Request, bool]] = []
        self._busy = False
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)
        self._arm(IDLE)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        if self._began and not self._closing:
            self._refuse(408, f"got no whole request within {SLOW:g} s")
        elif not self._busy:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._began:
            self._began = time.perf_counter()
            self._arm(SLOW)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "got an upgrade, expected plain HTTP/1.1")
        except httptools.HttpParserError:
            self._refuse(400, "got bytes that are no HTTP/1.1 request")

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value
        self._count(len(name) + len(value))

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADERS:
            self._refuse(431, f"got more than {HEADERS} bytes of headers")

    def on_headers_complete(self) -> None:
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > BODY:
            self._refuse(413, f"got a body of {int(length)} bytes, expected at most {BODY}")
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._closing:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > BODY:
            self._refuse(413, f"got a body of more than {BODY} bytes")
        elif not self._closing:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._closing:
            return
        path = self._url.partition(b"?")[0].decode("latin-1")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method = self._parser.get_method().decode("latin-1")
        request = Request(method, path, self._headers, body, self._began)
        keep = self._parser.should_keep_alive()
        self._reset()
        self._arm(IDLE)
        if self._busy:
            self._waiting.append((request, keep))
        else:
            self._handle(request, keep)

    def _handle(self, request: Request, keep: bool) -> None:
        answer = self._handler(request)
        if isinstance(answer, Response):
            self._answer(answer, keep)
            return
        self._busy = True
        task = asyncio.ensure_future(answer)
        task.add_done_callback(lambda done: self._later(done, keep))

    def _later(self, done: asyncio.Future[Response], keep: bool) -> None:
        self._busy = False
        response = refusal(500, "the request met an error of our own") if done.exception() else done.result()
        self._answer(response, keep)
        if self._waiting and not self._closing and not self._busy:
            self._handle(*self._waiting.pop(0))

    def _answer(self, response: Response, keep: bool) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(render(response, keep))
        if not keep:
            self._closing = True
            self._transport.close()

    def _refuse(self, status: int, words: str) -> None:
        if not self._closing:
            self._answer(refusal(status, words), False)

    def drain(self) -> None:
        """Close once what is being answered is out."""
        if not self._busy:
            self._transport.close()
        self._closing = self._closing or not self._busy
