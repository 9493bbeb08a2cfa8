"""The addresses of a stream: checked as a person gave them, and as ZeroMQ takes them."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import NamedTuple

from quarterstore.records.faults import Refused, got
from quarterstore.records.names import checked_word, drawn

EXPECTED = "tcp://HOST:PORT or ipc://NAME, with connect: or bind: before it"
SOCKET_LONGEST = 107
"""Bytes of a socket's path (`sun_path`, unix(7))."""


class Address(NamedTuple):
    """Where a stream listens (`binds`) or whom it calls."""

    binds: bool
    url: str

    def text(self) -> str:
        """As it is kept."""
        return f"{'bind' if self.binds else 'connect'}:{self.url}"


def parsed(field: str, text: str) -> Address:
    """An address as a person gave it, bound unless `connect:` stands before it; raises `Invalid`."""
    how, colon, rest = text.partition(":")
    binds = how != "connect"
    url = rest if colon and how in ("bind", "connect") else text
    if url.startswith("ipc://"):
        checked_word(field, url.removeprefix("ipc://"))
        return Address(binds, url)
    host, colon, port = url.removeprefix("tcp://").rpartition(":")
    named = host.strip("[]")
    if not url.startswith("tcp://") or not colon or not named or not _is_host(named):
        raise got(field, drawn(text, longest=200), EXPECTED)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65_536):
        raise got(field, f"port {drawn(port, longest=20) or 'none'}", "1 to 65535")
    if binds and named != "localhost" and not _is_number(named):
        raise got(field, f"{named}, which is a name", "a number of this machine to bind, such as 127.0.0.1")
    shown = f"[{named}]" if ":" in named else "127.0.0.1" if binds and named == "localhost" else named
    return Address(binds, f"tcp://{shown}:{int(port)}")


def refuse_public(field: str, address: Address, public: bool) -> None:
    """Raise `Refused` where others than this machine could call an address, unless that is wanted."""
    if not address.binds or address.url.startswith("ipc://") or public:
        return
    host = address.url.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if not ipaddress.ip_address(host).is_loopback:
        words = f"{address.url} can be reached from other machines, and whoever reaches it may send and read"
        raise Refused(words, field=field, next="bind 127.0.0.1, or say --public")


def resolved(field: str, text: str, sockets: Path) -> Address:
    """A kept address as ZeroMQ takes it: the name of an ipc socket becomes its path in the home; raises `Invalid`."""
    address = parsed(field, text)
    if not address.url.startswith("ipc://"):
        return address
    path = sockets / f"{address.url.removeprefix('ipc://')}.sock"
    if len(bytes(path)) > SOCKET_LONGEST:
        raise got(field, f"a socket's path of {len(bytes(path))} bytes", f"at most {SOCKET_LONGEST}: a shorter home")
    return Address(address.binds, f"ipc://{path}")


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _is_host(host: str) -> bool:
    """A number, or letters, digits, dots and hyphens: nothing that ZeroMQ reads as more (`;` names a source)."""
    return _is_number(host) or (host.isascii() and host.replace(".", "").replace("-", "").isalnum())
