"""Where the daemon may go for a person: what an address may look like, and which IP addresses it connects to."""

from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple
from urllib.parse import urlsplit

from quarterstore.records.faults import Refused, got

Address = IPv4Address | IPv6Address
LONGEST = 2000
_name = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?\Z")
_numeric = re.compile(r"(\d+|0[xX][0-9a-fA-F]*)\.?\Z")
"""A last label that a URL parser takes for an IPv4 address in some form (WHATWG URL, "ends in a number")."""
METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",
            "169.254.170.2",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
        ),
    )
)
"""Where clouds hand out credentials to whoever asks from inside."""
_EMBEDDING = tuple(map(ipaddress.ip_network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
"""IPv6 networks whose addresses stand for an IPv4 address (RFC 4291, 6052, 8215, 3056, 4380): a way round every rule
about IPv4, and nobody's receiver."""


class Place(NamedTuple):
    """A checked address of a receiver."""

    scheme: str
    host: str
    port: int
    path: str
    literal: Address | None

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if isinstance(self.literal, IPv6Address) else self.host
        return host if self.port == DEFAULTS[self.scheme] else f"{host}:{self.port}"


DEFAULTS = {"http": 80, "https": 443}


def checked_url(url: str, field: str = "target") -> Place:
    """The parts of an http or https URL; `Invalid` for other schemes, user names, fragments, odd hosts and odd forms of
    an IP address."""
    if len(url) > LONGEST:
        raise got(field, f"{len(url)} characters", f"at most {LONGEST}")
    if not url.isascii() or any(char <= " " or char == "\x7f" or char in '\\<>"{}|^`' for char in url):
        raise got(field, url, "a URL of plain ASCII, without blanks; other names in their xn-- form")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise got(field, url, f"a URL ({error})") from error
    if parts.scheme not in DEFAULTS or not url.lower().startswith((f"{parts.scheme}://",)):
        programs = "exec:/path, " if field == "target" else ""
        raise got(field, url, f"{programs}https://HOST/PATH or http://HOST/PATH")
    if "@" in parts.netloc:
        raise got(field, "a user name before the host", "none: nobody is told a password in an address")
    if parts.fragment or "#" in url:
        raise got(field, "a fragment", "none: it is never sent")
    if port == 0 or parts.netloc.endswith(":"):
        raise got(field, url, "a port from 1 to 65535")
    literal = _literal(host, field)
    if "[" in parts.netloc and not isinstance(literal, IPv6Address):
        raise got(field, parts.netloc, "an IPv6 address between the brackets")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(parts.scheme, host.rstrip("."), port or DEFAULTS[parts.scheme], path, literal)


def _literal(host: str, field: str) -> Address | None:
    if "%" in host:
        raise got(field, host, "an address without a zone")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if not _name.match(host) or len(host) > 253:
        raise got(field, host, "a host name or an IP address")
    if _numeric.match(host.rstrip(".").rpartition(".")[2]):
        raise got(field, host, "an IPv4 address as four decimal numbers without leading zeros")
    return None


def check_address(
    address: Address, scheme: str, *, allow_private: bool, allow_http: bool, field: str = "target"
) -> None:
    """`Refused` unless the daemon may connect to this address. Link-local, multicast, unspecified, reserved and
    metadata addresses are never connected to; loopback and private ones only when that was allowed; http leaves
    loopback only when that was allowed."""
    found = _unwrapped(address)
    why = _never(found)
    if why:
        raise Refused(f"{address} is {why}, where the daemon never goes", field=field)
    if not found.is_global and not allow_private:
        kind = "loopback" if found.is_loopback else "a private address"
        raise Refused(f"{address} is {kind}", field=field, next="add it with --allow-private")
    if scheme == "http" and not found.is_loopback and not allow_http:
        raise Refused(f"http to {address} can be read on its way", field=field, next="https, or --allow-http")


def _unwrapped(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _never(address: Address) -> str:
    if address in METADATA:
        return "a cloud's metadata address"
    if address.is_unspecified or (isinstance(address, IPv4Address) and address.packed[0] == 0):
        return "no address of a host"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if isinstance(address, IPv6Address):
        if address.is_loopback:
            return ""
        if any(address in network for network in _EMBEDDING):
            return "an IPv6 address that stands for an IPv4 one"
        return "a site-local address" if address.is_site_local else ""
    return "a reserved address" if address.is_reserved else ""
