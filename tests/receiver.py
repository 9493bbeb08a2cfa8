"""A real receiver of webhooks on loopback, as bad as it is told to be."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from typing import Any, NamedTuple

GIGABYTE = 1 << 30


class Request(NamedTuple):
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvent in it."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Receiver:
    """Answers each connection in `manner`: a status, `stall`, `drip`, `flood`, `redirect`, `hang up`, or JSON text."""

    def __init__(self, manner: str = "200", tls: ssl.SSLContext | None = None) -> None:
        self.manner = manner
        self.requests: list[Request] = []
        self.names: list[str | None] = []
        """The names that TLS asked for."""
        self.most = 0
        """The most connections at a time."""
        self.sent = 0
        """Bytes of a flood that could be sent."""
        self.elsewhere = "http://169.254.169.254/latest/meta-data/"
        self._open = 0
        self._tls = tls
        self._came = threading.Condition()
        self._let_go = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=200)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        found: int = self._socket.getsockname()[1]
        return found

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/hook?a=b"

    def wait(self, count: int, seconds: float = 30.0) -> list[Request]:
        """Return once so many requests came."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.requests) >= count, seconds), f"{len(self.requests)} of {count}"
        return self.requests

    def close(self) -> None:
        """Let everybody go."""
        self._let_go.set()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._came:
            self._open += 1
            self.most = max(self.most, self._open)
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._answer(connection)
        except OSError:
            pass  # whoever asked has gone
        finally:
            connection.close()
            with self._came:
                self._open -= 1
                self._came.notify_all()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        data = b""
        while b"\r\n\r\n" not in data:
            if not (chunk := connection.recv(65536)):
                return
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            body += connection.recv(65536)
        with self._came:
            self.requests.append(Request(line, headers, body))
            self._came.notify_all()
        self._in_its_manner(connection)

    def _in_its_manner(self, connection: socket.socket) -> None:
        start = b"HTTP/1.1 200 OK\r\n"
        match self.manner:
            case "stall":
                connection.settimeout(60)
                connection.recv(1)  # until the other side has gone
            case "drip":
                connection.sendall(start)
                while not self._let_go.wait(0.5):
                    connection.sendall(b"X-A: b\r\n")
            case "drip body":
                connection.sendall(start + b"Content-Length: 1000\r\n\r\n")
                while not self._let_go.wait(0.5):
                    connection.sendall(b"x")
            case "flood":
                connection.sendall(start + f"Content-Length: {GIGABYTE}\r\n\r\n".encode())
                block = b"x" * 65536
                while self.sent < GIGABYTE:
                    self.sent += connection.send(block)
            case "flood of headers":
                connection.sendall(start)
                line = b"X-A: " + b"b" * 4096 + b"\r\n"
                while self.sent < GIGABYTE:
                    self.sent += connection.send(line)
            case "redirect":
                location = f"Location: {self.elsewhere}\r\nContent-Length: 0\r\n\r\n"
                connection.sendall(b"HTTP/1.1 307 Temporary Redirect\r\n" + location.encode())
            case "hang up":
                pass
            case "no HTTP":
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")
            case status if status.isdigit():
                connection.sendall(f"HTTP/1.1 {status} So\r\nContent-Length: 2\r\n\r\nok".encode())
            case said:
                body = said.encode()
                connection.sendall(start + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
