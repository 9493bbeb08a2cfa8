"""The HTTP server's limits and order, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from quarterdeckd.http.server import Limits, Protocol, Request, Response

LIMITS = Limits(headers=1000, body=1000, slow=0.3, idle=5.0, hosts=frozenset({"localhost"}))


def _handle(request: Request) -> Response | Awaitable[Response]:
    if request.path == "/broken":
        raise RuntimeError("/secret/path")
    if request.path == "/slow":

        async def later() -> Response:
            await asyncio.sleep(0)
            return Response(200, b"slow")

        return later()
    return Response(200, request.path.encode() + request.body)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server with small limits."""
    connections: set[Protocol] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(_handle, connections, LIMITS), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for connection in list(connections):
        connection.drain()


async def _said(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    found = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return found


def _get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: localhost:1", *headers, "", ""]).encode()


async def test_pipelined_answers_keep_the_order_of_the_requests(port: int) -> None:
    found = await _said(port, _get("/slow") + _get("/two") + _get("/three", "connection: close"))
    assert [found.index(word) for word in (b"slow", b"/two", b"/three")] == sorted(
        found.index(word) for word in (b"slow", b"/two", b"/three")
    )


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000000\r\n\r\n" + b"x" * 1_000_000, 413),
        (b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000, 413),
        (_get("/", "a: " + "b" * 2000), 431),
        (b"\x16\x03\x01 hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: evil.test\r\n\r\n", 403),
        (b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc", 408),
    ],
)
async def test_a_request_beyond_a_limit_is_refused_in_words(port: int, data: bytes, status: int) -> None:
    assert (await _said(port, data)).startswith(b"HTTP/1.1 %d " % status)


async def test_an_error_of_our_own_is_answered_without_its_details(port: int) -> None:
    found = await _said(port, _get("/broken", "connection: close"))
    assert found.startswith(b"HTTP/1.1 500 ") and b"secret" not in found and b"logged as" in found


async def test_a_header_that_never_ends_is_refused_at_the_limit(port: int) -> None:
    """The parser hands a header over when it is whole; memory must not wait for that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\na: ")
    for _ in range(100):
        writer.write(b"b" * 300)
        await writer.drain()
        await asyncio.sleep(0)
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_a_caller_that_reads_no_answers_fills_no_memory() -> None:
    """Three hundred pipelined requests of 60 bytes for a megabyte each are 300 MB, if they are answered unread."""
    asked = 0

    def large(request: Request) -> Response:
        nonlocal asked
        asked += 1
        return Response(200, bytes(1_000_000))

    connections: set[Protocol] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: Protocol(large, connections, LIMITS), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1], limit=1000)
    writer.write(_get("/") * 300)
    await writer.drain()
    before = -1
    while asked != before or not asked:
        before = asked
        await asyncio.sleep(0.1)  # as long as it answers more, it has not stopped
    assert asked < 30, "what the kernel's buffers take, and one or two beyond"
    for _ in range(300):
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200 ")
        await reader.readexactly(1_000_000)
    assert asked == 300
    writer.close()
    server.close()


async def test_a_connection_is_idle_only_since_its_last_answer() -> None:
    """An answer that took longer than a connection may idle left it open for ever."""
    done = asyncio.Event()

    async def later() -> Response:
        await done.wait()
        return Response(200, b"late")

    limits = LIMITS._replace(idle=0.1)
    server = await asyncio.get_running_loop().create_server(
        lambda: Protocol(lambda request: later(), set(), limits), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    writer.write(_get("/"))
    await asyncio.sleep(0.3)  # longer than it may idle
    done.set()
    assert (await asyncio.wait_for(reader.read(), 5)).endswith(b"late"), "answered, then closed"
    writer.close()
    server.close()


async def test_a_large_body_is_a_file_until_its_request_is_answered(tmp_path: Path) -> None:
    """And a file may be the answer, in its turn: small and large ones keep the order."""
    seen: list[tuple[bytes, bytes, str]] = []

    async def echo(request: Request) -> Response:
        if request.spooled is None:
            return Response(200, b"small:" + request.body)
        held = request.spooled.path.read_bytes()
        seen.append((request.body, held, request.spooled.digest))
        kept = tmp_path / "kept"
        kept.write_bytes(held)
        return Response(200, b"", file=kept, size=len(held))

    folder, large = tmp_path / "spool", b"0123456789" * 200_000
    folder.mkdir()
    limits = Limits(body=10**8, spool=folder, held=1000)
    connections: set[Protocol] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(echo, connections, limits), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    start = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n%s\r\n%s"
    requests = [start % (len(body), more, body) for body, more in ((large, b""), (b"x", b"connection: close\r\n"))]
    found = await _said(port, b"".join(requests))
    assert seen == [(b"", large, hashlib.sha256(large).hexdigest())]
    assert 0 < found.index(large) < found.index(b"small:x") and not list(folder.iterdir())
    server.close()
