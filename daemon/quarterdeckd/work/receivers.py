"""Receivers of webhooks: a signed POST to the very address that was checked, over no proxy, following nothing, within
five seconds."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import importlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec

from quarterdeckd.services.targets import Address, Place, check_address, checked_url
from quarterdeckd.work.programs import cleaned
from quarterstore.records.faults import Failed
from quarterstore.records.hooks import Hook
from quarterstore.records.names import drawn

WITHIN = 5.0
"""Seconds for everything: name, connection, request and answer."""
MOST_READ = 64 * 1024
"""Bytes of an answer that are read."""
SIGNATURE = "Quarterdeck-Signature"
Resolve = Callable[[str, int], Awaitable[list[Address]]]


class Told(NamedTuple):
    """What a receiver answered."""

    status: int
    body: bytes


async def resolved(host: str, port: int) -> list[Address]:
    """Every address of a name, as the system's resolver gives them; uvloop asks it in threads of its own, so a resolver
    that hangs holds up nobody else."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(address[4][0]) for address in found]


def signature(secret: bytes, at: int, body: bytes) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 of `SECONDS.BODY` under the hook's secret."""
    digest = hmac.new(secret, str(at).encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


async def post(hook: Hook, body: bytes, secret: bytes, resolve: Resolve = resolved) -> Told:
    """Post a CloudEvent to a hook's receiver; raises `Refused` where the address may not be connected to, and `Failed`
    where no answer came. The name is looked up once, and what was checked is what is connected to."""
    place = checked_url(hook.target)
    # 150 ms and a thousand files to load: in a thread, at the first delivery, and not on the receiver's time
    httpx = await asyncio.to_thread(importlib.import_module, "httpx")
    context = await asyncio.to_thread(_tls) if place.scheme == "https" else False
    try:
        async with asyncio.timeout(WITHIN):
            address = await address_of(
                place, resolve, allow_private=hook.allow_private, allow_http=hook.allow_http, field="target"
            )
            return await _post(httpx, context, place, address, body, secret)
    except TimeoutError as error:
        raise Failed(f"no answer within {WITHIN:g} s", field="target") from error


async def address_of(place: Place, resolve: Resolve, *, allow_private: bool, allow_http: bool, field: str) -> Address:
    """The first address of a host; every one of them must be allowed, or a name could be used to choose."""
    if place.literal is not None:
        found = [place.literal]
    else:
        try:
            found = await resolve(place.host, place.port)
        except OSError as error:
            raise Failed(f"{place.host} has no address ({error.strerror or error})", field=field) from error
    if not found:
        raise Failed(f"{place.host} has no address", field=field)
    for address in found:
        check_address(address, place.scheme, allow_private=allow_private, allow_http=allow_http, field=field)
    return found[0]


async def _post(httpx: Any, context: Any, place: Place, address: Address, body: bytes, secret: bytes) -> Told:
    at = int(time.time())
    headers = {
        "Host": place.authority,
        "Content-Type": "application/cloudevents+json; charset=utf-8",
        "User-Agent": f"quarterdeck/{version('quarterdeck')}",
        "Accept-Encoding": "identity",
        "Connection": "close",
        SIGNATURE: signature(secret, at, body),
    }
    url = pinned(place, address) + place.path
    options: dict[str, Any] = {"sni_hostname": place.host} if place.scheme == "https" else {}
    try:
        async with (
            httpx.AsyncClient(verify=context, trust_env=False, follow_redirects=False, timeout=WITHIN) as client,
            client.stream("POST", url, content=body, headers=headers, extensions=options) as answer,
        ):
            return Told(answer.status_code, await _start_of(answer))
    except httpx.HTTPError as error:
        raise Failed(str(error) or type(error).__name__, field="target") from error


def pinned(place: Place, address: Address) -> str:
    """The start of a URL at the very address that was checked."""
    number = f"[{address}]" if address.version == 6 else str(address)
    return f"{place.scheme}://{number}:{place.port}"


async def _start_of(answer: Any) -> bytes:
    """The first bytes of an answer, as they came: nothing is unpacked."""
    read = b""
    async for chunk in answer.aiter_raw():
        read += chunk
        if len(read) >= MOST_READ:
            break
    return read[:MOST_READ]


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """certifi's authorities, or those that SSL_CERT_FILE names."""
    made: ssl.SSLContext = importlib.import_module("httpx").create_ssl_context()
    return made


def words_of(told: Told) -> str:
    """The start of what a receiver answered, cleaned."""
    return cleaned(told.body[:1000])


def verdict_of(told: Told) -> tuple[bool, str]:
    """Yes only for a 2xx with `{"allow": true}`: a receiver that says OK to everything has judged nothing."""
    try:
        said = msgspec.json.decode(told.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = None
    said = said if isinstance(said, dict) else {}
    ok = 200 <= told.status < 300 and said.get("allow") is True
    reason = said.get("reason")
    if isinstance(reason, str) and reason.strip():
        return ok, drawn(" ".join(reason.split()), longest=300)
    return ok, "yes" if ok else f"it answered {told.status} without allow: true"
