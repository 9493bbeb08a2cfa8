"""Folded points on their way out: files rewritten without the points of some runs, or removed when none are left."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from quarterstore.ledger.journal import crash
from quarterstore.shelf import parquet
from quarterstore.shelf.files import on_disk, sync_folder
from quarterstore.shelf.kept import KeptFiles

if TYPE_CHECKING:
    import polars

MOST_DIGITS = 8
"""Of a count of rewritings: what is longer is a part of the name, the hash of a file that was imported."""


class Dropped(NamedTuple):
    """Points, bytes on the disk, and the runs that some were of."""

    points: int
    size: int
    runs: set[str]


def drop(kept: KeptFiles, lock: threading.Lock, gone: Callable[[str], bool], *, dry_run: bool) -> Dropped:
    """Take the points of the runs that are `gone` out of every file, one file at a time, so that a reader waits for
    one at most. The new file is there, under a new name, before the old one goes: a crash between leaves points twice,
    which are read once, and the next drop goes on where this one ended."""
    points = size = 0
    runs: set[str] = set()
    with lock:
        kept.load()
        paths = sorted(kept.files)
    for path in paths:
        with lock:
            counts = kept.runs(path) if path in kept.files else {}
            doomed = {run for run in counts if gone(run)}
            if doomed:
                runs |= doomed
                points += sum(counts[run] for run in doomed)
                size += _without(kept, path, doomed, dry_run)
    if not dry_run:
        with lock:
            _clear_sides(kept.folder)
    return Dropped(points, size, runs)


def _without(kept: KeptFiles, path: Path, doomed: set[str], dry_run: bool) -> int:
    """Bytes on the disk that this frees."""
    import polars

    before = kept.files[path].size
    if doomed.issuperset(kept.runs(path)):
        if not dry_run:
            # the hash first: one without its file would be a file that was lost
            path.with_suffix(".sha256").unlink(missing_ok=True)
            crash("samples.dropping")
            path.unlink()
            kept.drop(path)
        return before
    frame = polars.read_parquet(parquet.checked(path))
    rest = frame.filter(~polars.col("run").is_in(list(doomed)))
    if dry_run:
        return before - _size_of(rest) - on_disk(path.with_suffix(".sha256"))
    target = next_name(path)
    parquet.write(rest, target)
    kept.add(target, len(rest))
    crash("samples.rewritten")
    path.unlink()
    path.with_suffix(".sha256").unlink()
    kept.drop(path)
    return before - kept.files[target].size


def _clear_sides(folder: Path) -> None:
    """Hashes of files that were rewritten, left by a crash before they went with them."""
    for side in folder.glob("day=*/*.sha256"):
        path = side.with_suffix(".parquet")
        if not path.exists() and next_name(path).exists():
            side.unlink()
    for day in folder.glob("day=*"):
        if not any(day.iterdir()):
            day.rmdir()
            sync_folder(folder)


def next_name(path: Path) -> Path:
    """`00000007.parquet` -> `00000007-1.parquet` -> `00000007-2.parquet`: still sorted by its log."""
    name, _, count = path.stem.rpartition("-")
    if not name or not count.isdecimal() or len(count) > MOST_DIGITS:
        name, count = path.stem, "0"
    return path.with_name(f"{name}-{int(count) + 1}.parquet")


def _size_of(frame: polars.DataFrame) -> int:
    """Bytes on the disk that a frame would take, in blocks of 4 KiB."""
    buffer = io.BytesIO()
    parquet.write_into(frame, buffer)
    return -(-buffer.tell() // 4096) * 4096
