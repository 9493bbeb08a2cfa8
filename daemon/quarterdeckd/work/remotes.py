"""What goes to other decks: each change that waits is made, its bundle sent from where the last attempt ended; and what
was deployed there is looked after."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from msgspec.structs import replace

from quarterdeckd.api.dispatch import Dispatch, Prepare, Wide
from quarterdeckd.api.identity import deck_name
from quarterdeckd.bus import Bus, Kept
from quarterdeckd.services.remotes import remote_of
from quarterdeckd.services.signing import public_of
from quarterdeckd.services.targets import checked_url
from quarterdeckd.work import receivers
from quarterdeckd.work.patience import Patience
from quarterdeckd.work.remote_line import Line
from quarterdeckd.work.sending import Sending
from quarterdeckd.work.tokens import certificates_in, checked_token, secret_in, sender_key
from quarterstore.ledger.state import State
from quarterstore.records import remotes
from quarterstore.records.faults import Conflict, Fault, NotFound, Unreachable, got
from quarterstore.records.ids import new_id
from quarterstore.records.places import Home
from quarterstore.records.store import Finding
from quarterstore.shelf.artefacts import Artefacts
from quarterstore.shelf.files import write_whole

log = logging.getLogger(__name__)
NOTE_AGAIN = 5.0
"""Seconds until an outcome is noted again that the store had no room for."""
KEPT_IN = {
    "file": "a file that only you can read",
    "keyring": "the desktop's keyring",
    "credentials": "the service's credentials",
}
T = TypeVar("T")


class Remotes:
    """Works off the changes that wait in the state, one remote beside the other: one that is silent holds up nobody
    else, and whatever a crash cut off still waits."""

    def __init__(self, home: Home, view: State, dispatch: Dispatch, bus: Bus, kept: Artefacts) -> None:
        self._home = home
        self._view = view
        self._dispatch = dispatch
        self._bus = bus
        self._sending = Sending(home, view, kept, bus)
        self._patience: dict[str, Patience] = {}
        self._heard: dict[str, remotes.RemoteStatus] = {}
        self._going: dict[str, asyncio.Task[None]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._waiting: set[asyncio.Task[Any]] = set()
        """What threads wait for."""
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self.resolve = receivers.resolved

    def readers(self) -> dict[type, Wide]:
        """What is asked -> what answers it, in threads of their own."""
        return {
            remotes.ShowRemote: lambda query, speaker, seen: self._waited(self._asked(query.remote)),
            remotes.ListReached: lambda query, speaker, seen: self._reached(),
            remotes.ShowIdentity: lambda query, speaker, seen: remotes.Identity(
                deck=deck_name(self._home), key=public_of(sender_key(self._home))
            ),
        }

    # what is added to acts, in threads

    def preparers(self) -> dict[type, Prepare]:
        """Acts that a remote has to be looked at for -> what does so."""
        return {
            remotes.AddRemote: self.prepared,
            remotes.SendVersion: self.reached,
            remotes.RollBackThere: self.reached,
        }

    def prepared(self, act: remotes.AddRemote) -> remotes.AddRemote:
        """The act to add a remote with what only the daemon can say: the name of its kept token, its certificates. The
        token never comes near the journal."""
        checked_url(act.url, "url")  # before anything is written
        if (act.kept == "file") != (act.token_file is not None):
            raise got("token_file", act.token_file or "none", "a file where the token is kept in one, none elsewhere")
        ca = "" if act.ca_file is None else certificates_in("ca_file", act.ca_file)
        token = str(act.kept)
        if act.token_file is not None:
            token = new_id("remotetoken").lower()
            secret = checked_token("token_file", secret_in("token_file", act.token_file))
            write_whole(self._home.remote_token(token), secret.encode())
        return replace(act, token=token, ca=ca, token_file=None, ca_file=None)

    def reached(self, act: remotes.SendVersion | remotes.RollBackThere) -> Any:
        """The act, once its remote has answered; `Unreachable`, and nothing is kept, where it does not."""
        status = self._waited(self._asked(act.remote))
        if status.state == "UNREACHABLE":
            raise Unreachable(status.why, field=status.remote, next=f"qd remote status {status.remote}")
        return act

    def _waited(self, doing: Coroutine[Any, Any, T]) -> T:
        """What a coroutine finds, for a thread; `Unreachable` as soon as the daemon ends."""

        async def done() -> T:
            task = self._loop.create_task(doing)
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
            if self._stopping:
                task.cancel()
            return await task

        try:
            return asyncio.run_coroutine_threadsafe(done(), self._loop).result()
        except CancelledError:
            raise Unreachable("the daemon ends, and waits for no other one", field="remote") from None

    # how remotes are

    def line(self, remote: remotes.Remote) -> Line:
        """A connection, with the one patience that there is with that remote."""
        patience = self._patience.setdefault(remote.name, Patience())
        return Line(self._home, remote, patience, self.resolve)

    async def _asked(self, name: str) -> remotes.RemoteStatus:
        """How a remote is now; remembered, and told to whoever looks."""
        remote = remote_of(self._view, name)
        before = self._heard.get(name) or self._remembered(remote)
        try:
            async with self.line(remote) as line:
                there = await line.ask("GET", "/v1/status", remotes.DeckThere)
            status = remotes.RemoteStatus(
                remote=name,
                url=remote.url,
                state="REACHABLE",
                heard=time.time(),
                deck=there.deck,
                version=there.version,
                profile=there.profile,
                endpoints=there.endpoints,
            )
        except Fault as fault:
            status = _without_answer(before, fault, patience.failures if (patience := self._patience.get(name)) else 0)
        self._heard[name] = status
        self._bus.pulse(remotes.RemoteReading(status=status))
        return status

    def _remembered(self, remote: remotes.Remote) -> remotes.RemoteStatus:
        """What is known of a remote before it was asked: what was deployed there last."""
        sent = sorted(self._view.remote_changes, key=lambda each: each.serial)
        last = {each.endpoint: each.there for each in sent if each.remote == remote.name and each.state == "DONE"}
        endpoints = tuple(
            remotes.EndpointThere(endpoint=endpoint, state="UNREACHABLE", live=live, epoch=0)
            for endpoint, live in last.items()
        )
        return remotes.RemoteStatus(remote=remote.name, url=remote.url, state="UNREACHABLE", endpoints=endpoints)

    def _reached(self) -> list[remotes.RemoteStatus]:
        found = (self._heard.get(each.name) for each in sorted(self._view.remotes, key=lambda each: each.name))
        return [each for each in found if each is not None]

    def _looked_after(self) -> list[str]:
        """Remotes that something was deployed on."""
        sent = {each.remote for each in self._view.remote_changes if each.kind == "deploy" and each.state == "DONE"}
        return [each.name for each in self._view.remotes if each.name in sent]

    async def run(self, every: float) -> None:
        """Until cancelled: make what waits, and ask those that something was deployed on how they are."""
        self._bus.on_kept(self._kept)
        self._look()
        while True:
            for name in self._looked_after():
                if name not in self._asking:
                    self._asking[name] = self._loop.create_task(self._asked_again(name))
            await asyncio.sleep(every)

    async def _asked_again(self, name: str) -> None:
        try:
            await self._asked(name)
        except NotFound:  # removed meanwhile
            pass
        except Exception:
            log.exception("%s could not be asked", name)
        finally:
            del self._asking[name]

    def findings(self) -> list[Finding]:
        """What the doctor says of remotes: where each token is kept, and who does not answer."""
        if not len(self._view.remotes):
            return []
        away = [each for each in self._reached() if each.state != "REACHABLE"]
        kept = [f"the token of {each.name} is in {KEPT_IN[each.kept]}" for each in self._view.remotes]
        words = [f"{each.remote} is {each.state}: {each.why}" for each in away] + kept
        todo = f"qd remote status {away[0].remote}" if away else ""
        return [Finding(name="remotes", ok=not away, words="; ".join(words), next=todo)]

    # what is to be made

    def _kept(self, kept: Kept) -> None:
        for event in kept.events:
            if isinstance(event, remotes.RemoteRemoved):
                self._home.remote_token(event.token).unlink(missing_ok=True)
                self._heard.pop(event.name, None)
                self._patience.pop(event.name, None)
        self._look()

    def _look(self) -> None:
        for change in self._view.remote_changes:
            if change.state == "WAITING" and change.remote not in self._going:
                self._going[change.remote] = self._loop.create_task(self._work_off(change.remote))

    async def _work_off(self, name: str) -> None:
        try:
            while (change := self._next(name)) is not None:
                await self._note(change, await self._made(change))
        except Exception:
            log.exception("%s: its changes stop until the next entry", name)
        finally:
            del self._going[name]

    def _next(self, name: str) -> remotes.RemoteChange | None:
        waiting = [each for each in self._view.remote_changes if each.remote == name and each.state == "WAITING"]
        return min(waiting, key=lambda each: each.serial, default=None)

    async def _made(self, change: remotes.RemoteChange) -> remotes.NoteChange:
        """Make a change; what to note of it."""
        remote = self._view.remotes[change.remote]
        try:
            async with self.line(remote) as line:
                ended = await self._sending.make(change, remote, line)
        except Fault as fault:
            log.warning("%s: %s", change.id, fault.line())
            ended = remotes.NoteChange(change=change.id, ok=False, fault=type(fault).__name__, why=fault.line())
        except Exception as error:
            log.exception("%s", change.id)
            words = f"an error of the daemon's own ({type(error).__name__})"
            ended = remotes.NoteChange(change=change.id, ok=False, fault="Failed", why=words)
        return ended

    async def _note(self, change: remotes.RemoteChange, act: remotes.NoteChange) -> None:
        while True:
            try:
                await self._dispatch.speak(act)
                return
            except (Conflict, NotFound) as fault:
                log.info("%s: %s", change.id, fault.line())
                return
            except Fault as fault:
                log.warning("%s could not be noted: %s", change.id, fault.line())
                await asyncio.sleep(NOTE_AGAIN)

    def drop_tokens(self) -> None:
        """Forget those of acts that were refused, or that a crash cut off; before any act is taken."""
        named = {f"{each.token}.token" for each in self._view.remotes}
        for path in self._home.keys.glob("remotetoken-*.token"):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def stop(self) -> None:
        """Let go: what is on its way goes on at the next start."""
        self._stopping = True
        for task in (*self._going.values(), *self._asking.values(), *self._waiting):
            task.cancel()


def _without_answer(before: remotes.RemoteStatus, fault: Fault, failures: int) -> remotes.RemoteStatus:
    """How a remote is that gave no answer, or one that says no: nothing is known of its traffic now, which is not 0."""
    gone = isinstance(fault, Unreachable)
    unknown = tuple(
        replace(each, state="UNREACHABLE" if gone else "REFUSED", requests=None, errors=None, p95=None)
        for each in before.endpoints
    )
    return replace(
        before,
        state="UNREACHABLE" if gone else "REFUSED",
        why=fault.message if gone else fault.line(),
        failures=failures,
        endpoints=unknown,
    )
