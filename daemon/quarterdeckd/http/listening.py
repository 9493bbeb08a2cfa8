"""A door's address: opened once, closed when what was asked is answered."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl

from quarterdeckd.http.server import Handler, Limits, Protocol
from quarterstore.records.faults import got

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""The names by which a request may call this machine."""


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Listening:
    """One listening socket and the connections that came by it."""

    def __init__(self) -> None:
        self._connections: set[Protocol] = set()
        self._server: asyncio.Server | None = None

    async def open(
        self, door: str, address: tuple[str, int], handle: Handler, limits: Limits, tls: ssl.SSLContext | None = None
    ) -> int:
        """Listen; answers the port. `Invalid` on the setting `door` where the address is not free."""
        host, port = address
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Protocol(handle, self._connections, limits), host, port, reuse_address=True, ssl=tls
            )
        except OSError as error:
            raise got(door, f"{host}:{port} ({error.strerror})", "a free address of this machine") from error
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Answer what was asked, take no more."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.drain()
