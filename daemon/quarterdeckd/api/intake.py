"""The intake of metric points: written before they are answered, synced twice a second, folded into Parquet by day."""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from quarterdeckd.api import curves, dropping, newest
from quarterdeckd.api.writer import EXIT_UNSYNCED
from quarterdeckd.services.labels import checked_time
from quarterstore.ledger.journal import crash
from quarterstore.records.faults import Corrupt, Full, Unknown, got
from quarterstore.records.names import LONGEST_KEY, checked_text, checked_word
from quarterstore.records.runs import Curve, Logged, LogMetrics
from quarterstore.records.wire import encode
from quarterstore.shelf import parquet
from quarterstore.shelf.files import make_folder, on_disk, sync_folder
from quarterstore.shelf.kept import KeptFiles

if TYPE_CHECKING:
    import polars

log = logging.getLogger(__name__)
SYNC_EVERY = 0.5
LEAVE_AFTER = 0.1
"""Seconds after a failed sync in which the answers that say so go out."""
FOLD_AT = 32 * 1024 * 1024
MOST_POINTS = 500_000
_frame = struct.Struct("<II")


class Points:
    """Points of one run that are not in Parquet yet."""

    __slots__ = ("batches",)

    def __init__(self) -> None:
        self.batches: list[LogMetrics] = []


class Intake:
    """An append-only log of batches and what it says of each run; `take` on the loop, `sync` and `fold` in threads."""

    def __init__(self, folder: Path, heard: Callable[[str], None]) -> None:
        self.folder = folder
        self.latest: dict[str, dict[str, float]] = {}
        """The value of each metric of a run with the highest (step, time, value), whatever the order of arrival."""
        self.newest: dict[str, dict[str, tuple[int, float, float]]] = {}
        """That point whole: step, time, value."""
        self.points = 0
        self._folded_points = 0
        self.fold_size, self.fold_points = FOLD_AT, MOST_POINTS * 4
        """From which size of the log, or from how many points in it on, it is folded."""
        self.kept = KeptFiles(folder)
        self.recovered: list[str] = []
        self._heard = heard
        self.on_points: Callable[[str], None] = lambda run: None
        """Told of a run whose metrics are others now."""
        self.on_due: Callable[[], None] = lambda: None
        """Told on the loop when the log should be folded."""
        self.is_open: Callable[[str], bool] = lambda run: True
        """Whether a run may still be ended: the last values of the others are in their records."""
        self._recent: dict[str, Points] = {}
        self._seen: set[str] = set()
        self._folding = threading.Lock()
        self._syncing = threading.Lock()
        self._unsynced = False
        self._failed: Unknown | None = None
        self._number = 0
        make_folder(folder)
        self._folded = newest.read(folder, self.recovered)
        for run, points in self._folded.items():
            self.newest[run] = dict(points)
            self.latest[run] = {name: point[2] for name, point in points.items()}
        for path in sorted(folder.glob("*.log")):
            self._restore(path)
        self._open()

    def _open(self) -> None:
        self._number += 1
        self._path = self.folder / f"{self._number:08d}.log"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        sync_folder(self.folder)  # a durable batch needs the name of its file too
        self._size = os.fstat(self._file).st_size

    def _restore(self, path: Path) -> None:
        """Read a log of before; a frame that was cut by a power loss ends it."""
        self._number = int(path.stem)
        for batch in frames(path, self.recovered):
            self._remember(batch)

    def take(self, batch: LogMetrics) -> Logged:
        """Keep one batch; answers once it is written. A `durable` one is certain only after the next `sync`, for which
        the dispatch waits. The same batch again is answered, not kept."""
        count = _checked(batch)
        if self._failed:
            raise self._failed
        durability = "synced" if batch.durable else "written"
        if batch.batch in self._seen:
            return Logged(points=count, durability=durability)  # type: ignore[arg-type]
        payload = encode(batch)
        data = _frame.pack(len(payload), zlib.crc32(payload)) + payload
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(28, "only a part was written")
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise Full(f"the points could not be written ({error.strerror})", field="samples") from error
        self._size += len(data)
        crash("samples.written")
        self._unsynced = True
        self._remember(batch)
        self._heard(batch.run)
        self.on_points(batch.run)
        if self.due():
            self.on_due()
        return Logged(points=count, durability=durability)  # type: ignore[arg-type]

    def _remember(self, batch: LogMetrics) -> None:
        self._seen.add(batch.batch)
        self._recent.setdefault(batch.run, Points()).batches.append(batch)
        self.points += len(batch.key) // 2
        latest = self.latest.setdefault(batch.run, {})
        latest.update((name, point[2]) for name, point in newest.add(self.newest, batch).items())

    def beat(self, run: str) -> None:
        """A run says that it is alive."""
        self._heard(run)

    def sync(self) -> None:
        """Make what is written survive power loss; a failure is the caller's to say."""
        with self._syncing:
            if self._failed:
                raise self._failed
            if self._unsynced:
                self._unsynced = False
                try:
                    os.fdatasync(self._file)
                except OSError as error:
                    self._give_up(error)

    def _give_up(self, error: OSError) -> NoReturn:
        """A failed sync: nobody knows which points are on the disk. Say so, take no more, never retry, leave; the
        restart decides by reading."""
        self._failed = Unknown(
            f"the points could not be synced ({error.strerror}); the restart will tell which were kept", field="samples"
        )
        log.critical("the points could not be synced: %s; leaving for a restart", error)
        timer = threading.Timer(LEAVE_AFTER, os._exit, [EXIT_UNSYNCED])
        timer.daemon = True
        timer.start()
        raise self._failed

    def due(self) -> bool:
        """Whether the log is large enough to be folded."""
        return self._size >= self.fold_size or (self.waiting() >= self.fold_points and self._size > 0)

    def roll(self) -> list[Path]:
        """Begin a new log; answers the closed ones, to be folded in a thread."""
        if self._size:
            self.sync()
            with self._syncing:  # what another thread syncs is not closed under it
                os.close(self._file)
                self._open()
        return sorted(path for path in self.folder.glob("*.log") if path != self._path)

    def fold(self, closed: list[Path]) -> None:
        """Turn closed logs into Parquet, one file a log and day, then drop them; in a thread."""
        with self._folding:
            for path in closed:
                if path.exists():
                    self._fold_one(path)

    def _fold_one(self, path: Path) -> None:
        import polars

        damage: list[str] = []
        batches = list(frames(path, damage))
        if batches:
            parts = [_frame_of(batch) for batch in batches]
            frame = polars.concat(parts).sort("run", "key", maintain_order=True)
            day = time.strftime("%Y-%m-%d", time.gmtime(path.stat().st_mtime))
            target = self.folder / f"day={day}" / f"{path.stem}.parquet"
            parquet.write(frame, target)
            self.kept.add(target, len(frame))
            self._keep_newest(batches)
            crash("samples.folded")
        if damage:
            path.rename(path.with_suffix(".damaged"))  # what could be read of it is folded; the rest is for a person
        else:
            path.unlink()
        for batch in batches:
            self._folded_points += len(batch.key) // 2
            recent = self._recent.get(batch.run)
            if recent is not None:
                recent.batches = [each for each in recent.batches if each.batch != batch.batch]
                if not recent.batches:
                    self._recent.pop(batch.run, None)

    def _keep_newest(self, batches: list[LogMetrics]) -> None:
        """Note what the folded points say last of open runs, before their log goes."""
        for batch in batches:
            newest.add(self._folded, batch)
        self._folded = {run: points for run, points in self._folded.items() if self.is_open(run)}
        newest.write(self.folder, self._folded)

    def drop(self, gone: Callable[[str], bool], *, dry_run: bool) -> dropping.Dropped:
        """Take the folded points of runs that are `gone` off the disk, or only count what that frees; in a thread."""
        dropped = dropping.drop(self.kept, self._folding, gone, dry_run=dry_run)
        for run in dropped.runs if not dry_run else ():
            self.latest.pop(run, None)
            self.newest.pop(run, None)
        return dropped

    def waiting(self) -> int:
        """Points that are not folded yet."""
        return self.points - self._folded_points

    def look(self) -> None:
        """Look for files of points that came from elsewhere; in a thread."""
        with self._folding:
            self.kept.look()

    def measured(self) -> tuple[int, int]:
        """Bytes on the disk and points that are kept, folded or not; in a thread."""
        with self._folding:
            self.kept.load()
            logs = sum(on_disk(path) for path in self.folder.glob("*.log"))
            return self.kept.size + logs, self.kept.rows + self.waiting()

    def runs(self) -> dict[str, tuple[int, float]]:
        """Of each run how many points are folded, and what share of the files that is in bytes; in a thread."""
        found: dict[str, tuple[int, float]] = {}
        with self._folding:
            self.kept.load()
            for path, file in self.kept.files.items():
                for run, rows in self.kept.runs(path).items():
                    number, size = found.get(run, (0, 0.0))
                    found[run] = (number + rows, size + file.size * rows / max(1, file.rows))
        return found

    def history(self, run: str, keys: tuple[str, ...], most: int) -> list[Curve]:
        """The points of a run, by key, in the order of arrival, a point that came twice once; from Parquet (checked)
        and from what is not folded yet. At most `most` a curve, 0 for all."""
        found: dict[str, Curve] = {}
        with self._folding:
            self._look_for_lost()
            for path in sorted(self.folder.glob("day=*/*.parquet"), key=lambda each: each.stem):
                curves.read_parquet(path, run, found)
            for batch in list(self._recent.get(run, Points()).batches):
                curves.read_batch(batch, found)
        wanted = [found[key] for key in found if not keys or key in keys]
        return [curves.thinned(curves.once(curve), max(2, most) if most else len(curve.steps)) for curve in wanted]

    def _look_for_lost(self) -> None:
        """A hash whose file is not there: deleted, unless its log is still here and is folded again."""
        for side in self.folder.glob("day=*/*.sha256"):
            log_name = side.stem.partition("-")[0]
            here = side.with_suffix(".parquet").exists() or dropping.next_name(side).exists()
            if not here and not (self.folder / f"{log_name}.log").exists():
                raise Corrupt(
                    f"{side.stem}.parquet: got no file, expected {side.read_text(errors='replace')}", field="parquet"
                )

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        os.close(self._file)


def frames(path: Path, said: list[str] | None = None) -> Iterator[LogMetrics]:
    """The batches of a log. One that is not whole is passed over and said: each has a checksum of its own, and at the
    end of a log it is what a power loss left."""
    data = memoryview(path.read_bytes())
    decode = msgspec.msgpack.Decoder(LogMetrics).decode
    offset = 0
    while offset < len(data):
        length, crc = _frame.unpack_from(data, offset) if offset + _frame.size <= len(data) else (len(data), 0)
        payload = data[offset + _frame.size : offset + _frame.size + length]
        if len(payload) == length and zlib.crc32(payload) == crc:
            yield decode(payload)
        else:
            words = f"{path.name} at {offset}: got {zlib.crc32(payload):08x}, expected {crc:08x}: a batch is not whole"
            log.error(words)
            if said is not None:
                said.append(words)
        offset += _frame.size + length


def _checked(batch: LogMetrics) -> int:
    count = len(batch.key) // 2
    if count > MOST_POINTS:
        raise got("points", count, f"at most {MOST_POINTS}")
    lengths = (len(batch.key), len(batch.step), len(batch.time), len(batch.value))
    if lengths != (2 * count, 8 * count, 8 * count, 8 * count):
        raise got("points", f"columns of {lengths} bytes", "2, 8, 8 and 8 bytes a point")
    if len(batch.keys) > 65_535:
        raise got("keys", len(batch.keys), "at most 65535")
    for key in batch.keys:
        checked_text("keys", key, longest=LONGEST_KEY)
    checked_word("run", batch.run)
    checked_word("batch", batch.batch)
    if count:
        _check_times(array("d", batch.time))
    if count and max(array("H", batch.key)) >= len(batch.keys):
        raise got("key", max(array("H", batch.key)), f"an index below {len(batch.keys)}")
    return count


def _check_times(times: array[float]) -> None:
    # NaN hides from the least and the greatest, not from the sum: two passes in C, 0.2 ms for 50,000 points
    for at in (min(times), max(times), sum(times) / len(times)):
        checked_time("time", at)


def _frame_of(batch: LogMetrics) -> polars.DataFrame:
    import polars as pl

    names = [batch.keys[index] for index in array("H", batch.key)]
    return pl.DataFrame(
        {
            "key": pl.Series(names, dtype=pl.String),
            "step": pl.Series(array("q", batch.step), dtype=pl.Int64),
            "time": pl.Series(array("d", batch.time), dtype=pl.Float64),
            "value": pl.Series(array("d", batch.value), dtype=pl.Float64),
        }
    ).with_columns(pl.lit(batch.run).alias("run"), pl.lit(batch.batch).alias("batch"))
