"""The door of labels and outcomes: `POST /v1/labels` and `/v1/outcomes` take a file from who holds a key's secret."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.api.identity import public_half
from quarterdeckd.api.permissions import Speaker, check, speaker_of
from quarterdeckd.http.listening import LOOPBACK, Listening, is_loopback
from quarterdeckd.http.server import Limits, Request, Response, refusal
from quarterstore.records.faults import MEANINGS, Fault, Forbidden, TooLarge, got, missing
from quarterstore.records.ids import new_id
from quarterstore.records.outcomes import LABEL, WINDOW, AddOutcomes, OutcomeUpload
from quarterstore.shelf.artefacts import Artefacts

BODY = 4 * 1024**3
JSON = 64 * 1024 * 1024
"""Bytes of a body of JSON, which is read whole; CSV and Parquet go to a file."""
SLOW = 600.0
PATHS = ("/v1/labels", "/v1/outcomes")
KINDS = {"text/csv": "csv", "application/vnd.apache.parquet": "parquet", "application/json": "json"}
ASKED = ("endpoint", "metric", "window")


class Unauthenticated(Exception):
    """Nobody is known to ask."""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One outcome in JSON."""

    value: str | float | bool
    id: str | None = None
    key: str | None = None
    row: int | None = None
    time: float | str | None = None


class Door:
    """Answers at one address until it is closed; a person is known by a bearer token, as at MLflow's door."""

    def __init__(self, dispatch: Dispatch, kept: Artefacts, owner: str) -> None:
        self._dispatch = dispatch
        self._kept = kept
        self._owner = owner
        self._listening = Listening()

    async def open(self, host: str, port: int) -> int:
        """Listen; answers the port. A name that is not this machine's own needs a token from everybody."""
        self._hosts = frozenset((*LOOPBACK, host.lower()))
        self._open_to_all = not is_loopback(host)
        limits = Limits(body=BODY, slow=SLOW, hosts=self._hosts, spool=self._kept.incoming, admit=self._admit)
        return await self._listening.open("rest", (host, port), self.handle, limits)

    async def close(self) -> None:
        """Answer what was asked, take no more."""
        self._listening.close()

    async def handle(self, request: Request) -> Response:
        """One request."""
        try:
            if request.path not in PATHS:
                return refusal(404, f"path: got {request.path[:100]!r}, expected {' or '.join(PATHS)}")
            if request.method != "POST":
                return refusal(405, f"got {request.method}, expected POST")
            speaker = self._speaker(request.headers)
            check(speaker, AddOutcomes(digest=""))
            return Response(200, msgspec.json.encode(await self._taken(request, speaker)))
        except (Unauthenticated, Fault) as error:
            return _refused(error)

    def _admit(self, headers: dict[bytes, bytes]) -> Response | None:
        """Nobody fills the disk who may not speak."""
        try:
            check(self._speaker(headers), AddOutcomes(digest=""))
        except (Unauthenticated, Fault) as error:
            return _refused(error)
        return None

    def _speaker(self, headers: dict[bytes, bytes]) -> Speaker:
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and (urlsplit(origin).hostname or "") not in {name.strip("[]") for name in self._hosts}:
            raise Forbidden(f"got {origin[:200]!r}, expected this address", field="origin")
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if not kind and self._dispatch.profile == "solo" and not self._open_to_all:
            return speaker_of(self._dispatch.view, self._owner)
        try:
            if kind.lower() != "bearer":
                raise ValueError
            return speaker_of(self._dispatch.view, public_half(token.strip().encode()))
        except (ValueError, Forbidden) as error:
            raise Unauthenticated("authorization: got no token that may speak, expected a key's secret") from error

    async def _taken(self, request: Request, speaker: Speaker) -> OutcomeUpload:
        given = {name: values[-1] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
        for name in given:
            if name not in ASKED:
                raise missing("query", name, ASKED)
        if (request.path == "/v1/labels") == ("metric" in given):
            raise got("metric", given.get("metric", "none"), "a name at /v1/outcomes, none at /v1/labels")
        kind = request.headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if kind not in KINDS:
            raise got("content-type", kind or "none", ", ".join(KINDS))
        digest = await asyncio.to_thread(self._keep, request, KINDS[kind])
        asked: Any = AddOutcomes(
            digest=digest,
            format="parquet" if KINDS[kind] == "parquet" else "csv",
            metric=given.get("metric", LABEL),
            endpoint=given.get("endpoint"),
            window=_seconds(given.get("window", str(WINDOW))),
        )
        found: OutcomeUpload = await self._dispatch.speak(asked, OutcomeUpload, speaker=speaker)
        return found

    def _keep(self, request: Request, kind: str) -> str:
        """The body as a file of the store; its SHA-256."""
        if request.spooled is not None and kind != "json":
            return self._kept.adopt(request.spooled.path)[0]
        body = request.body
        if request.spooled is not None:
            if request.spooled.size > JSON:
                raise TooLarge(f"got {request.spooled.size} bytes of JSON, expected at most {JSON}", field="body")
            body = request.spooled.path.read_bytes()
        data = _as_csv(body) if kind == "json" else body
        digest = hashlib.sha256(data).hexdigest()
        self._kept.receive(new_id("body"), 0, data, digest)
        return digest


def _as_csv(body: bytes) -> bytes:
    """A list of objects as a file of rows, each column that one of them has."""
    try:
        rows = msgspec.json.decode(body, type=list[Row])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise got("body", str(error)[:200], "a list of objects with id or key, value, and row and time") from None
    names = [
        name for name in ("id", "key", "row", "value", "time") if any(getattr(row, name) is not None for row in rows)
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names or ["id", "value"])
    writer.writerows([["" if getattr(row, name) is None else getattr(row, name) for name in names] for row in rows])
    return text.getvalue().encode("utf-8", "surrogatepass")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise got("window", text, "seconds") from None


def _refused(error: Unauthenticated | Fault) -> Response:
    if isinstance(error, Unauthenticated):
        return refusal(401, str(error))
    return refusal(next(MEANINGS[kind].http for kind in type(error).__mro__ if kind in MEANINGS), error.line())
