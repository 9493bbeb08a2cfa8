"""One change on one remote: the bundle is made and signed, its files go over in pieces from where they ended, and the
endpoint there is followed until its version answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import msgspec

from quarterdeckd.bus import Bus
from quarterdeckd.services.signing import public_of, sign
from quarterdeckd.work.remote_line import Line
from quarterdeckd.work.tokens import sender_key
from quarterstore.ledger.state import State
from quarterstore.records import remotes
from quarterstore.records.faults import Conflict, Failed, NotFound, TimedOut, Unreachable
from quarterstore.records.names import drawn
from quarterstore.records.places import Home
from quarterstore.records.registry import Version
from quarterstore.shelf.artefacts import Artefacts

PIECE = 1024 * 1024
"""Bytes of a file that go in one request, each of which has the remote's whole time."""
PAUSES = (0.2, 0.4, 0.8, 1.6)
"""Seconds between asking again a remote that stopped answering in the middle."""
ADMITTED_WITHIN = 180.0
"""Seconds that a remote may take to admit a version: it answers its golden rows in a job there."""
LOOKED_EVERY = (0.1, 1.0)
"""Seconds between two looks at an endpoint that admits: at first, and later."""


class Sending:
    """Makes changes over a line that is given."""

    def __init__(self, home: Home, view: State, kept: Artefacts, bus: Bus) -> None:
        self._home = home
        self._view = view
        self._kept = kept
        self._bus = bus

    async def make(self, change: remotes.RemoteChange, remote: remotes.Remote, line: Line) -> remotes.NoteChange:
        """Make one change and say what came of it; raises the fault that ended it."""
        if change.kind == "rollback":
            given = remotes.Errand(reason=change.reason or f"asked by {change.asked_by}", change=change.id)
            back = await line.ask("POST", _path(change, "rollback"), remotes.EndpointThere, given=given)
            return remotes.NoteChange(change=change.id, ok=True, there=drawn(back.live or "none", longest=300))
        bundle, taken = await self._sent(change, remote, line)
        given = remotes.Errand(bundle=bundle, environment=change.environment, change=change.id)
        there = await line.ask("POST", _path(change, "deploy"), remotes.EndpointThere, given=given)
        await self._live(change, remote, line, taken.version, there)
        return remotes.NoteChange(change=change.id, ok=True, bundle=bundle, there=drawn(taken.version, longest=300))

    async def _sent(
        self, change: remotes.RemoteChange, remote: remotes.Remote, line: Line
    ) -> tuple[str, remotes.Bundle]:
        there = await line.ask("GET", "/v1/status", remotes.DeckThere)
        given = await asyncio.to_thread(self._signed, change, there.deck)
        plan = await self._with_files(change, remote, line, given)
        bundle = await line.ask("POST", f"/v1/bundles/{plan.id}/finish", remotes.Bundle)
        return plan.id, bundle

    def _signed(self, change: remotes.RemoteChange, receiver: str) -> remotes.CheckBundle:
        """The manifest of a change, signed; the same bytes whenever it is made again for the same change."""
        version = self._view.versions[str(change.version)]
        golden = version.golden
        manifest = remotes.Manifest(
            form=remotes.FORM,
            receiver=receiver,
            serial=change.serial,
            at=change.at,
            sent_by=change.asked_by,
            model=version.model,
            version=version.id,
            semver=version.semver,
            digest=version.digest,
            size=self._size(version.digest),
            format=version.format,
            signature=version.signature,
            golden=golden,
            golden_size=self._size(golden) if golden else 0,
            metrics=version.metrics,
            notes=version.notes,
            provenance=self._provenance(version),
        )
        text, secret = msgspec.json.encode(manifest).decode(), sender_key(self._home)
        return remotes.CheckBundle(manifest=text, signature=sign(secret, text), key=public_of(secret))

    def _size(self, digest: str) -> int:
        return self._kept.checked(digest).stat().st_size

    def _provenance(self, version: Version) -> dict[str, str]:
        run = self._view.runs.get(version.run or "")
        tenure = next((each for each in self._view.tenures if each.version == version.id and each.until is None), None)
        about = {
            "run": version.run,
            "commit": run.source.commit if run and run.source else None,
            "dataset": version.dataset,
            "parent": version.parent,
            "made_by": version.created_by,
            "approved_by": tenure.approved_by if tenure else None,
        }
        return {name: drawn(value, longest=200) for name, value in about.items() if value}

    async def _with_files(
        self, change: remotes.RemoteChange, remote: remotes.Remote, line: Line, given: remotes.CheckBundle
    ) -> remotes.BundlePlan:
        """The plan of a bundle whose files are all there. A remote that hangs up in the middle, or was started anew, is
        asked again where it is; one that was silent for its whole time is given up."""
        pauses, worked = iter(PAUSES), time.monotonic()
        while True:
            try:
                plan = await line.ask("POST", "/v1/bundles", remotes.BundlePlan, given=given)
                for digest, (size, here) in plan.files.items():
                    async for _ in self._pieces(change, line, plan.id, digest, here, size):
                        pauses, worked = iter(PAUSES), time.monotonic()
                return plan
            except (Unreachable, NotFound, Conflict):
                pause = next(pauses, None)
                if pause is None or time.monotonic() + pause > worked + remote.within:
                    raise
                await asyncio.sleep(pause)

    async def _pieces(
        self, change: remotes.RemoteChange, line: Line, bundle: str, digest: str, offset: int, size: int
    ) -> AsyncIterator[int]:
        """Send the rest of a file, a piece at a time; yields how much is there."""
        path = self._kept.path(digest)
        while offset < size:
            data = await asyncio.to_thread(_read, path, offset)
            route = f"/v1/bundles/{bundle}/files/{digest}?offset={offset}"
            taken = await line.ask("PUT", route, remotes.Received, data=data)
            offset += len(data)
            if taken.received < offset:
                raise Failed(f"{change.remote} has {taken.received} bytes of {offset}", field="remote")
            words = f"{change.version} to {change.remote}"
            self._bus.pulse(
                remotes.SendProgress(change=change.id, remote=change.remote, sent=offset, size=size, words=words)
            )
            yield offset

    async def _live(
        self,
        change: remotes.RemoteChange,
        remote: remotes.Remote,
        line: Line,
        version: str,
        there: remotes.EndpointThere,
    ) -> None:
        """Until the version answers there, or does not."""
        deadline, (pause, longest) = time.monotonic() + ADMITTED_WITHIN, LOOKED_EVERY
        while there.live != version:
            if there.pending != version:
                raise Failed(
                    f"{remote.name} did not admit it: {there.why or there.state}",
                    field="remote",
                    next=f"qd remote rollback {remote.name} {change.endpoint}",
                )
            if time.monotonic() > deadline:
                raise TimedOut(f"{remote.name} still admits it after {ADMITTED_WITHIN:g} s", field="remote")
            await asyncio.sleep(pause)
            pause = min(longest, 2 * pause)
            found = await line.ask("GET", "/v1/status", remotes.DeckThere)
            there = next((each for each in found.endpoints if each.endpoint == change.endpoint), there)


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(PIECE)


def _path(change: remotes.RemoteChange, what: str) -> str:
    return f"/v1/endpoints/{quote(change.endpoint, safe='')}/{what}"
