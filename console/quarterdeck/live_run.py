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
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from quarterdeck import spool
from quarterdeck.values import Row, batches, complain, numbers, plain_params, plain_step, plain_tags
from quarterstore.records.faults import Fault, got
from quarterstore.records.ids import new_id
from quarterstore.records.names import LONGEST_EXPERIMENT, checked_text
from quarterstore.records.places import Home
from quarterstore.records.runs import (
    Beat,
    DatasetInput,
    EndRun,
    LogArtefact,
    LogInputs,
    LogParams,
    SetTags,
    StartRun,
    Value,
)

if TYPE_CHECKING:
    from quarterdeck.asking import Asker

EVERY = 0.05
"""Seconds between two batches."""
BEAT = 5.0
PATIENCE = 2.0
"""Seconds the sender waits for an answer before it spools."""
AGAIN = 0.5
"""Seconds between two attempts to empty the spool."""
AGAIN_OF = "QUARTERDECK_AGAIN_OF"
"""In the environment of a command that is done again: the run it is done for."""
REPRODUCES = "quarterdeck.reproduces"
"""The tag of a run that was made by doing another one's command again: the other one."""
_ids = iter(lambda: os.urandom(12).hex(), "")
_alive: weakref.WeakSet[LiveRun] = weakref.WeakSet()
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
        home: Home,
        caller: str,
        experiment: str,
        *,
        dial: Callable[[], Asker],
        name: str = "",
        params: dict[str, Value] | None = None,
        tags: dict[str, str] | None = None,
        datasets: tuple[str, ...] = (),
        parent: LiveRun | str | None = None,
        nested: bool = False,
        seed: int | None = None,
    ) -> None:
        """Opens the run; raises the daemon's fault when it refuses, spools when there is none. `dial` makes the
        client of the sending thread, with a short time-out (`PATIENCE`). `nested` puts it into the run whose `with`
        block this thread is in, `parent` into another one."""
        from quarterdeck.source import found

        checked_text("experiment", experiment, longest=LONGEST_EXPERIMENT)
        if nested and parent is None:
            parent = _within.get()
            if parent is None:
                raise got("nested", "no run that this thread is in", "one, or parent=RUN")
        self._above = parent if isinstance(parent, LiveRun) else None
        self.id = new_id("run")
        self.home = home
        self.caller = caller
        self._dial = dial
        self._steps: dict[str, int] = {}
        self._images: dict[str, int] = {}
        self._refused: set[str] = set()
        self._ended = False
        self._closing: tuple[str, EndRun] | None = None
        self._owner = os.getpid()
        self._warned = False
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
        if source.packages is not None:
            self._tell_packages(source.packages)
        self._begin()
        self._guard()
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
        self._queue.append((next(_ids), LogParams(run=self.id, params=plain)))

    def set_tags(self, tags: dict[str, str | None] | None = None, /, **more: str | None) -> None:
        """Set tags; `None` removes one, one that is no text is said and left out."""
        self._queue.append((next(_ids), SetTags(run=self.id, tags=plain_tags({**(tags or {}), **more}))))

    def log_artefact(self, path: Path | str, name: str | None = None) -> str:
        """Keep a file, as it is now, under `name` (its own unless given); answers its SHA-256."""
        digest, size = spool.keep_file(self.home, Path(path))
        message = LogArtefact(run=self.id, path=name or Path(path).name, digest=digest, size=size)
        self._queue.append((next(_ids), message))
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
        self._queue.append((next(_ids), LogArtefact(run=self.id, path=path, digest=digest, size=size, step=step)))
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
        self._queue.append((next(_ids), AddDataset(digest=digest, name=name, format=kind, size=size)))
        tags = {"mlflow.data.context": context} if context else {}
        used = DatasetInput(name=name, digest=digest, source_type="local", source=str(path), tags=tags)
        self._queue.append((next(_ids), LogInputs(run=self.id, inputs=(used,))))
        return digest

    def end(self, state: str = "FINISHED", error: str | None = None) -> None:
        """Send what is left and close the run; what cannot be sent is spooled. Only the process that opened it can."""
        if self._ended or os.getpid() != self._owner:
            return
        self._ended = True
        ended = EndRun(run=self.id, state=state, error=error, ended=time.time())  # type: ignore[arg-type]
        self._closing = (next(_ids), ended)
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
            self._queue.append((next(_ids), KeepPackages(packages=installed())))

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
        if self._parent_waits():
            self._warned = True
            self._spool.add(request, start)
            return
        try:
            self._send(start, request)
        except spool.LATER:
            self._away()
            self._spool.add(request, start)

    def _parent_waits(self) -> bool:
        """Whether the run this one is nested in is not known to the daemon yet."""
        return self._above is not None and not self._above._spool.empty

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
        self._unsent.extend((next(_ids), batch) for batch in batches(self.id, self._rows, self._steps, self._refused))
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
        if self._parent_waits() or (not last and time.monotonic() - self._tried < AGAIN):
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


def _at_exit(found: weakref.ref[LiveRun]) -> None:
    """A run that nobody closed: it ends by what ended the process, where Python knows that. Else its points go out and
    its end is for the daemon to find (LOST)."""
    run = found()
    if run is None or run._ended:
        return
    error: BaseException | None = Terminated() if _terminated else getattr(sys, "last_value", None)
    if error is not None and not hasattr(sys, "ps1"):  # at a prompt an exception ends nothing
        run.end(*_end_by(error))
    run._stop()


def _after_fork() -> None:
    for run in list(_alive):
        run._forked()


os.register_at_fork(after_in_child=_after_fork)
