"""The dispatch: every message, from whichever way in, is permitted, routed to its rule or reader, and answered once."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from quarterdeckd.api.clock import Clock
from quarterdeckd.api.permissions import DAEMON, Speaker, check
from quarterdeckd.api.posting import Poster
from quarterdeckd.api.syncing import Syncing
from quarterdeckd.api.writer import EXIT_UNSYNCED, Asked, Group, Outcome, Writer, body_of
from quarterdeckd.bus import Bus
from quarterdeckd.services.deciding import Answerer, Asking
from quarterstore.ledger.book import Changes
from quarterstore.ledger.state import State
from quarterstore.records.base import Act, Query, tag_of
from quarterstore.records.batches import StartBatch
from quarterstore.records.checks import CheckRows
from quarterstore.records.datasets import AddDataset, CompareDatasets
from quarterstore.records.faults import Failed, Fault, Full
from quarterstore.records.ids import new_id
from quarterstore.records.online import PushRows
from quarterstore.records.outcomes import AddOutcomes
from quarterstore.records.pipelines import CheckPipeline
from quarterstore.records.registry import RegisterVersion
from quarterstore.records.remotes import RollBackThere, SendVersion, ShowRemote, TakeBundle
from quarterstore.records.runs import LogMetrics
from quarterstore.records.store import PutBlob
from quarterstore.records.wire import decode, encode
from quarterstore.shelf.files import NO_ROOM

log = logging.getLogger(__name__)
TAKES_ROOM = (LogMetrics, PutBlob, AddOutcomes, PushRows)
"""What is written beside the journal: on a full disk it would eat the reserve."""
LOOKED_AT = (RegisterVersion, StartBatch, TakeBundle)
"""What a process reads a file for, which takes seconds, or a minute of a bad one: in threads of its own, so that no
question waits behind it."""
COUNTED = (AddDataset, CompareDatasets, CheckPipeline, CheckRows, AddOutcomes)
"""What a child may work on for minutes: in a thread of their own, so that nobody else's waits behind them."""
AWAY = (ShowRemote, SendVersion, RollBackThere)
"""What waits for another machine: in threads of their own, or one that is silent would hold up what is asked here."""
Reply = Callable[[Outcome], None]
Wide = Callable[[Any, Speaker, int], Any]
"""A reader that may take a while: message, speaker, the seq that must be visible; runs in a thread."""
Quick = Callable[[Any, Speaker], Any]
"""A taker of samples: runs on the loop."""
Prepare = Callable[[Any], Any]
"""What adds to an act before it is decided, or refuses it."""


class Dispatch:
    """Routes messages; owns `view`, the state as it is certain, which queries read on the loop."""

    def __init__(
        self, view: State, answers: dict[type[Query[Any]], Answerer], bus: Bus, profile: str, clock: Clock
    ) -> None:
        self.view = view
        self.seq = 0
        self.profile = profile
        self._clock = clock
        self.wide: dict[type, Wide] = {}
        self.quick: dict[type, Quick] = {}
        self.enrich: dict[type, Prepare] = {}
        """Acts that the daemon adds something to before they are decided (the last metrics to the end of a run)."""
        self.prepare: dict[type, Prepare] = {}
        """The same for what takes a while (a file is looked at): done in a thread, the act is queued after it."""
        self.hold: Callable[[Asked], Coroutine[Any, Any, None] | None] = lambda asked: None
        """What a person's act has to wait for outside the daemon, if anything: it is queued after that."""
        self._holding: dict[str, list[Asked]] = {}
        self.on_changes: Callable[[Changes], None] = lambda changes: None
        """Told of every change once the view has it."""
        self.writer: Writer
        self.poster: Poster
        self.syncing: Syncing
        """Of the points: what durable ones wait for."""
        self._answers = answers
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="reader")
        self._lookers = ThreadPoolExecutor(2, thread_name_prefix="looker")
        self._counters = ThreadPoolExecutor(1, thread_name_prefix="counter")
        self._away = ThreadPoolExecutor(8, thread_name_prefix="away")
        self._under_way: dict[str, list[Reply]] = {}

    def ask(self, message: Any, request: str, speaker: Speaker, seen: int, reply: Reply) -> None:
        """Handle one message; `reply` is called once, on the loop."""
        kind = type(message)
        try:
            check(speaker, message)
            if kind in TAKES_ROOM and self.writer.read_only is not None:
                raise self.writer.full()
            if kind in self._answers:
                reply(Outcome(encode(self._answered(message, speaker)), self.seq, None))
            elif kind in self.quick:
                self._taken(message, Outcome(encode(self.quick[kind](message, speaker)), self.seq, None), reply)
            elif isinstance(message, Act):
                self._act(message, request, speaker, reply)
            else:
                self._widely(message, request, speaker, max(seen, self.seq), reply)
        except Fault as fault:
            reply(Outcome(None, self.seq, fault))
        except Exception as error:
            reply(Outcome(None, self.seq, _own_error(kind, error)))

    def _answered(self, query: Any, speaker: Speaker) -> Any:
        return self._answers[type(query)](self.view, query, self.asking(speaker, self.seq))

    def asking(self, speaker: Speaker, seq: int) -> Asking:
        """Who asks now, as a rule is told."""
        now = self._clock.now()
        return Asking(speaker.person, speaker.roles, now, seq, self.profile, speaker.key, speaker.run)

    def _taken(self, message: Any, outcome: Outcome, reply: Reply) -> None:
        """Answer what was taken at once; durable points only after a sync."""
        if not (isinstance(message, LogMetrics) and message.durable):
            reply(outcome)
            return

        def synced(error: BaseException | None) -> None:
            if error is None:
                reply(outcome)
            else:
                fault = error if isinstance(error, Fault) else _own_error(LogMetrics, error)
                reply(Outcome(None, outcome.seq, fault))

        self.syncing.then(synced)

    def _act(self, act: Act[Any], request: str, speaker: Speaker, reply: Reply) -> None:
        encoded = encode(act)
        body = body_of(encoded)
        prepare = self.prepare.get(type(act))
        if prepare is not None and speaker is not DAEMON:
            told = self._once(f"{speaker.key}:{request}:{body.hex()}", reply)
            if told is not None:
                self._prepared(prepare, act, Asked(act, body, request, speaker, told, len(encoded)))
            return
        add = self.enrich.get(type(act))
        asked = Asked(add(act) if add else act, body, request, speaker, reply, len(encoded))
        if speaker is DAEMON or not self._held(asked):
            self.writer.ask(asked)

    def _held(self, asked: Asked) -> bool:
        """Whether an act waits; one that is sent again meanwhile (a console does after 2 s) waits with the first."""
        name = f"{asked.speaker.key}:{asked.request}"
        if name in self._holding:
            self._holding[name].append(asked)
            return True
        waiting = self.hold(asked)
        if waiting is None:
            return False
        self._holding[name] = [asked]

        def queue(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                log.error("what %s waits for failed; its rule decides", tag_of(type(asked.act)), exc_info=error)
            for each in self._holding.pop(name):
                self.writer.ask(each)

        self._loop.create_task(waiting).add_done_callback(queue)
        return True

    def _prepared(self, prepare: Prepare, act: Act[Any], asked: Asked) -> None:
        def queue(done: Any) -> None:
            error = done.exception()
            if error is None:
                self.writer.ask(asked._replace(act=done.result()))
            else:
                fault = error if isinstance(error, Fault) else _own_error(type(act), error)
                asked.done(Outcome(None, self.seq, fault))

        self._loop.run_in_executor(self._pool(act), prepare, act).add_done_callback(queue)

    def _once(self, name: str, reply: Reply) -> Reply | None:
        """What tells everybody who sent this request (a client that waits sends it again after 2 s), or None when the
        work for it is under way already."""
        if name in self._under_way:
            self._under_way[name].append(reply)
            return None
        self._under_way[name] = [reply]

        def all_(outcome: Outcome) -> None:
            for each in self._under_way.pop(name):
                each(outcome)

        return all_

    def _widely(self, message: Any, request: str, speaker: Speaker, seen: int, reply: Reply) -> None:
        reader = self.wide[type(message)]
        told = self._once(f"{speaker.key}:{request}:{body_of(encode(message)).hex()}", reply)
        if told is None:
            return

        def read() -> Outcome:
            try:
                return Outcome(encode(reader(message, speaker, seen)), seen, None)
            except Fault as fault:
                return Outcome(None, seen, fault)
            except Exception as error:
                return Outcome(None, seen, _own_error(type(message), error))

        future = self._loop.run_in_executor(self._pool(message), read)
        future.add_done_callback(lambda done: None if done.cancelled() else told(done.result()))

    def _pool(self, message: Any) -> ThreadPoolExecutor:
        """The threads in which a message of this kind may take its time; rows that are not counted wait for none that
        are."""
        kind = type(message)
        if isinstance(message, AddDataset) and not message.count:
            return self._readers
        special = ((LOOKED_AT, self._lookers), (COUNTED, self._counters), (AWAY, self._away))
        return next((pool for kinds, pool in special if kind in kinds), self._readers)

    def on_group(self, group: Group) -> None:
        """From the writer's thread: make a certain group visible and answer it, on the loop."""
        self._loop.call_soon_threadsafe(self._settle, group)

    def _settle(self, group: Group) -> None:
        self.view.apply(group.changes)
        self.on_changes(group.changes)
        if group.postings:
            self.seq = group.postings[-1].entry.seq
            self.poster.add(group)
        for asked, outcome in group.outcomes:
            asked.done(outcome)
        for kept in group.kept:
            self._bus.kept(kept)
        if group.fatal:
            log.critical("leaving: the restart reads what was kept")
            self._loop.call_later(0.05, os._exit, EXIT_UNSYNCED)

    async def speak(
        self, act: Act[Any], answer: Any = None, *, request: str | None = None, speaker: Speaker = DAEMON
    ) -> Any:
        """An act of the daemon's own (clock, supervisor, reaction); answers it decoded as `answer`, raises its
        fault."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self.ask(
            act,
            request or new_id("own"),
            speaker,
            0,
            lambda outcome: None if future.done() else future.set_result(outcome),
        )
        outcome = await future
        if outcome.fault is not None:
            raise outcome.fault
        return decode(outcome.answer or b"", answer) if answer is not None else None

    def close(self) -> None:
        """Wait for the readers that still run."""
        for pool in (self._readers, self._lookers, self._counters, self._away):
            pool.shutdown(cancel_futures=True)


def _own_error(kind: type, error: BaseException) -> Fault:
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return Full(f"{tag_of(kind)} found no room on the disk", field="store", next="free some room and ask again")
    error_id = new_id("error")
    log.error("%s %s", error_id, tag_of(kind), exc_info=error)
    return Failed(f"{tag_of(kind)} met an error of the daemon's own; the log has it as {error_id}", field="daemon")
