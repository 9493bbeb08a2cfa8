"""The line to one remote: each request whole within its time or `Unreachable`, at the address that was checked, with
bounded patience."""

from __future__ import annotations

import asyncio
import importlib
import ssl
import time
from importlib.metadata import version
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from quarterdeckd.services.targets import checked_url
from quarterdeckd.work import receivers
from quarterdeckd.work.patience import Patience
from quarterdeckd.work.tokens import token_of
from quarterstore.records.faults import KINDS, Failed, Fault, FaultRecord, Protocol, Refused, Unreachable, raised
from quarterstore.records.names import drawn
from quarterstore.records.places import Home
from quarterstore.records.remotes import Remote

LARGEST_ANSWER = 1024 * 1024
LONGEST_WORDS = 500
T = TypeVar("T")


class Said(msgspec.Struct, frozen=True):
    """An answer that is a no: a fault, or a sentence of the HTTP server itself."""

    fault: FaultRecord | None = None
    error: str = ""


class Line:
    """A connection to a remote for as long as one change or one question takes: its name is looked up once, and what
    was checked is what is connected to. No proxy, nothing is followed."""

    def __init__(self, home: Home, remote: Remote, patience: Patience, resolve: receivers.Resolve) -> None:
        self._home = home
        self._remote = remote
        self._patience = patience
        self._resolve = resolve
        self._client: Any = None
        self._extensions: dict[str, str] = {}

    async def __aenter__(self) -> Line:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def ask(self, method: str, path: str, answer: type[T], *, given: Any = None, data: bytes | None = None) -> T:
        """One request and its typed answer. Raises `Unreachable` where none came in time or patience is at an end,
        the remote's own fault where it said no, `Protocol` for an answer that is none of ours."""
        waiting = self._patience.wait(time.monotonic())
        if waiting > 0:
            words = f"{self._patience.failures} requests had no answer; it is asked again in {waiting:.0f} s"
            raise self._unreachable(words)
        httpx = await asyncio.to_thread(importlib.import_module, "httpx")  # 150 ms, at the first use
        content = data if given is None else msgspec.json.encode(given)
        try:
            async with asyncio.timeout(self._remote.within):
                client = self._client or await self._opened(httpx)
                status, body = await self._whole(client, method, path, content, given is not None)
        except TimeoutError as error:
            raise self._failed(f"no answer within {self._remote.within:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._failed(drawn(str(error) or type(error).__name__, longest=300)) from error
        except Failed as error:  # its name has no address
            raise self._failed(error.message) from error
        self._patience.worked()
        return self._told(status, body, answer)

    async def _opened(self, httpx: Any) -> Any:
        remote = self._remote
        place = checked_url(remote.url, "url")
        token = await asyncio.to_thread(token_of, self._home, remote)
        allowed = {"allow_private": remote.allow_private, "allow_http": remote.allow_http}
        address = await receivers.address_of(place, self._resolve, field="url", **allowed)
        context = await asyncio.to_thread(_tls, httpx, remote.ca) if place.scheme == "https" else False
        self._client = httpx.AsyncClient(
            base_url=receivers.pinned(place, address),
            verify=context,
            trust_env=False,
            follow_redirects=False,
            timeout=remote.within,
            headers={
                "Host": place.authority,
                "Authorization": f"Bearer {token}",
                "User-Agent": f"quarterdeck/{version('quarterdeck')}",
                "Accept-Encoding": "identity",
            },
        )
        # TLS asks for the name and checks it, though the address is connected to
        self._extensions = {"sni_hostname": place.host} if place.scheme == "https" else {}
        return self._client

    async def _whole(
        self, client: Any, method: str, path: str, content: bytes | None, as_json: bool
    ) -> tuple[int, bytes]:
        """Status and body, of which no more is read than an answer of ours has."""
        kind = "application/json" if as_json else "application/octet-stream"
        about: dict[str, Any] = {"headers": {"Content-Type": kind} if content is not None else {}}
        read = b""
        async with client.stream(method, path, content=content, extensions=self._extensions, **about) as answer:
            async for chunk in answer.aiter_raw():
                read += chunk
                if len(read) > LARGEST_ANSWER:
                    raise Failed(f"more than {LARGEST_ANSWER} bytes came as an answer", field="remote")
            return answer.status_code, read

    def _failed(self, words: str) -> Unreachable:
        self._patience.failed(time.monotonic())
        return self._unreachable(words)

    def _unreachable(self, words: str) -> Unreachable:
        return Unreachable(
            f"{self._remote.url} does not answer ({words})",
            field=self._remote.name,
            next=f"qd remote status {self._remote.name}",
        )

    def _told(self, status: int, body: bytes, answer: type[T]) -> T:
        name = self._remote.name
        if status == 401:
            raise Refused(f"{name} knows nobody by this token", field="token", next=f"add {name} again with another")
        try:
            if 200 <= status < 300:
                return msgspec.json.decode(body, type=answer)
            said = msgspec.json.decode(body, type=Said)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Protocol(
                f"{name} answered {status} with what no deck says", field="url", next="is that its --remote door?"
            ) from error
        raise self._their_fault(status, said)

    def _their_fault(self, status: int, said: Said) -> Fault:
        """What the remote refused, as it said it, with its name before it; cleaned, because it will be drawn."""
        name = self._remote.name
        if said.fault is None or said.fault.kind not in KINDS:
            return Failed(f"{name} answered {status}: {drawn(said.error, longest=LONGEST_WORDS)}", field="remote")
        fault = said.fault
        words = drawn(raised(fault).line(), longest=LONGEST_WORDS)
        return KINDS[fault.kind](f"{name} says: {words}", field="remote")


def _tls(httpx: Any, ca: str) -> ssl.SSLContext:
    """certifi's authorities, or those that SSL_CERT_FILE names, and those the remote was added with."""
    made: ssl.SSLContext = httpx.create_ssl_context()
    if ca:
        made.load_verify_locations(cadata=ca)
    return made
