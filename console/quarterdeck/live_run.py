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
from collections import deque
from contextvars import ContextVar
from itertools import islice, takewhile
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from quarterdeck import spool
from quarterdeck.sending import BEAT, Sender
from quarterdeck.transport import new_request
from quarterdeck.values import Row, batches, complain, numbers, plain_params, plain_step, plain_tags
from quarterstore.records.faults import Fault, got
from quarterstore.records.ids import new_id
from quarterstore.records.names import LONGEST_EXPERIMENT, checked_text
from quarterstore.records.runs import (
    DatasetInput,
    EndRun,
    LogArtefact,
    LogInputs,
    LogParams,
    SetTags,
    StartRun,
    Value,
)

AT_ONCE = 8
"""Messages that are sent before their answers are waited for."""
AGAIN_OF = "QUARTERDECK_AGAIN_OF"
"""In the environment of a command that is done again: the run it is done for."""
REPRODUCES = "quarterdeck.reproduces"
"""The tag of a run that was made by doing another one's command again: the other one."""
_alive: weakref.WeakValueDictionary[str, LiveRun] = weakref.WeakValueDictionary()
_within: ContextVar[LiveRun | None] = ContextVar("within", default=None)
"""The innermost run whose `with` block this thread is in."""
_packages_told: set[tuple[Path, str]] = set()
"""Lists of packages that this process sent, by home and hash: one that opens a thousand runs sends its list once."""
_terminated = False


class Terminated(SystemExit):
    """SIGTERM arrived inside a run: the process ends with 143 once the run is closed as KILLED."""


class LiveRun:
    """One open run; `log` from any thread and in forked children, ends with the `with` block it is used in."""

    def __init__(
        self,
        sender: Sender,
        experiment: str,
        *,
        name: str = "",
        params: dict[str, Value] | None = None,
        tags: dict[str, str] | None = None,
        datasets: tuple[str, ...] = (),
        parent: LiveRun | str | None = None,
        nested: bool = False,
        seed: int | None = None,
    ) -> None:
        """Opens the run; raises the daemon's fault when it refuses, spools when there is none. `nested` puts it into
        the run whose `with` block this thread is in, `parent` into another one."""
        from quarterdeck.source import found

        checked_text("experiment", experiment, longest=LONGEST_EXPERIMENT)
        parent = _nested_in(parent, nested)
        self._above = parent if isinstance(parent, LiveRun) else None
        self.id = new_id("run")
        self.home = sender.home
        self._sender = sender
        self._steps: dict[str, int] = {}
        self._images: dict[str, int] = {}
        self._refused: set[str] = set()
        self._ended = False
        self._closing: tuple[str, EndRun] | None = None
        self._owner = os.getpid()
        self._guarded = False
        self._outer: LiveRun | None = None
        self._reset()
        source = found(seed)
        again = os.environ.get(AGAIN_OF)
        start = StartRun(
            experiment=experiment,
            name=name,
            run=self.id,
            params=plain_params(params or {}, complain=None),
            tags={**(tags or {}), **({REPRODUCES: again} if again else {})},
            source=source,
            datasets=datasets,
            parent=parent.id if isinstance(parent, LiveRun) else parent,
            started=time.time(),
        )
        self._open(start)
        self._begin()
        if source.packages is not None:
            self._tell_packages(source.packages)
        self._guard()
        _alive[self.id] = self

    # what training code calls

    def log(self, key: str | None = None, value: Any = None, /, *, step: int | None = None, **metrics: Any) -> None:
        """Log values of metrics, `log(loss=0.3, step=1)` or `log("loss", 0.3)`; without a step each key counts its own.

        A value that is no number is said on stderr, naming key and value, and left out: logging never ends training.
        """
        if key is not None:
            metrics[key] = value
        for each in metrics.values():
            if type(each) is not float:
                metrics = numbers(metrics)
                break
        if step is not None:
            step = plain_step(step)
            if step is None:
                return
        self._rows.append((time.time(), step, metrics))

    def log_params(self, params: dict[str, Value] | None = None, /, **more: Value) -> None:
        """Add parameters; one that is there already keeps its value, one that is no text or number is said and left
        out."""
        plain = plain_params({**(params or {}), **more}, complain=complain)
        self._later(LogParams(run=self.id, params=plain))

    def set_tags(self, tags: dict[str, str | None] | None = None, /, **more: str | None) -> None:
        """Set tags; `None` removes one, one that is no text is said and left out."""
        self._later(SetTags(run=self.id, tags=plain_tags({**(tags or {}), **more})))

    def log_artefact(self, path: Path | str, name: str | None = None) -> str:
        """Keep a file, as it is now, under `name` (its own unless given); answers its SHA-256."""
        digest, size = spool.keep_file(self.home, Path(path))
        self._later(LogArtefact(run=self.id, path=name or Path(path).name, digest=digest, size=size))
        return digest

    log_artifact = log_artefact

    def log_image(self, name: str, image: Any, /, step: int | None = None) -> str | None:
        """Keep an image under a name and a step: a PNG or JPEG file or its bytes, an array, a figure of matplotlib;
        without a step each name counts its own. Answers its SHA-256; what is no image is said, and `None`."""
        from quarterdeck import images

        try:
            checked_text("image", name)
            if "/" in name or "\\" in name or name in (".", ".."):
                raise got("image", name, "a name without / and \\")
            data, ending = images.encoded(image)
        except Fault as fault:
            complain(fault)
            return None
        step = self._images.get(name, 0) if step is None else plain_step(step)
        if step is None:
            return None
        self._images[name] = step + 1
        digest, size = spool.keep_bytes(self.home, data)
        path = f"images/{name}/{step:08d}{ending}"
        self._later(LogArtefact(run=self.id, path=path, digest=digest, size=size, step=step))
        return digest

    def log_dataset(self, path: Path | str, name: str | None = None, *, context: str = "") -> str:
        """Keep a CSV or Parquet file, as it is now, as data that this run used (`context` says what for: train, test);
        answers its SHA-256. `qd run repro` gives the same rows, `qd diff` counts those that changed."""
        from quarterstore.records.datasets import AddDataset

        file = Path(path)
        kind = {".csv": "csv", ".parquet": "parquet"}.get(file.suffix.lower())
        if kind is None:
            raise got("path", str(path), "a .csv or .parquet file")
        digest, size = spool.keep_file(self.home, file)
        name = name or file.name
        self._later(AddDataset(digest=digest, name=name, format=kind, size=size, count=False))
        tags = {"mlflow.data.context": context} if context else {}
        used = DatasetInput(name=name, digest=digest, source_type="local", source=str(path), tags=tags)
        self._later(LogInputs(run=self.id, inputs=(used,)))
        return digest

    def end(self, state: str = "FINISHED", error: str | None = None) -> None:
        """Send what is left and close the run; what cannot be sent is spooled. Only the process that opened it can."""
        if self._ended or os.getpid() != self._owner:
            return
        self._ended = True
        ended = EndRun(run=self.id, state=state, error=error, ended=time.time())  # type: ignore[arg-type]
        self._closing = (new_request(), ended)
        self._stop()
        if self._guarded and threading.current_thread() is threading.main_thread():
            # once it was sent, a second one must not cut off what follows the first
            signal.signal(signal.SIGTERM, signal.SIG_IGN if _terminated else signal.SIG_DFL)

    def _guard(self) -> None:
        """SIGTERM ends the process by an exception while a run is open, unless something else handles it already."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
            self._guarded = True

    def __enter__(self) -> LiveRun:
        self._outer = _within.get()
        _within.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _within.set(self._outer)
        if error is None:
            self.end()
        else:
            self.end(*_end_by(error))

    def _tell_packages(self, digest: str) -> None:
        from quarterdeck.source import installed
        from quarterstore.records.packages import KeepPackages

        if (self.home.root, digest) not in _packages_told:
            _packages_told.add((self.home.root, digest))
            self._later(KeepPackages(packages=installed()))

    # the sending thread

    def _reset(self) -> None:
        self._rows: deque[Row] = deque()
        self._queue: deque[tuple[str, Any]] = deque()
        self._unsent: deque[tuple[str, Any]] = deque()
        self._spool = spool.Spool(self.home, self._sender.caller, self.id)
        self._sending = threading.Lock()
        self._begun = False
        self.stopping: float | None = None
        """Since when the last of it is to be sent."""
        self.over = threading.Event()
        """Set once nothing more is sent for this run."""
        self.spoke = time.monotonic()
        """When the daemon last answered something of this run."""

    def _open(self, start: StartRun) -> None:
        request = new_request()
        if self._parent_waits():
            self._spool.add(request, start)
            return
        try:
            self._send(start, request)
        except spool.LATER:
            self._spool.add(request, start)

    def _parent_waits(self) -> bool:
        """Whether the run this one is nested in is not known to the daemon yet."""
        return self._above is not None and not self._above._spool.empty

    def _begin(self) -> None:
        self._begun = True
        self._sender.open(self)

    def _later(self, message: Any) -> None:
        """Queue a message to be sent in its turn."""
        self._queue.append((new_request(), message))
        if not self._begun:
            self._begin_in_child()

    def _stop(self) -> None:
        """Have the last of it sent, and wait for that; where nothing began (a forked child) there is nothing."""
        self.stopping = self.stopping or time.monotonic()
        if self._begun:
            self._sender.finish(self)

    @property
    def at_it(self) -> bool:
        """Whether a thread is sending for this run."""
        return self._sending.locked()

    @property
    def carries(self) -> bool:
        """Whether a file is among what is sent next."""
        waiting = (*self._queue, *self._unsent)
        return self._spool.carries or any(isinstance(message, spool.WITH_FILE) for _, message in waiting)

    @property
    def silent(self) -> bool:
        """Whether the daemon knows this run and has not heard of it for a while."""
        return self._spool.empty and time.monotonic() - self.spoke > BEAT

    def send(self) -> None:
        """Send what there is, for the last time when the run stops; nothing where another thread does so."""
        if not self._sending.acquire(blocking=False):
            return
        stopping = self.stopping
        last = stopping is not None
        try:
            if not self.over.is_set():
                self._round(last, self._sender.resting if stopping is None else self._sender.away_since(stopping))
        except Exception as error:  # whatever it is, the others go on, and whoever waits for the end gets it
            print(f"quarterdeck: {self.id}: nothing more is kept: {error}", file=sys.stderr)
            last = True
        finally:
            if last and not self.over.is_set():
                self._spool.leave()
                self._sender.leave(self)
                self.over.set()
            self._sending.release()

    def _round(self, last: bool, away: bool) -> None:
        """Take what was logged and send it in order, through the spool while that is not empty."""
        self._unsent.extend(
            (new_request(), batch) for batch in batches(self.id, self._rows, self._steps, self._refused)
        )
        while self._queue:
            self._unsent.append(self._queue.popleft())
        if last and self._closing is not None:
            self._unsent.append(self._closing)
        try:
            if not (away or self._spool.empty or self._parent_waits()):
                self._spool.deliver(self._send)
            while self._unsent and self._spool.empty and not away:
                self._send_some()
        except spool.LATER:
            away = True
        if last or away or not self._spool.empty:
            while self._unsent:
                self._spool.add(*self._unsent.popleft())

    def _send_some(self) -> None:
        """Send the next messages in one go, a few at most; one that names a file alone."""
        some = list(takewhile(lambda waits: not isinstance(waits[1], spool.WITH_FILE), islice(self._unsent, AT_ONCE)))
        if some:
            self._sender.ask_all(some, self._settled)
        else:
            request, message = self._unsent[0]
            spool.settle(self._send, request, message)
            self._settled(message)

    def _settled(self, message: Any, fault: Fault | None = None) -> None:
        self.spoke = time.monotonic()
        self._unsent.popleft()
        if fault is not None:
            spool.refused(message, fault)

    def _send(self, message: Any, request: str) -> Any:
        answer = spool.asked(self._sender, message, request)
        self.spoke = time.monotonic()
        return answer

    def _forked(self) -> None:
        """In a forked child: nothing of the parent's is sent twice, and the first thing it says begins its sending."""
        self._reset()
        self.log = self._log_first  # type: ignore[method-assign]

    def _log_first(self, *args: Any, **metrics: Any) -> None:
        self._begin_in_child()
        self.log(*args, **metrics)

    def _begin_in_child(self) -> None:
        self.__dict__.pop("log", None)
        self._begin()
        if "multiprocessing.util" in sys.modules:  # its children end without atexit
            sys.modules["multiprocessing.util"].Finalize(self, self._stop, exitpriority=10)


def _nested_in(parent: LiveRun | str | None, nested: bool) -> LiveRun | str | None:
    """The run that is named, else with `nested` the one whose `with` block this thread is in."""
    if parent is not None or not nested:
        return parent
    within = _within.get()
    if within is None:
        raise got("nested", "no run that this thread is in", "one, or parent=RUN")
    return within


def _end_by(error: BaseException) -> tuple[str, str]:
    """How a run ends by an exception: one that did not reach its end is never called FINISHED."""
    if isinstance(error, Terminated):
        return "KILLED", "SIGTERM"
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "KILLED", f"{type(error).__name__} {error}".strip()
    return "FAILED", "".join(traceback.format_exception(error))[-20_000:]


def _terminate(number: int, frame: FrameType | None) -> None:
    global _terminated
    _terminated = True
    raise Terminated(128 + number)


def _at_exit() -> None:
    """Runs that nobody closed, the newest first: they end by what ended the process, where Python knows that. Else
    their points go out and their end is for the daemon to find (LOST)."""
    error: BaseException | None = Terminated() if _terminated else getattr(sys, "last_value", None)
    for run in reversed(list(_alive.values())):
        if error is not None and not hasattr(sys, "ps1"):  # at a prompt an exception ends nothing
            run.end(*_end_by(error))
        run._stop()


def _after_fork() -> None:
    for run in list(_alive.values()):
        run._forked()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
