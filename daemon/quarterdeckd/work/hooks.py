"""The calls of hooks: what is owed is made one after the other for each hook, tried three times, noted in the journal;
a gate is asked once, before the act it guards."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from quarterdeckd.api.dispatch import Dispatch, Prepare
from quarterdeckd.bus import Kept
from quarterdeckd.services.targets import checked_url
from quarterdeckd.work import receivers
from quarterdeckd.work.programs import checked_program, run_program
from quarterdeckd.work.tokens import secret_in
from quarterstore.ledger.folding import events_of
from quarterstore.ledger.journal import Entry
from quarterstore.ledger.state import State
from quarterstore.records import hooks
from quarterstore.records.base import tag_of
from quarterstore.records.faults import Conflict, Fault, NotFound, Refused
from quarterstore.records.ids import new_id
from quarterstore.records.names import drawn
from quarterstore.records.places import Home
from quarterstore.shelf.files import write_whole

log = logging.getLogger(__name__)
BACK_OFF = (1.0, 4.0)
"""Seconds between the attempts: three of them."""
AT_ONCE = 8
"""Calls in flight, of each kind."""
GATE_WITHIN = 20.0
"""Seconds a program has at most as a gate, because somebody waits (a console for 30 s)."""
NOTE_AGAIN = 5.0
"""Seconds until an outcome is noted again that the store had no room for."""
PATH = f"/usr/local/bin:/usr/bin:/bin:{Path(sys.executable).parent}"
"""Where a program finds others; qd is beside us."""


class Called(NamedTuple):
    """How one call ended; `verdict` is what a receiver says as a gate."""

    ok: bool
    words: str
    status: int | None = None
    output: str = ""
    verdict: tuple[bool, str] | None = None

    @property
    def says(self) -> tuple[bool, str]:
        """Yes or no, and why, of a gate: a program by its exit status and its last line."""
        if self.verdict is not None:
            return self.verdict
        lines = self.output.splitlines()
        return self.ok, drawn(lines[-1], longest=300) if lines else self.words


class Hooks:
    """Works off the deliveries that wait in the state: whatever a crash cut off still waits there."""

    def __init__(
        self, home: Home, view: State, dispatch: Dispatch, entry_at: Callable[[int], Entry], within: float
    ) -> None:
        self._home = home
        self._view = view
        self._dispatch = dispatch
        self._entry_at = entry_at
        self._within = within
        self._going: dict[str, asyncio.Task[None]] = {}
        self._slots = {kind: asyncio.Semaphore(AT_ONCE) for kind in ("exec", "webhook", "gate")}
        # of their own, so that programs that hang hold up neither a gate nor what else runs in threads
        self._threads = ThreadPoolExecutor(2 * AT_ONCE, thread_name_prefix="hook")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="hook-reader")
        self._groups: set[int] = set()
        self.resolve = receivers.resolved
        self._stopping = False

    @cached_property
    def _source(self) -> str:
        """What a CloudEvent calls this deck: made of its public key, so that two decks never share one."""
        return f"urn:quarterdeck:{hashlib.sha256(self._home.server_public.read_bytes()).hexdigest()[:16]}"

    def start(self) -> None:
        """Make what waits, from here on."""
        self._look()

    def kept(self, kept: Kept) -> None:
        """Look whether an entry owes something."""
        for event in kept.events:
            if isinstance(event, hooks.HookRemoved) and event.secret is not None:
                self._home.hook_secret(event.secret).unlink(missing_ok=True)
        self._look()

    def _look(self) -> None:
        for hook in self._view.hooks:
            if hook.waiting and not hook.paused and hook.id not in self._going:
                self._going[hook.id] = asyncio.get_running_loop().create_task(self._work_off(hook.id))

    async def _work_off(self, hook: str) -> None:
        try:
            while (delivery := self._next(hook)) is not None:
                await self._deliver(self._view.hooks[hook], delivery)
        except Exception:
            log.exception("%s: its deliveries stop until the next entry", hook)
        finally:
            del self._going[hook]

    def _next(self, hook: str) -> hooks.Delivery | None:
        found = self._view.hooks.get(hook)
        if found is None or found.paused:
            return None
        waiting = [each for each in self._view.deliveries if each.hook == hook and each.state == "WAITING"]
        return min(waiting, key=lambda each: (each.seq, each.nth), default=None)

    async def _deliver(self, hook: hooks.Hook, delivery: hooks.Delivery) -> None:
        attempts: list[hooks.Attempt] = []
        for pause in (0.0, *BACK_OFF):
            await asyncio.sleep(pause)
            attempts.append(await self._attempt(hook, delivery))
            if attempts[-1].ok:
                break
            log.warning("%s: %s: %s", hook.id, delivery.id, attempts[-1].words)
        act = hooks.NoteDelivery(delivery=delivery.id, rounds=delivery.rounds, attempts=tuple(attempts))
        while True:
            try:
                await self._dispatch.speak(act)  # its rule knows a second one by the delivery's state and round
                return
            except (Conflict, NotFound) as fault:  # removed meanwhile
                log.info("%s: %s", delivery.id, fault.line())
                return
            except Fault as fault:
                log.warning("%s could not be noted: %s", delivery.id, fault.line())
                await asyncio.sleep(NOTE_AGAIN)

    async def _attempt(self, hook: hooks.Hook, delivery: hooks.Delivery) -> hooks.Attempt:
        async with self._slots[hook.kind]:
            at, began = time.time(), time.monotonic()
            try:
                body = await asyncio.get_running_loop().run_in_executor(self._readers, self._content, hook, delivery)
                called = await self.call(hook, delivery.id, delivery.event, body, self._within)
            except (Fault, OSError) as error:
                called = Called(False, _line(error))
            except Exception as error:
                log.exception("%s: %s", hook.id, delivery.id)
                called = Called(False, f"an error of the daemon's own ({type(error).__name__})")
        seconds = round(time.monotonic() - began, 3)
        return hooks.Attempt(
            at=at, seconds=seconds, ok=called.ok, words=called.words, status=called.status, output=called.output
        )

    async def ask(self, gate: hooks.Hook, id_: str, subject: str, data: dict[str, Any]) -> tuple[bool, str]:
        """What a gate says: yes or no, in its words. One attempt, because somebody waits; no answer is a no."""
        body = self._cloud_event(id_, "hooks.asked", subject, time.time(), data, {})
        try:
            async with self._slots["gate"]:
                called = await self.call(gate, id_, "asked", body, min(self._within, GATE_WITHIN))
        except (Fault, OSError) as error:
            return False, f"no answer: {_line(error)}"
        except Exception as error:
            log.exception("%s: asked of %s", gate.id, subject)
            return False, f"no answer: an error of the daemon's own ({type(error).__name__})"
        return called.says

    def _content(self, hook: hooks.Hook, delivery: hooks.Delivery) -> bytes:
        """The CloudEvent of a delivery, from the journal; in a thread."""
        entry = self._entry_at(delivery.seq)
        wanted = [event for event in map(_lifted, events_of(entry.events)) if hooks.wants(hook, event)]
        event = wanted[delivery.nth]
        about = {"sequence": str(entry.seq), "actor": entry.actor, "act": entry.act}
        return self._cloud_event(delivery.id, tag_of(type(event)), delivery.subject, entry.at, event, about)

    def _cloud_event(self, id_: str, tag: str, subject: str, at: float, data: Any, about: dict[str, str]) -> bytes:
        """CloudEvents 1.0 in its structured JSON form."""
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields: dict[str, Any] = {
            "specversion": "1.0",
            "id": id_,
            "source": self._source,
            "type": f"quarterdeck.{tag}",
            "time": when,
            "datacontenttype": "application/json",
            **({"subject": subject} if subject else {}),
            **about,
            "data": data,
        }
        return msgspec.json.encode(fields)

    async def call(self, hook: hooks.Hook, id_: str, event: str, body: bytes, seconds: float) -> Called:
        """Run the program, or post to the receiver, once; raises `Fault` or `OSError` where that was not possible."""
        if hook.kind == "exec":
            return await self._run(hook, id_, event, body, seconds)
        secret = await asyncio.get_running_loop().run_in_executor(self._readers, self._secret_of, hook)
        told = await receivers.post(hook, body, secret, self.resolve)
        ok = 200 <= told.status < 300
        words = f"it answered {told.status}" + (", and nothing is followed" if 300 <= told.status < 400 else "")
        return Called(ok, words, told.status, receivers.words_of(told), receivers.verdict_of(told))

    async def _run(self, hook: hooks.Hook, id_: str, event: str, body: bytes, seconds: float) -> Called:
        environ = {
            "PATH": PATH,
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
            "QUARTERDECK_HOME": str(self._home.root),
            "QUARTERDECK_HOOK": hook.id,
            "QUARTERDECK_EVENT": event,
            "QUARTERDECK_DELIVERY": id_,
            **({"XDG_RUNTIME_DIR": runtime} if (runtime := os.environ.get("XDG_RUNTIME_DIR")) else {}),
        }
        started: list[int] = []

        def note(group: int) -> None:
            started.append(group)
            self._groups.add(group)
            if self._stopping:
                os.killpg(group, signal.SIGKILL)

        def run() -> Called:
            program = checked_program(hook.target)
            if program != hook.target:
                raise Refused(f"{hook.target} leads to {program} by now", field="target", next="add the hook again")
            try:
                ran = run_program([program, *hook.args], body, environ, seconds, note)
            finally:
                self._groups.difference_update(started)
            if ran.status is None:
                return Called(False, f"it was ended after {seconds:g} s", None, ran.output)
            how = f"ended by {signal.Signals(-ran.status).name}" if ran.status < 0 else f"exit {ran.status}"
            return Called(ran.status == 0, how, ran.status, ran.output)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    def stop(self) -> None:
        """End the programs that run and let go: what they were told of waits for the next start."""
        self._stopping = True
        for task in self._going.values():
            task.cancel()
        for group in list(self._groups):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for pool in (self._threads, self._readers):
            pool.shutdown(cancel_futures=True)

    # what is kept beside the journal

    def preparers(self) -> dict[type, Prepare]:
        """The act to add a hook -> what adds to it, in threads."""
        return {hooks.AddHook: self.prepared}

    def prepared(self, act: hooks.AddHook) -> hooks.AddHook:
        """An act to add a hook with what only the daemon can say: the program's own path, and the name of a kept
        secret; in a thread, because files are looked at. The secret never comes near the journal."""
        if act.target.startswith("exec:"):
            return replace(act, program=checked_program(act.target.removeprefix("exec:")), secret=None)
        checked_url(act.target)  # before anything is written
        secret = (
            secrets.token_hex(32).encode() if act.secret_file is None else secret_in("secret_file", act.secret_file)
        )
        name = new_id("hooksecret").lower()
        write_whole(self._home.hook_secret(name), secret)
        return replace(act, program=None, secret=name)

    def _secret_of(self, hook: hooks.Hook) -> bytes:
        path = self._home.hook_secret(str(hook.secret))
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(
                f"{path.name} is not there", field="secret", next="bring it back, or add the hook again"
            ) from error

    def drop_secrets(self) -> None:
        """Forget those of acts that were refused, or that a crash cut off; before any act is taken."""
        named = {f"{hook.secret}.hook" for hook in self._view.hooks}
        for path in self._home.keys.glob("hooksecret-*.hook"):
            if path.name not in named:
                path.unlink(missing_ok=True)


def _lifted(event: Any) -> Any:
    return event.lift()


def _line(error: Fault | OSError) -> str:
    return drawn(error.line() if isinstance(error, Fault) else str(error.strerror or error), longest=500)
