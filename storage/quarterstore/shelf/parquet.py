"""Parquet files with the SHA-256 of their bytes beside them: Parquet itself does not notice a flipped bit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from quarterstore.records.faults import Corrupt
from quarterstore.shelf.files import digest_of, make_folder, sync_folder, write_whole

if TYPE_CHECKING:
    import polars

_checked: dict[Path, tuple[int, int, str]] = {}


def write(frame: polars.DataFrame, path: Path) -> str:
    """Write a frame whole, its hash first under the final name's side file; answers the SHA-256."""
    make_folder(path.parent)
    aside = path.with_suffix(".part")
    write_into(frame, aside)
    with aside.open("rb+") as file:
        os.fsync(file.fileno())
    digest = digest_of(aside)
    write_whole(path.with_suffix(".sha256"), digest.encode())
    os.rename(aside, path)
    sync_folder(path.parent)
    return digest


def write_into(frame: polars.DataFrame, target: Path | BinaryIO) -> None:
    """A frame as Parquet, compressed as every file of the store is."""
    frame.write_parquet(target, compression="zstd", compression_level=3)


def checked(path: Path) -> Path:
    """The path, when the file's bytes are what was written; `Corrupt` names the file and both hashes. A file that has
    not changed since it was checked in this process is not read again."""
    status = path.stat()
    seen = _checked.get(path)
    side = path.with_suffix(".sha256")
    expected = side.read_text(errors="replace") if side.exists() else "no stored hash"
    if seen == (status.st_mtime_ns, status.st_size, expected):
        return path
    found = digest_of(path)
    if found != expected:
        raise Corrupt(f"{path.name}: got {found}, expected {expected}", field="parquet")
    _checked[path] = (status.st_mtime_ns, status.st_size, expected)
    return path
