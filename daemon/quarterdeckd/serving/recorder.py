"""Predictions on their way to the disk: written before they are answered, into segments that the daemon folds."""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from quarterstore.records.deployments import RecordingRule
from quarterstore.records.predictions import COLUMNS, column_of, hashed
from quarterstore.records.retention import WAITING_ROWS, WAITING_SIZE, Waiting

log = logging.getLogger("quarterdeck.recorder")
SEGMENT = 4 * 1024 * 1024
CLOSE_AFTER = 1.0
SYNC_EVERY = 0.5
SEGMENTS = 8
"""Segments at least that the bound is divided into, so that the daemon can fold some while others are written."""
MEASURE_EVERY = 0.05
"""Seconds between two looks at what waits, while predictions are dropped."""
_frame = struct.Struct("<II")


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One answered request: `features` holds a list per feature, one value a row, after the recording rule."""

    id: str
    at: float
    endpoint: str
    version: str
    role: str
    epoch: int
    status: int
    latency: float
    features: dict[str, list[Any]]
    predictions: list[Any]
    scores: list[float]
    error: str | None = None
    key_hash: str | None = None
    """The caller's key, hashed: what an outcome of a person is joined by."""
    dealt: int | None = None
    """The point of the caller's key, else of the prediction's id, that dealt it to its arm, where there are several."""
    propensity: float = 1.0
    """The chance that its arm had."""
    read: dict[str, tuple[list[Any], list[Any]]] | None = None
    """The status and the age of what was read of each view for it, a row each."""


def kept(rule: RecordingRule, features: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The features as the rule lets them be kept: as they are, as salted SHA-256 (32 hex digits), or not at all."""
    if not rule.fields and rule.default == "keep":
        return features
    found: dict[str, list[Any]] = {}
    for name, values in features.items():
        what = rule.fields.get(name, rule.default)
        if what == "keep":
            found[name] = values
        elif what == "hash":
            found[name] = [hashed(rule.salt, value) for value in values]
    return found


def kept_key(rule: RecordingRule, key: str | None) -> str | None:
    """The caller's key as the rule lets it be kept: hashed at most, since it may name a person."""
    return None if key is None or rule.fields.get("key", rule.default) == "drop" else hashed(rule.salt, key)


class Recorder:
    """One host's segments. `write` costs one write(2); syncing and closing are a thread's work."""

    def __init__(self, folder: Path, pid: int, bound: int = WAITING_SIZE) -> None:
        self.dropped = 0
        self.why = ""
        self._folder = folder
        self._pid = pid
        self._bound = bound
        self._most_rows = WAITING_ROWS
        self._written_size = self._written_rows = 0
        self._number = 0
        self._file = -1
        self._size = 0
        self._began = 0.0
        self._lock = threading.Lock()
        self._waiting = 0
        self._encode = msgspec.msgpack.Encoder().encode
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._measure()

    def limit(self, most: Waiting) -> None:
        """How much may wait for the daemon from here on."""
        with self._lock:
            self._bound, self._most_rows = most.size, most.rows

    def _measure(self) -> None:
        """Look at what waits; the daemon takes segments away meanwhile."""
        total = 0
        for path in self._folder.iterdir():
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                continue
        self._waiting = total
        self._measure_again = time.monotonic() + MEASURE_EVERY

    def write(self, frame: Frame) -> bool:
        """Keep one prediction; False when it was counted instead."""
        payload = self._encode(frame)
        data = _frame.pack(len(payload), zlib.crc32(payload)) + payload
        with self._lock:
            if self._waiting > (bound := self._bound_now()) and time.monotonic() >= self._measure_again:
                self._measure()  # the daemon may have taken some
            if self._waiting > bound:
                return self._drop(f"{self._waiting} bytes wait for the daemon, the bound is {bound}")
            try:
                if self._file < 0:
                    self._open()
                if os.write(self._file, data) != len(data):
                    os.ftruncate(self._file, self._size)
                    return self._drop("the disk is full")
            except OSError as error:
                return self._drop(error.strerror or "the disk cannot be written")
            self._size += len(data)
            self._waiting += len(data)
            self._written_size += len(data)
            self._written_rows += rows_of(frame)
        return True

    def _bound_now(self) -> int:
        """The bound in bytes, and that in rows as bytes of this host's average: what other hosts wrote is not read."""
        if not self._written_rows:
            return self._bound
        return min(self._bound, self._most_rows * self._written_size // self._written_rows)

    def _drop(self, why: str) -> bool:
        self.dropped += 1
        self.why = why
        return False

    def full(self) -> bool:
        """Whether the segment is so large that it should be closed now."""
        return self._size >= min(SEGMENT, self._bound_now() // SEGMENTS)

    def _open(self) -> None:
        self._number += 1
        # the time first, so that segments of all hosts sort by age
        self._path = self._folder / f"{time.time_ns()}-{self._pid}-{self._number}.seg"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)
        self._size = 0
        self._began = time.monotonic()

    def tend(self, *, close: bool = False) -> bool:
        """Sync what is open; close it when it is old or large enough, so that the daemon may take it. Answers whether
        nothing is open any more."""
        self._measure()
        with self._lock:
            if self._file < 0:
                return True
            file, path = self._file, self._path
            done = close or self.full() or time.monotonic() - self._began >= CLOSE_AFTER
            if done:
                self._file = -1
        try:
            os.fdatasync(file)
        finally:
            if done:
                os.close(file)
                path.rename(path.with_suffix(".done"))
        return done


def adopt_segments(folder: Path) -> None:
    """Close the segments that a dead host left open."""
    for path in folder.glob("*.seg"):
        pid = path.stem.split("-")[1]
        if not Path(f"/proc/{pid}").exists():
            with suppress(FileNotFoundError):  # the launcher and the daemon both look
                path.rename(path.with_suffix(".done"))


def read_segment(path: Path, say: Callable[[str], None] = log.warning) -> Iterator[Frame]:
    """The predictions of a segment, until its end or the first frame that is not whole; what is passed over or follows
    that is said to `say`."""
    data = memoryview(path.read_bytes())
    decode = msgspec.msgpack.Decoder(Frame).decode
    offset = 0
    while offset + _frame.size <= len(data):
        length, crc = _frame.unpack_from(data, offset)
        payload = data[offset + _frame.size : offset + _frame.size + length]
        if len(payload) < length or zlib.crc32(payload) != crc:
            break
        try:
            yield decode(payload)
        except msgspec.DecodeError as error:
            say(f"{path.name}: a frame that is no prediction ({error}) is passed over")
        offset += _frame.size + length
    if offset < len(data):
        say(f"{path.name}: the last {len(data) - offset} bytes are no whole prediction and are dropped")


def rows_of(frame: Frame) -> int:
    """How many rows a frame is kept as: one at least."""
    return max(1, len(frame.predictions), *map(len, frame.features.values()))


def columns(frames: Iterable[Frame]) -> dict[str, list[Any]]:
    """One row a predicted row, as columns named as in `records.predictions`; a feature that a frame lacks is None."""
    fixed: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    features: dict[str, list[Any]] = {}
    count = 0
    for frame in frames:
        rows = rows_of(frame)
        about = (frame.at, frame.endpoint, frame.version, frame.role, frame.epoch, frame.status, frame.latency)
        for row in range(rows):
            for name, value in zip(COLUMNS[2:9], about, strict=True):
                fixed[name].append(value)
            fixed["id"].append(frame.id)
            fixed["row"].append(row)
            fixed["prediction"].append(str(frame.predictions[row]) if row < len(frame.predictions) else None)
            fixed["score"].append(frame.scores[row] if row < len(frame.scores) else None)
            fixed["error"].append(frame.error)
            fixed["key_hash"].append(frame.key_hash)
            fixed["dealt"].append(frame.dealt)
            fixed["propensity"].append(frame.propensity)
            fixed["features_read"].append(None if frame.read is None else _read_of(frame.read, row))
        for name in frame.features.keys() - features.keys():
            features[name] = [None] * count
        for name, found in features.items():
            values = frame.features.get(name, [])
            found.extend(values[row] if row < len(values) else None for row in range(rows))
        count += rows
    return fixed | {column_of(name): values for name, values in features.items()}


def _read_of(read: dict[str, tuple[list[Any], list[Any]]], row: int) -> str:
    """What was read for one row, as JSON: of each view the status and the age."""
    found = {view: [statuses[row], ages[row]] for view, (statuses, ages) in read.items() if row < len(statuses)}
    return msgspec.json.encode(found).decode()
