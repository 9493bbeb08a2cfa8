"""One prediction, from whichever door: the arm that answers, its model run on the loop or in a thread, the answer
recorded and counted."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from quarterdeckd.serving.batching import Batches
from quarterdeckd.serving.copies import Copies
from quarterdeckd.serving.features import features_of, said_of
from quarterdeckd.serving.load import QUEUE, Load, Queue
from quarterdeckd.serving.looking import Looked, Read
from quarterdeckd.serving.nulls import NONE, Nulls
from quarterdeckd.serving.recorder import Frame, kept, kept_key
from quarterdeckd.serving.router import Dealt, Routes, Way
from quarterdeckd.serving.running import INLINE, RUN_WITHIN, Ran, run
from quarterdeckd.serving.session import THREADS, Loaded
from quarterdeckd.serving.status import BUSY, LOOP, Status
from quarterdeckd.serving.tensors import Feed, rows_in, unknown
from quarterstore.records.faults import MEANINGS, Failed, Fault, Overloaded, TimedOut
from quarterstore.records.registry import Signature

LARGE = 64 * 1024
"""Bytes of a body from which on it is read, answered and recorded in a thread too (1 ms here)."""
Reply = TypeVar("Reply")
Reply_co = TypeVar("Reply_co", covariant=True)


class Question(NamedTuple):
    """A request as its door read it. `feed` makes the tensors that a version takes, or raises `Invalid`; `outputs` are
    those asked for by name, all of them where it is empty; `key` keeps a caller on one arm; `version` is asked for by
    name. Where `entities` have keys of the views that the version needs, `keyed` makes the tensors, with what was read
    of them, and says where they are null."""

    feed: Callable[[Loaded, Signature], Feed]
    outputs: Sequence[str] = ()
    key: str | None = None
    version: str = ""
    entities: Sequence[dict[str, Any]] = ()
    keyed: Callable[[Loaded, Signature, Looked], tuple[Feed, Nulls]] | None = None


class Stamp(NamedTuple):
    """Who answered, under which routes, and the id that the prediction is recorded under."""

    endpoint: str
    version: str
    epoch: int
    arm: str
    prediction: str
    read: dict[str, Read] | None = None
    """The status and the age of what was read of each view, a row each, where keys were given."""


class Door(Protocol[Reply_co]):
    """One request at one door: how it is read, and how its answer is written there."""

    @property
    def endpoint(self) -> str:
        """Who is asked; empty as long as that was not read."""

    def read(self) -> Question:
        """What is asked; raises `Invalid` for what cannot be read."""

    def answered(self, stamp: Stamp, outputs: dict[str, Any]) -> Reply_co:
        """The outputs asked for, in that order."""

    def refused(self, fault: Fault, stamp: Stamp | None) -> Reply_co:
        """What is wrong; with a stamp where a version took the request and failed."""


class Keeper(Protocol):
    """Where answered requests are kept."""

    def write(self, frame: Frame) -> bool:
        """Keep one; False when it was counted instead."""


class Received(NamedTuple, Generic[Reply]):
    """A request as it came: its bytes, when it began (`time.perf_counter()`), the id it is recorded under."""

    door: Door[Reply]
    size: int
    began: float
    prediction: str


class Lacking(NamedTuple):
    """The nulls that were read for a request, and what it is told where they are what its version failed on."""

    nulls: Nulls
    looked: Looked


class Asked(Generic[Reply]):
    """A request that was understood: what is asked of which arm."""

    __slots__ = (
        "arm",
        "began",
        "counts",
        "dealt",
        "door",
        "feed",
        "given_up",
        "key",
        "lacking",
        "names",
        "rows",
        "shadow",
        "size",
        "stamp",
    )

    def __init__(
        self,
        received: Received[Reply],
        question: Question,
        way: Way,
        dealt: Dealt,
        feed: Feed,
        stamp: Stamp,
        lacking: Lacking | None,
    ) -> None:
        self.door = received.door
        self.size = received.size
        self.began = received.began
        self.key = question.key
        self.dealt = dealt
        self.arm = dealt.arm
        self.feed = feed
        self.names = question.outputs or dealt.arm.loaded.names
        self.stamp = stamp
        self.lacking = lacking
        self.rows = rows_in(feed) or 1
        self.counts = not question.version or len(way.arms) == 1
        """The routes chose the arm: one that a caller chose beside others is no evidence of how they compare."""
        self.shadow = None if question.version or lacking else way.shadow
        """Who is shown the same, afterwards: nothing with a null that its signature may not take."""
        self.given_up = False
        """The caller was told that it took too long; what a thread still finds out is nobody's answer."""

    @property
    def nulls(self) -> Nulls:
        """The nulls that were read for it."""
        return self.lacking.nulls if self.lacking is not None else NONE


class Done(Generic[Reply]):
    """An answer, and how it counts for its arm."""

    __slots__ = ("failed", "milliseconds", "reply")

    def __init__(self, reply: Reply, milliseconds: float, failed: bool) -> None:
        self.reply = reply
        self.milliseconds = milliseconds
        self.failed = failed


class Inference:
    """Answers requests by the routes; `written` is called when something was recorded."""

    def __init__(
        self,
        routes: Routes,
        recorder: Keeper,
        status: Status,
        copies: Copies,
        written: Callable[[], None],
        load: Load | None = None,
    ) -> None:
        self._copies = copies
        self._routes = routes
        self._recorder = recorder
        self._status = status
        self._written = written
        self.load = load or Load()
        self._reading = Queue()
        self._prefix = f"p{time.time_ns() // 1_000_000:x}{os.getpid():x}-"
        self._numbers = count()

    def answer(self, door: Door[Reply], size: int, began: float) -> Reply | Awaitable[Reply]:
        """Answer a request of so many bytes that began at `time.perf_counter()`, at once where that is quick."""
        if not self.load.room(time.perf_counter()):
            return self._turned_away(door, self.load.turn_away())
        prediction = f"{self._prefix}{next(self._numbers):x}"
        received = Received(door, size, began, prediction)
        if size > LARGE:
            return self._answer_large(received)
        asked = self._understood(received)
        if isinstance(asked, Fault):
            return self._refused(door, asked)
        if (batches := self._batches(asked)) is not None:
            return self._batched(asked, batches)
        if asked.arm.loaded.expected(asked.rows) > INLINE:
            return self._in_thread(asked)
        return self._counted(asked, self._done(asked, LOOP, 0))

    def _turned_away(self, door: Door[Reply], fault: Overloaded) -> Reply:
        """Refuse a request for which there is no room: nobody's error; on the loop only."""
        way = self._routes.ways.get(door.endpoint)
        if way is not None:
            way.shed += 1
        return door.refused(fault, None)

    async def _answer_large(self, received: Received[Reply]) -> Reply:
        if self._reading.waiting >= QUEUE:
            return self._turned_away(received.door, self.load.turn_away())
        with self.load.waits(self._reading):
            asked = await asyncio.to_thread(self._read_large, received)
        if isinstance(asked, Fault):
            return self._refused(received.door, asked)
        if (batches := self._batches(asked)) is not None:
            return await self._batched(asked, batches)
        return await self._in_thread(asked)

    def _batches(self, asked: Asked[Reply]) -> Batches | None:
        """Those that a request goes into, if it does."""
        arm = asked.arm
        if arm.route.batching.max_batch == 1:
            return None
        if arm.batches is None:
            arm.batches = Batches(arm.loaded, arm.slot.version, arm.number, arm.route.batching, self._status)
        return arm.batches if arm.batches.takes(asked.feed, asked.rows) else None

    async def _batched(self, asked: Asked[Reply], batches: Batches) -> Reply:
        loaded = asked.arm.loaded
        if batches.busy and loaded.queue.waiting >= max(QUEUE, 2 * asked.arm.route.batching.max_batch):
            return self._turned_away(asked.door, self.load.turn_away(loaded.expected(1) / THREADS))
        with self.load.waits(loaded.queue):
            ran = await batches.run(asked.feed, asked.rows, asked.nulls)
        if ran is None:
            return self._counted(asked, self._too_slow(asked))
        if asked.size > LARGE or sum(array.nbytes for array in ran.found) > LARGE:
            return self._counted(asked, await asyncio.to_thread(self._render_aside, asked, ran))
        return self._counted(asked, self._rendered(asked, ran))

    def _render_aside(self, asked: Asked[Reply], ran: Ran) -> Done[Reply] | Fault:
        with self._status.entry() as entry:
            self._status.mark(entry, BUSY)
            return self._rendered(asked, ran)

    def _read_large(self, received: Received[Reply]) -> Asked[Reply] | Fault:
        with self._status.entry() as entry:
            self._status.mark(entry, BUSY)
            return self._understood(received)

    def _understood(self, received: Received[Reply]) -> Asked[Reply] | Fault:
        """The request as tensors for one arm, or what is wrong with it."""
        door, prediction = received.door, received.prediction
        try:
            question = door.read()
            way = self._routes.way(door.endpoint)
            named = question.version
            dealt = Dealt(way.named(named), None, 1.0) if named else way.deal(question.key, prediction)
            arm = dealt.arm
            looked, nulls = None, NONE
            if arm.slot.views and question.entities and question.keyed is not None:
                looked = self._routes.views.looked(arm.slot, question.entities)
            if looked is None or question.keyed is None:
                feed = question.feed(arm.loaded, arm.slot.signature)
            else:
                feed, nulls = question.keyed(arm.loaded, arm.slot.signature, looked)
            for name in question.outputs:
                if name not in arm.loaded.names:
                    raise unknown("outputs.name", name, arm.loaded.names)
        except Fault as fault:
            return _bare(fault)
        read = looked.views if looked is not None else None
        stamp = Stamp(arm.route.endpoint, arm.slot.version, arm.route.epoch, arm.slot.role, prediction, read)
        lacking = Lacking(nulls, looked) if looked is not None and nulls else None
        return Asked(received, question, way, dealt, feed, stamp, lacking)

    def _refused(self, door: Door[Reply], fault: Fault) -> Reply:
        """Count a request that is wrong, apart from the errors of versions; on the loop only."""
        way = self._routes.ways.get(door.endpoint)
        if way is not None:
            way.refused += 1
        return door.refused(fault, None)

    async def _in_thread(self, asked: Asked[Reply]) -> Reply:
        loaded = asked.arm.loaded
        if loaded.queue.waiting >= QUEUE:
            return self._turned_away(asked.door, self.load.turn_away(loaded.expected(1) / THREADS))
        work = asyncio.get_running_loop().run_in_executor(loaded.threads, self._run_aside, asked)
        try:
            with self.load.waits(loaded.queue):
                done = await asyncio.wait_for(work, RUN_WITHIN)
            return self._counted(asked, done)
        except TimeoutError:
            asked.given_up = True
            return self._counted(asked, self._too_slow(asked))

    def _too_slow(self, asked: Asked[Reply]) -> Done[Reply]:
        return self._failed(asked, TimedOut(f"the model gave no answer within {RUN_WITHIN:g} s"), {})

    def _run_aside(self, asked: Asked[Reply]) -> Done[Reply] | Fault:
        with self._status.entry() as entry:
            return self._done(asked, entry, BUSY if asked.rows > 1 else 0)

    def _done(self, asked: Asked[Reply], entry: int, meanwhile: int) -> Done[Reply] | Fault:
        """Run, render, record: a prediction that was answered was written. The status entry holds the slot's number
        while it runs, so that who crashes is named by it, and `meanwhile` afterwards."""
        self._status.mark(entry, asked.arm.number)
        ran = run(asked.arm.loaded, asked.arm.slot.version, asked.feed, asked.rows, asked.nulls)
        self._status.mark(entry, meanwhile)
        try:
            return self._rendered(asked, ran)
        finally:
            if meanwhile:
                self._status.mark(entry, 0)

    def _rendered(self, asked: Asked[Reply], ran: Ran) -> Done[Reply] | Fault:
        """The answer, recorded; or what is wrong with the request, which is no prediction."""
        if ran.by_nulls and asked.lacking is not None:
            return asked.lacking.looked.refused(asked.lacking.nulls)
        if ran.error is not None:
            return self._failed(asked, Failed(ran.error), {})
        outputs = dict(zip(asked.arm.loaded.names, ran.found, strict=True))
        reply = asked.door.answered(asked.stamp, {name: outputs[name] for name in asked.names})
        return self._recorded(asked, reply, outputs, None)

    def _failed(self, asked: Asked[Reply], fault: Fault, outputs: dict[str, Any]) -> Done[Reply]:
        return self._recorded(asked, asked.door.refused(fault, asked.stamp), outputs, fault)

    def _recorded(self, asked: Asked[Reply], reply: Reply, outputs: dict[str, Any], fault: Fault | None) -> Done[Reply]:
        milliseconds = (time.perf_counter() - asked.began) * 1000
        if not asked.given_up or isinstance(fault, TimedOut):
            self._recorder.write(_frame(asked, milliseconds, outputs, fault))
        return Done(reply, milliseconds, fault is not None)

    def _counted(self, asked: Asked[Reply], done: Done[Reply] | Fault) -> Reply:
        """Count an answer; on the loop only, the counts have no lock."""
        if isinstance(done, Fault):
            return self._refused(asked.door, done)
        if asked.counts:
            asked.arm.count(done.milliseconds, done.failed)
        self._written()
        if asked.shadow is not None:
            self._copies.later(asked.arm.route, asked.shadow, asked.stamp.prediction, asked.feed, asked.size)
        return done.reply


def _bare(fault: Fault) -> Fault:
    """A fault without the frames it was raised in: they hold the body, each other and it until garbage is collected:
    ten refused bodies of 10 MB were 100 MB of memory."""
    fault.__cause__ = fault.__context__ = None
    return fault.with_traceback(None)


def _frame(asked: Asked[Any], milliseconds: float, outputs: dict[str, Any], fault: Fault | None) -> Frame:
    arm, stamp = asked.arm, asked.stamp
    predicted, scores = said_of(arm.slot.signature, outputs)
    return Frame(
        stamp.prediction,
        time.time(),
        stamp.endpoint,
        stamp.version,
        stamp.arm,
        stamp.epoch,
        200 if fault is None else MEANINGS[type(fault)].http,
        milliseconds,
        kept(arm.route.recording, features_of(arm, asked.feed)),
        predicted,
        scores,
        None if fault is None else fault.line(),
        kept_key(arm.route.recording, asked.key),
        asked.dealt.point,
        asked.dealt.propensity,
        stamp.read,
    )
