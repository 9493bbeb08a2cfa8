"""A run as training code holds it: `log` costs a list append, a thread sends, a spool keeps what no daemon takes."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import traceback
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from quarterdeck import spool
from quarterstore.records.faults import Fault, Invalid, got
from quarterstore.records.ids import new_id
from quarterstore.records.names import checked_text
from quarterstore.records.places import Home
from quarterstore.records.runs import Beat, EndRun, LogArtefact, LogMetrics, LogParams, SetTags, StartRun, Value

if TYPE_CHECKING:
    from quarterdeck.asking import Asker

EVERY = 0.05
"""Seconds between two batches."""
MOST = 50_000
"""Points of one batch: 26 bytes each, 1.3 MB."""
BEAT = 5.0
PATIENCE = 2.0
"""Seconds the sender waits for an answer before it spools."""
AGAIN = 0.5
"""Seconds between two attempts to empty the spool."""
_ids = iter(lambda: os.urandom(12).hex(), "")
_alive: weakref.WeakSet[LiveRun] = weakref.WeakSet()
Row = tuple[float, int | None, dict[str, float]]


class Terminated(SystemExit):
    """SIGTERM arrived inside a run: the process ends with 143 once the run is closed as KILLED."""


class LiveRun:
    """One open run; `log` from any thread and in forked children, ends with the `with` block it is used in."""

    def __init__(
        self,
        home: Home,
        caller: str,
        experiment: str,
        *,
        dial: Callable[[], Asker],
        name: str = "",
        params: dict[str, Value] | None = None,
        tags: dict[str, str] | None = None,
        datasets: tuple[str, ...] = (),
        parent: str | None = None,
        seed: int | None = None,
    ) -> None:
        """Opens the run; raises the daemon's fault when it refuses, spools when there is none. `dial` makes the
        client of the sending thread, with a short time-out (`PATIENCE`)."""
        from quarterdeck.source import found

        checked_text("experiment", experiment)
        self.id = new_id("run")
        self.home = home
        self.caller = caller
        self._dial = dial
        self._steps: dict[str, int] = {}
        self._ended = False
        self._closing: tuple[str, EndRun] | None = None
        self._owner = os.getpid()
        self._warned = False
        self._before: Any = None
        self._reset()
        start = StartRun(
            experiment=experiment,
            name=name,
            run=self.id,
            params=params or {},
            tags=tags or {},
            source=found(seed),
            datasets=datasets,
            parent=parent,
            started=time.time(),
        )
        self._open(start)
        self._begin()
        _alive.add(self)
        atexit.register(_at_exit, weakref.ref(self))

    # what training code calls

    def log(self, key: str | None = None, value: Any = None, /, *, step: int | None = None, **metrics: Any) -> None:
        """Log values of metrics, `log(loss=0.3, step=1)` or `log("loss", 0.3)`; without a step each key counts its own.

        A value that is no number is said on stderr, naming key and value, and left out: logging never ends training.
        """
        if key is not None:
            metrics[key] = value
        for each in metrics.values():
            if type(each) is not float:
                metrics = _numbers(metrics)
                break
        self._rows.append((time.time(), step, metrics))

    def log_params(self, params: dict[str, Value] | None = None, /, **more: Value) -> None:
        """Add parameters; one that is there already keeps its value."""
        self._queue.append((next(_ids), LogParams(run=self.id, params={**(params or {}), **more})))

    def set_tags(self, tags: dict[str, str | None] | None = None, /, **more: str | None) -> None:
        """Set tags; `None` removes one."""
        self._queue.append((next(_ids), SetTags(run=self.id, tags={**(tags or {}), **more})))

    def log_artefact(self, path: Path | str, name: str | None = None) -> str:
        """Keep a file, as it is now, under `name` (its own unless given); answers its SHA-256."""
        digest, size = spool.keep_file(self.home, Path(path))
        message = LogArtefact(run=self.id, path=name or Path(path).name, digest=digest, size=size)
        self._queue.append((next(_ids), message))
        return digest

    log_artifact = log_artefact

    def end(self, state: str = "FINISHED", error: str | None = None) -> None:
        """Send what is left and close the run; what cannot be sent is spooled. Only the process that opened it can."""
        if self._ended or os.getpid() != self._owner:
            return
        self._ended = True
        ended = EndRun(run=self.id, state=state, error=error, ended=time.time())  # type: ignore[arg-type]
        self._closing = (next(_ids), ended)
        self._stop()

    def __enter__(self) -> LiveRun:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            self._before = signal.signal(signal.SIGTERM, _terminate)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None and os.getpid() == self._owner:
            signal.signal(signal.SIGTERM, signal.SIG_IGN if kind is Terminated else signal.SIG_DFL)
        if error is None:
            self.end()
        elif isinstance(error, Terminated):
            self.end("KILLED", "SIGTERM")
        elif isinstance(error, KeyboardInterrupt | SystemExit):
            # the block did not reach its end: an early exit is never called FINISHED
            self.end("KILLED", f"{type(error).__name__} {error}".strip())
        else:
            self.end("FAILED", "".join(traceback.format_exception(error))[-20_000:])

    # the sending thread

    def _reset(self) -> None:
        self._rows: deque[Row] = deque()
        self._queue: deque[tuple[str, Any]] = deque()
        self._unsent: deque[tuple[str, Any]] = deque()
        self._client: Asker | None = None
        self._spool = spool.Spool(self.home, self.caller, self.id)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._tried = 0.0
        self._spoke = time.monotonic()

    def _open(self, start: StartRun) -> None:
        request = next(_ids)
        try:
            self._send(start, request)
        except spool.LATER:
            self._away()
            self._spool.add(request, start)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._work, name=f"quarterdeck {self.id}", daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            while not self._stopping.wait(EVERY):
                self._round()
            self._round(last=True)
        except OSError as error:
            print(f"quarterdeck: {self.id}: nothing more is kept: {error.strerror}", file=sys.stderr)
        finally:
            self._spool.leave()
            self._drop()

    def _round(self, last: bool = False) -> None:
        """Take what was logged and send it in order, through the spool while that is not empty."""
        self._unsent.extend((next(_ids), batch) for batch in self._batches())
        while self._queue:
            self._unsent.append(self._queue.popleft())
        if last and self._closing is not None:
            self._unsent.append(self._closing)
        try:
            if not self._spool.empty:
                self._retry(last)
            while self._unsent and self._spool.empty:
                spool.settle(self._send, *self._unsent[0])
                self._unsent.popleft()
            if self._spool.empty and time.monotonic() - self._spoke > BEAT:
                self._send(Beat(run=self.id), next(_ids))
        except spool.LATER:
            self._away()
        except Fault as fault:
            self._spoke = time.monotonic()
            print(f"quarterdeck: {self.id}: {fault.line()}", file=sys.stderr)
        if last or not self._spool.empty or self._warned:
            while self._unsent:
                self._spool.add(*self._unsent.popleft())

    def _retry(self, last: bool) -> None:
        if not last and time.monotonic() - self._tried < AGAIN:
            return
        self._tried = time.monotonic()
        self._spool.deliver(self._send)
        self._warned = False

    def _send(self, message: Any, request: str) -> Any:
        if self._client is None:
            self._client = self._dial()
        answer = spool.asked(self._client, message, request)
        self._spoke = time.monotonic()
        return answer

    def _away(self) -> None:
        self._drop()
        self._tried = time.monotonic()
        if not self._warned:
            self._warned = True
            print("quarterdeck: daemon not reachable, spooling", file=sys.stderr, flush=True)

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _batches(self) -> Iterator[LogMetrics]:
        """What was logged so far, in columns of at most `MOST` points."""
        left = len(self._rows)
        while left:
            columns = Columns(self._steps)
            while left and len(columns.key) < MOST:
                columns.add(self._rows.popleft())
                left -= 1
            if len(columns.key):
                yield columns.batch(self.id)

    def _forked(self) -> None:
        """In a forked child: nothing of the parent's is sent twice, and the first `log` starts a thread of its own."""
        self._reset()
        self.log = self._log_first  # type: ignore[method-assign]

    def _log_first(self, *args: Any, **metrics: Any) -> None:
        del self.log
        self._begin()
        if "multiprocessing.util" in sys.modules:  # its children end without atexit
            sys.modules["multiprocessing.util"].Finalize(self, self._stop, exitpriority=10)
        self.log(*args, **metrics)


class Columns:
    """Points as columns of machine numbers, as they go over the wire."""

    def __init__(self, steps: dict[str, int]) -> None:
        self.keys: dict[str, int] = {}
        self.key, self.step, self.time, self.value = array("H"), array("q"), array("d"), array("d")
        self._steps = steps

    def add(self, row: Row) -> None:
        """One call of `log`."""
        at, given, metrics = row
        for name, value in metrics.items():
            step = self._steps.get(name, 0) if given is None else given
            self._steps[name] = step + 1
            self.key.append(self.keys.setdefault(name, len(self.keys)))
            self.step.append(step)
            self.time.append(at)
            self.value.append(value)

    def batch(self, run: str) -> LogMetrics:
        """These points as one batch, under a new batch id."""
        columns = (self.key, self.step, self.time, self.value)
        if sys.byteorder == "big":
            for column in columns:
                column.byteswap()
        key, step, at, value = (column.tobytes() for column in columns)
        return LogMetrics(
            run=run, batch=new_id("batch"), keys=tuple(self.keys), key=key, step=step, time=at, value=value
        )


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """The values that are numbers (also those of numpy and torch, read now); the others are said on stderr."""
    kept = {}
    for key, value in metrics.items():
        try:
            if isinstance(value, str | bytes):
                raise TypeError
            kept[key] = float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            _complain(got(key, value, "a number"))
    return kept


def _complain(fault: Invalid) -> None:
    print(f"quarterdeck: error: {fault.line()}; the run continues", file=sys.stderr)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(128 + number)


def _at_exit(found: weakref.ref[LiveRun]) -> None:
    """A run that nobody closed: its points go out, its end is for the daemon to find (LOST)."""
    run = found()
    if run is not None and not run._ended:
        run._stop()


def _after_fork() -> None:
    for run in list(_alive):
        run._forked()


os.register_at_fork(after_in_child=_after_fork)
