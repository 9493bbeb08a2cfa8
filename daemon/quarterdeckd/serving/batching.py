"""Dynamic batching: requests of one arm that wait at the same time, run together and split again."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

import numpy as np

from quarterdeckd.serving.nulls import NONE, Nulls
from quarterdeckd.serving.running import INLINE, RUN_WITHIN, Ran, attempt, checked, run
from quarterdeckd.serving.session import Loaded
from quarterdeckd.serving.status import LOOP, Status
from quarterdeckd.serving.tensors import Array, Feed
from quarterstore.records.deployments import BatchingRule

log = logging.getLogger("quarterdeck.host")
Shapes = tuple[tuple[int, ...], ...]


class Waiting(NamedTuple):
    """A request in a batch: its tensors, how many rows they have, where its outputs go (None: not in time), and the
    nulls that were read for it."""

    feed: Feed
    rows: int
    answer: asyncio.Future[Ran | None]
    nulls: Nulls


class Group:
    """Requests whose tensors differ in their rows only."""

    __slots__ = ("rows", "timer", "waiting")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.waiting: list[Waiting] = []
        self.rows = 0
        self.timer = timer
        """Starts it by its age."""


def has_rows(loaded: Loaded) -> bool:
    """Whether each input and each output of a model has rows, any number of them."""
    tensors = (*loaded.inputs, *loaded.outputs)
    return all(tensor.shape and tensor.shape[0] == -1 for tensor in tensors)


class Batches:
    """The batches of one arm. One starts when it is full, when nothing of the arm is running (at the end of the loop's
    turn, so a lone request waits for nobody), when what was running is done, or when its oldest request has waited as
    long as it may; on the loop only, the runs in threads."""

    def __init__(self, loaded: Loaded, version: str, number: int, rule: BatchingRule, status: Status) -> None:
        """The model of a version, as it is called in words and (by the number of its arm) in the status byte."""
        self._loaded = loaded
        self._version = version
        self._number = number
        self._rule = rule
        self._status = status
        self._loop = asyncio.get_running_loop()
        self._groups: dict[Shapes, Group] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0
        self._soon = False
        """Whether a batch starts at the end of this turn."""
        self._together = has_rows(loaded)
        self._proven = False
        """Whether a batch of several requests gave what each gives alone."""

    @property
    def busy(self) -> bool:
        """Whether a batch runs in a thread, so that requests wait for it."""
        return self._running > 0

    def takes(self, feed: Feed, rows: int) -> bool:
        """Whether a request can be run with others: not more rows than a batch may have, and as many in each tensor."""
        return self._together and rows <= self._rule.max_batch and all(len(array) == rows for array in feed.values())

    def run(self, feed: Feed, rows: int, nulls: Nulls = NONE) -> asyncio.Future[Ran | None]:
        """Run a request that `takes` took, with others; None when it took longer than `RUN_WITHIN`."""
        answer: asyncio.Future[Ran | None] = self._loop.create_future()
        shapes = tuple(array.shape[1:] for array in feed.values())
        if (group := self._groups.get(shapes)) is not None and group.rows + rows > self._rule.max_batch:
            self._start(shapes)
            group = None
        if group is None:
            timer = self._loop.call_later(self._rule.max_wait_ms / 1000, self._start, shapes)
            group = self._groups[shapes] = Group(timer)
        group.waiting.append(Waiting(feed, rows, answer, nulls))
        group.rows += rows
        if group.rows == self._rule.max_batch:
            self._start(shapes)
        elif not self._running:
            self._start_soon()
        return answer

    def _start_soon(self) -> None:
        if not self._soon:
            self._soon = True
            self._loop.call_soon(self._start_oldest)

    def _start_oldest(self) -> None:
        self._soon = False
        if self._groups and not self._running:
            self._start(next(iter(self._groups)))
            if self._groups:  # of other shapes: after this one, which may have been run here
                self._start_soon()

    def _start(self, shapes: Shapes) -> None:
        group = self._groups.pop(shapes)
        group.timer.cancel()
        if self._loaded.expected(group.rows) <= INLINE:
            try:
                _give(group.waiting, self._run(group.waiting, LOOP))
            except Exception as error:
                _fail(group.waiting, error)
            return
        self._running += 1
        work = self._loop.run_in_executor(self._loaded.threads, self._run_aside, group.waiting)
        # a caller that goes away leaves its row in the batch: nobody's answer, and no mate's loss
        task = self._loop.create_task(self._ended(work, group.waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ended(self, work: asyncio.Future[list[Ran]], waiting: list[Waiting]) -> None:
        found: list[Ran] | list[None] = [None] * len(waiting)
        try:
            found = await asyncio.wait_for(work, RUN_WITHIN)
        except TimeoutError:
            log.warning("%s: a batch took more than %g s", self._version, RUN_WITHIN)
        except Exception as error:
            _fail(waiting, error)
        self._running -= 1
        self._start_oldest()
        _give(waiting, found)

    def _run_aside(self, waiting: list[Waiting]) -> list[Ran]:
        with self._status.entry() as entry:
            return self._run(waiting, entry)

    def _run(self, waiting: list[Waiting], entry: int) -> list[Ran]:
        """Each request's outputs; one whose batch failed is run again alone, so that it fails for itself only."""
        self._status.mark(entry, self._number)
        try:
            if len(waiting) == 1 or not self._together:
                return [self._alone(each) for each in waiting]
            found = self._split(waiting)
            if not self._proven:
                return self._prove(waiting, found)
            return [self._alone(each) if ran.error else ran for each, ran in zip(waiting, found, strict=True)]
        finally:
            self._status.mark(entry, 0)

    def _alone(self, one: Waiting) -> Ran:
        return run(self._loaded, self._version, one.feed, one.rows, one.nulls)

    def _split(self, waiting: list[Waiting]) -> list[Ran]:
        """One run of them all, cut into what is whose."""
        feed = {name: np.concatenate([each.feed[name] for each in waiting]) for name in waiting[0].feed}
        total = sum(each.rows for each in waiting)
        ran = attempt(self._loaded, self._version, feed, total)
        if ran.error is not None or any(not array.ndim or len(array) != total for array in ran.found):
            return [Ran([], ran.error or "no row for each row")] * len(waiting)
        ends = np.cumsum([each.rows for each in waiting]).tolist()
        return [
            checked([array[end - each.rows : end] for array in ran.found])
            for each, end in zip(waiting, ends, strict=True)
        ]

    def _prove(self, waiting: list[Waiting], found: list[Ran]) -> list[Ran]:
        """The first batch is run apart as well: a model that looks from one row at another (a mean over the batch) has
        rows and must not be given strangers'."""
        alone = [self._alone(each) for each in waiting]
        if all(_same(one, other) for one, other in zip(found, alone, strict=True)):
            self._proven = True
        elif not any(ran.error for ran in alone):
            self._together = False
            log.warning("%s: a row's answer depends on the rows beside it; it is not batched", self._version)
        return alone


def _same(one: Ran, other: Ran) -> bool:
    """Whether two runs say the same, but for the last digits of floats: a larger matrix is summed in another order."""
    return one.error == other.error and len(one.found) == len(other.found) and all(map(_near, one.found, other.found))


def _near(one: Array, other: Array) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-3 * max(1e-6, float(np.abs(other).max()))))


def _fail(waiting: list[Waiting], error: Exception) -> None:
    """An error of our own, to each that still waits: a caller that was left without would wait for ever."""
    for each in waiting:
        if not each.answer.done():
            each.answer.set_exception(error)


def _give(waiting: list[Waiting], found: list[Ran] | list[None]) -> None:
    for each, ran in zip(waiting, found, strict=True):
        if not each.answer.done():
            each.answer.set_result(ran)
