"""A live run: `with deck.run("churn") as run: run.log(loss=…)`; never blocks training, spools when the daemon is away.

Everything a run says goes through one thread, in order: its start, batches of points, artefacts, its end. While the daemon
does not answer, each goes to a file of the home's `spool` folder instead; the files are delivered in order when it is back,
by this process or by the next one that opens a run. Request ids and batch ids make what is delivered twice count once.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from array import array
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import msgspec

from quarterdeck.transport import Transport
from quarterstore.records.base import answer_type, tag_of
from quarterstore.records.faults import Fault, TimedOut, Unreachable
from quarterstore.records.ids import new_id
from quarterstore.records.messages import BY_TAG
from quarterstore.records.places import Home
from quarterstore.records.runs import Beat, EndRun, LogArtefact, LogMetrics, LogParams, SetTags, Source, StartRun, Value
from quarterstore.records.store import PutBlob
from quarterstore.records.wire import CHUNK, decode, encode

EVERY = 0.1
"""Seconds between two batches."""
MOST = 50_000
"""Points of one batch."""
BEAT_EVERY = 5.0
AGAIN = 1.0
"""Seconds until the daemon is tried again after it did not answer."""
PATIENCE = 5.0


class Spooled(msgspec.Struct, frozen=True, array_like=True):
    """A message that could not be delivered yet."""

    request: str
    message: msgspec.Raw


class LiveRun:
    """The writing side of a run; `runs.Run` is what is read. Not for use in a child after fork: there it says nothing."""

    def __init__(
        self,
        home: Home,
        caller: str,
        experiment: str,
        *,
        name: str = "",
        params: dict[str, Value] | None = None,
        tags: dict[str, str] | None = None,
        seed: int | None = None,
        parent: str | None = None,
    ) -> None:
        self.id = new_id("run")
        self._home, self._caller = home, caller
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._columns = Columns()
        self._queue: queue.Queue[tuple[str, Any] | None] = queue.Queue()
        self._transport: Transport | None = None
        self._tried = 0.0
        self._warned = False
        self._ended = False
        self._number = 0
        self._put(
            StartRun(
                experiment=experiment,
                name=name,
                run=self.id,
                params=params or {},
                tags=tags or {},
                source=source(seed),
                parent=parent,
                started=time.time(),
            )
        )
        self._thread = threading.Thread(target=self._run, name="quarterdeck-run", daemon=True)
        self._thread.start()
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_sigterm)
        atexit.register(self._at_exit)

    def log(self, _step: int | None = None, /, step: int | None = None, **metrics: float) -> None:
        """Log values of metrics at a step (counted by itself when not given); a value that is no number is said and left
        out, and training goes on."""
        columns = self._columns
        at = time.time()
        number = step if step is not None else _step
        with self._lock:
            if number is None:
                number = columns.next
            columns.next = number + 1
            for key, value in metrics.items():
                try:
                    columns.add(key, number, at, float(value))
                except (TypeError, ValueError):
                    print(f"error: {key}: got {value!r}, expected a number; it is not logged", file=sys.stderr)

    def log_many(self, key: str, steps: Any, values: Any) -> None:
        """Log a whole column of one metric: `steps` integers and `values` numbers of the same length."""
        at = time.time()
        with self._lock:
            for number, value in zip(steps, values, strict=True):
                self._columns.add(key, int(number), at, float(value))

    def log_params(self, **params: Value) -> None:
        """Add parameters."""
        self._put(LogParams(run=self.id, params=params))

    def set_tags(self, **tags: str) -> None:
        """Set tags."""
        self._put(SetTags(run=self.id, tags=tags))

    def log_artefact(self, path: str | Path, name: str | None = None) -> str:
        """Keep a file with the run; answers its SHA-256. It is read now, so it may change afterwards."""
        data = Path(path).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        for offset in range(0, max(1, len(data)), CHUNK):
            part = data[offset : offset + CHUNK]
            last = offset + CHUNK >= len(data)
            self._put(PutBlob(upload=digest, offset=offset, data=part, digest=digest if last else None))
        self._put(LogArtefact(run=self.id, path=name or Path(path).name, digest=digest, size=len(data)))
        return digest

    log_artifact = log_artefact

    def end(self, state: str = "FINISHED", error: str | None = None) -> None:
        """Close the run and wait until everything is delivered, or in the spool."""
        if self._ended or os.getpid() != self._process:
            return
        self._ended = True
        self._flush()
        self._put(EndRun(run=self.id, state=state, error=error, ended=time.time()))  # type: ignore[arg-type]
        self._queue.put(None)
        self._thread.join()
        atexit.unregister(self._at_exit)
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.end()
        elif issubclass(kind, KeyboardInterrupt):
            self.end("KILLED", "interrupted")
        else:
            self.end("FAILED", "".join(traceback.format_exception(kind, error, at))[-8000:])

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self.end("KILLED", "SIGTERM")
        signal.signal(signal.SIGTERM, self._before if callable(self._before) else signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    def _at_exit(self) -> None:
        self.end("FAILED", "the process ended without ending the run")

    def _put(self, message: Any) -> None:
        if os.getpid() == self._process:
            self._queue.put((os.urandom(12).hex(), message))

    def _flush(self) -> None:
        with self._lock:
            columns, self._columns = self._columns, Columns(self._columns.next)
        for batch in columns.batches(self.id):
            self._put(batch)

    def _run(self) -> None:
        beat = time.monotonic()
        while True:
            try:
                item = self._queue.get(timeout=EVERY)
            except queue.Empty:
                self._flush()
                if time.monotonic() - beat > BEAT_EVERY:
                    beat = time.monotonic()
                    self._deliver("", Beat(run=self.id), spool=False)
                continue
            if item is None:
                if self._transport is not None:
                    self._transport.close()
                return
            self._deliver(*item)
            if not self._ended:
                self._flush()

    def _deliver(self, request: str, message: Any, *, spool: bool = True) -> None:
        try:
            self._connected()
            assert self._transport is not None
            deliver_spooled(self._transport, self._home, self.id)
            self._transport.ask(message, answer_type(type(message)), PATIENCE, request or None)
            return
        except (Unreachable, TimedOut):
            self._tried = time.monotonic()
            self._drop()
        except Fault as fault:
            print(f"error: {tag_of(type(message))}: {fault.line()}", file=sys.stderr)
            return
        if spool:
            self._spool(request, message)

    def _connected(self) -> None:
        if self._transport is None:
            if time.monotonic() - self._tried < AGAIN and not self._ended:
                raise Unreachable("tried a moment ago")
            self._transport = Transport(self._home, self._caller)

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _spool(self, request: str, message: Any) -> None:
        if not self._warned:
            self._warned = True
            print("daemon not reachable, spooling", file=sys.stderr)
        folder = self._home.root / "spool" / self.id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._number += 1
        path = folder / f"{self._number:08d}"
        aside = path.with_suffix(".part")
        aside.write_bytes(encode(Spooled(request, msgspec.Raw(encode(message)))))
        aside.rename(path)


class Columns:
    """Points as columns of machine numbers: what one call of `log` costs is four appends a value."""

    __slots__ = ("index", "key", "next", "step", "time", "value")

    def __init__(self, following: int = 0) -> None:
        self.index: dict[str, int] = {}
        self.next = following
        self.key = array("H")
        self.step = array("q")
        self.time = array("d")
        self.value = array("d")

    def add(self, key: str, step: int, at: float, value: float) -> None:
        """One point."""
        index = self.index.get(key)
        if index is None:
            index = self.index[key] = len(self.index)
        self.step.append(step)
        self.key.append(index)
        self.time.append(at)
        self.value.append(value)

    def batches(self, run: str) -> list[LogMetrics]:
        """The points as messages of at most 50,000 each."""
        keys = tuple(self.index)
        return [
            LogMetrics(
                run=run,
                batch=new_id("batch"),
                keys=keys,
                key=self.key[start : start + MOST].tobytes(),
                step=self.step[start : start + MOST].tobytes(),
                time=self.time[start : start + MOST].tobytes(),
                value=self.value[start : start + MOST].tobytes(),
            )
            for start in range(0, len(self.key), MOST)
        ]


def deliver_spooled(transport: Transport, home: Home, own: str | None = None) -> int:
    """Send what lies in the spool, in order: of one run when `own` names it, else of every run. Answers how many messages
    were delivered."""
    folder = home.root / "spool"
    if not folder.exists():
        return 0
    delivered = 0
    for run in sorted(folder.iterdir()):
        if own is not None and run.name != own:
            continue
        for path in sorted(each for each in run.iterdir() if each.suffix != ".part"):
            spooled = decode(path.read_bytes(), Spooled)
            kind = BY_TAG[msgspec.msgpack.decode(spooled.message)["type"]]
            try:
                transport.ask(msgspec.msgpack.decode(spooled.message, type=kind), answer_type(kind), PATIENCE, spooled.request)
            except (Unreachable, TimedOut):
                raise
            except Fault as fault:
                print(f"error: spooled {tag_of(kind)}: {fault.line()}", file=sys.stderr)
            path.unlink()
            delivered += 1
        if not any(run.iterdir()):
            run.rmdir()
    return delivered


def source(seed: int | None) -> Source:
    """Where a run comes from, found out cheaply: git is asked with a short deadline, packages are a hash of their folder's
    names."""
    commit = _git("rev-parse", "HEAD")
    patch = _git("diff", "HEAD") if commit else None
    return Source(
        command=" ".join(sys.argv)[:2000],
        commit=commit,
        patch=patch[:20_000] if patch else None,
        host=platform.node(),
        python=platform.python_version(),
        packages=_packages(),
        seed=seed,
    )


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=1.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _packages() -> str:
    names = sorted(
        entry.name for folder in sys.path if os.path.isdir(folder) for entry in os.scandir(folder) if entry.name.endswith(".dist-info")
    )
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]

