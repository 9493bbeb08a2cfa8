"""The door itself: it listens for other decks, knows who asks by a token, and turns what they ask into acts."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote

import msgspec

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.api.identity import public_half
from quarterdeckd.api.permissions import Speaker, check, speaker_of
from quarterdeckd.http.listening import LOOPBACK, Listening, is_loopback
from quarterdeckd.http.server import Limits, Request, Response
from quarterdeckd.services.remotes import bundle_of
from quarterdeckd.services.signing import upload_name
from quarterstore.ledger.finding import deployment_of, places_of
from quarterstore.records.base import Pulse
from quarterstore.records.deployments import Deploy, Deployment, LatencySummary, ListDeployments, RollBack
from quarterstore.records.faults import MEANINGS, Conflict, Fault, Forbidden, NeedsApproval, NotFound, got
from quarterstore.records.governance import Approval, Propose
from quarterstore.records.registry import MoveStage
from quarterstore.records.remotes import (
    Bundle,
    BundlePlan,
    CheckBundle,
    DeckThere,
    EndpointThere,
    Errand,
    Received,
    TakeBundle,
)
from quarterstore.records.wire import plain
from quarterstore.shelf.artefacts import Artefacts

BODY = 4 * 1024 * 1024
"""Bytes of one request: a manifest, or a piece of a file."""
SLOW = 60.0
FRESH = 3.0
"""Seconds for which the figures of a second are those of now."""
UNDER_WAY = 64
"""Bundles that may come at a time; the one that began first is forgotten, and its sender begins again."""
_piece = re.compile(r"/v1/bundles/([0-9a-f]{64})/files/([0-9a-f]{64})\Z")
_finish = re.compile(r"/v1/bundles/([0-9a-f]{64})/finish\Z")
_endpoint = re.compile(r"/v1/endpoints/([^/]+)/(deploy|rollback)\Z")
T = TypeVar("T")


class Unauthenticated(Exception):
    """Nobody is known to ask."""


class Begun(msgspec.Struct, frozen=True):
    """A bundle that is coming: who sends it, what it says, and the size of each file."""

    by: str
    given: CheckBundle
    plan: BundlePlan


class Door:
    """Answers other decks at one address until it is closed; everybody needs a token, the secret of a key here."""

    def __init__(self, dispatch: Dispatch, kept: Artefacts, deck: str, tls: ssl.SSLContext | None) -> None:
        self._dispatch = dispatch
        self._kept = kept
        self._deck = deck
        self._tls = tls
        self._begun: dict[str, Begun] = {}
        self._latest: dict[str, LatencySummary] = {}
        self._listening = Listening()

    async def open(self, host: str, port: int) -> int:
        """Listen; answers the port. Beyond this machine only with TLS: a token is sent with every request."""
        if self._tls is None and not is_loopback(host):
            raise got(
                "remote", f"{host} without a certificate", "a loopback address, or --remote-cert and --remote-key"
            )
        hosts = None if self._tls else frozenset((*LOOPBACK, host.lower()))
        limits = Limits(body=BODY, slow=SLOW, hosts=hosts)
        return await self._listening.open("remote", (host, port), self.handle, limits, self._tls)

    async def close(self) -> None:
        """Answer what was asked, take no more."""
        self._listening.close()

    def heard(self, pulse: Pulse) -> None:
        """Remember the last second of each endpoint that had requests."""
        if isinstance(pulse, LatencySummary) and pulse.role == "live":
            self._latest[pulse.endpoint] = pulse

    async def handle(self, request: Request) -> Response:
        """One request."""
        try:
            if b"origin" in request.headers:
                raise Forbidden("got a page of a browser, expected a deck", field="origin")
            return await self._routed(request, self._speaker(request.headers))
        except Unauthenticated as error:
            return Response(401, msgspec.json.encode({"error": str(error)}))
        except Fault as fault:
            status = next(MEANINGS[kind].http for kind in type(fault).__mro__ if kind in MEANINGS)
            return Response(status, msgspec.json.encode({"fault": fault.record()}))

    def _speaker(self, headers: dict[bytes, bytes]) -> Speaker:
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        try:
            if kind.lower() != "bearer":
                raise ValueError
            speaker = speaker_of(self._dispatch.view, public_half(token.strip().encode()))
        except (ValueError, Forbidden) as error:
            raise Unauthenticated("authorization: got no token that may speak, expected a key's secret") from error
        check(speaker, Deploy(version=""))
        return speaker

    async def _routed(self, request: Request, speaker: Speaker) -> Response:
        asked: list[tuple[str, re.Pattern[str], Callable[..., Awaitable[Any]]]] = [
            ("GET", re.compile(r"/v1/status\Z"), self._status),
            ("POST", re.compile(r"/v1/bundles\Z"), self._begin),
            ("PUT", _piece, self._take_piece),
            ("POST", _finish, self._take),
            ("POST", _endpoint, self._change),
        ]
        for method, path, handle in asked:
            found = path.match(request.path)
            if found is not None and request.method == method:
                return Response(200, msgspec.json.encode(await handle(request, speaker, *found.groups())))
        raise NotFound(f"no route {request.method} {request.path[:200]!r}", field="path")

    async def _asked(self, question: Any, answer: Any, speaker: Speaker) -> Any:
        return await self._dispatch.speak(question, answer, speaker=speaker)

    async def _status(self, request: Request, speaker: Speaker) -> DeckThere:
        found: list[Deployment] = await self._asked(ListDeployments(), list[Deployment], speaker)
        return DeckThere(
            deck=self._deck,
            version=version("quarterdeck"),
            profile=self._dispatch.profile,
            endpoints=tuple(map(self._there, found)),
        )

    def _there(self, found: Deployment) -> EndpointThere:
        latest = self._latest.get(found.endpoint)
        fresh = latest if latest is not None and latest.version == found.live and self._is_fresh(latest) else None
        newest = max(
            (each for each in self._dispatch.view.bundles if each.version == found.live),
            key=lambda each: each.serial,
            default=None,
        )
        return EndpointThere(
            endpoint=found.endpoint,
            state=found.state,
            live=found.live,
            epoch=found.epoch,
            why=found.why,
            pending=found.pending,
            bundle=newest.id if newest else None,
            requests=fresh.requests if fresh else None,
            errors=fresh.errors if fresh else None,
            p95=fresh.p95 if fresh else None,
        )

    def _is_fresh(self, latest: LatencySummary) -> bool:
        return time.time() - latest.at < FRESH

    async def _begin(self, request: Request, speaker: Speaker) -> BundlePlan:
        """A bundle is announced, or gone on with: what is here of each file is said either way."""
        given = _body(request, CheckBundle)
        plan: BundlePlan = await self._asked(given, BundlePlan, speaker)
        self._begun.pop(plan.id, None)
        self._begun[plan.id] = Begun(by=speaker.key, given=given, plan=plan)
        while len(self._begun) > UNDER_WAY:
            del self._begun[next(iter(self._begun))]
        return plan

    def _under_way(self, own: str, speaker: Speaker) -> Begun:
        found = self._begun.get(own)
        if found is None or found.by != speaker.key:
            raise NotFound("got a bundle that was not begun", field="bundle", next="begin it again")
        return found

    async def _take_piece(self, request: Request, speaker: Speaker, own: str, digest: str) -> Received:
        begun = self._under_way(own, speaker)
        if digest not in begun.plan.files:
            raise NotFound("got a file that the manifest does not name", field="file")
        offset = parse_qs(request.query).get("offset", ["0"])[-1]
        if not offset.isdecimal() or len(offset) > 15:
            raise got("offset", offset, "bytes from the start of the file")
        size = begun.plan.files[digest][0]
        if int(offset) + len(request.body) > size:
            raise got("offset", f"{offset} and {len(request.body)} bytes", f"at most {size} in all")
        return Received(await asyncio.to_thread(self._keep, begun, digest, int(offset), request.body, size))

    def _keep(self, begun: Begun, digest: str, offset: int, data: bytes, size: int) -> int:
        if self._dispatch.writer.read_only is not None:
            raise self._dispatch.writer.full()
        whole = digest if offset + len(data) == size else None
        name = upload_name(begun.plan.sender, digest)
        return self._kept.receive(name, offset, data, whole)[0]

    async def _take(self, request: Request, speaker: Speaker, own: str) -> Bundle:
        taken = self._dispatch.view.bundles.get(own)
        if taken is not None:
            return taken
        given = self._under_way(own, speaker).given
        act = TakeBundle(manifest=given.manifest, signature=given.signature, key=given.key)
        bundle: Bundle = await self._dispatch.speak(act, Bundle, request=f"take-{own[:32]}", speaker=speaker)
        self._begun.pop(own, None)
        return bundle

    async def _change(self, request: Request, speaker: Speaker, endpoint: str, what: str) -> EndpointThere:
        asked = _body(request, Errand)
        name = hashlib.sha256(f"{asked.change or request.began} {what}".encode()).hexdigest()[:24]
        if what == "deploy":
            await self._deploy(asked, speaker, unquote(endpoint), name)
        else:
            act = RollBack(endpoint=unquote(endpoint), reason=asked.reason)
            await self._dispatch.speak(act, request=f"back-{name}", speaker=speaker)
        return self._there(deployment_of(self._dispatch.view, unquote(endpoint)))

    async def _deploy(self, asked: Errand, speaker: Speaker, endpoint: str, name: str) -> None:
        """Production, then traffic: by the rules of this deck, whatever the sender's say."""
        view = self._dispatch.view
        bundle = bundle_of(view, asked.bundle)
        version_here = view.versions[bundle.version]
        if asked.environment not in places_of(view, version_here):
            move = MoveStage(
                version=version_here.id,
                stage="Production",
                environment=asked.environment,
                skip_stage=True,
                reason=f"{bundle.theirs} of {bundle.sender}, bundle {bundle.id[:12]}",
            )
            await self._moved(move, speaker, name)
        act = Deploy(version=version_here.id, endpoint=endpoint, environment=asked.environment)
        try:
            await self._dispatch.speak(act, request=f"deploy-{name}", speaker=speaker)
        except Conflict:
            found = view.deployments.get(endpoint)
            if found is None or found.live != version_here.id:
                raise

    async def _moved(self, move: MoveStage, speaker: Speaker, name: str) -> None:
        """Into Production, or an approval is asked for: then somebody here has to say yes before it is sent again."""
        try:
            await self._dispatch.speak(move, request=f"stage-{name}", speaker=speaker)
        except NeedsApproval as needed:
            asked = Propose(act=plain(move), reason=move.reason)
            approval: Approval = await self._dispatch.speak(asked, Approval, request=f"propose-{name}", speaker=speaker)
            raise NeedsApproval(
                f"{move.version} is there, and {approval.id} waits for a person there",
                field="approval",
                next=f"they run: qd approve {approval.id}; then deploy it again",
            ) from needed


def _body(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(request.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise got("body", str(error)[:200], f"the JSON of {kind.__name__}") from error
