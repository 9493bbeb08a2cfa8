"""A folder of code as one file: a ZIP of plain files that is the same bytes for the same files, packed by who asks and
laid out, with limits, by who runs it."""

from __future__ import annotations

import fnmatch
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from quarterstore.records.faults import Failed, Invalid, TooLarge, got
from quarterstore.records.names import checked_path, drawn

IGNORE: Final = ".quarterdeckignore"
"""Patterns of names or of paths, one a line, as the shell's; `#` begins a comment."""
IGNORED: Final = ("__pycache__", "*.pyc", ".*", "node_modules", "*.egg-info")
"""Left out always; a folder that holds an environment (`pyvenv.cfg`) is too."""
MOST_BYTES: Final = 64 * 1024**2
MOST_FILES: Final = 5000
_BEGIN: Final = (1980, 1, 1, 0, 0, 0)
MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


def packed(folder: Path, leave_out: tuple[Path, ...] = ()) -> bytes:
    """The files of a folder. Raises `TooLarge` above the limits, `Invalid` for a link or a device among them."""
    files = sorted(_files(folder, _patterns(folder), {path.absolute() for path in leave_out}))
    out, total = io.BytesIO(), 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for count, name in enumerate(files, 1):
            path = folder / name
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode):
                raise got(
                    "train.code", f"{drawn(name)}, which is no plain file", f"plain files; or name it in {IGNORE}"
                )
            total += path.stat().st_size
            if count > MOST_FILES or total > MOST_BYTES:
                raise TooLarge(
                    f"got more than {MOST_FILES:,} files or {MOST_BYTES:,} bytes in {folder}",
                    field="train.code",
                    next=f"name what is no code in {IGNORE}",
                )
            about = zipfile.ZipInfo(name, _BEGIN)
            about.external_attr = (0o755 if mode & 0o100 else 0o644) << 16
            about.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(about, path.read_bytes())
    if not files:
        raise got("train.code", f"no file in {folder}", "at least one")
    return out.getvalue()


def _patterns(folder: Path) -> tuple[str, ...]:
    path = folder / IGNORE
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return (*IGNORED, *(line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#")))


def _files(folder: Path, patterns: tuple[str, ...], leave_out: set[Path]) -> Iterator[str]:
    for top, folders, names in os.walk(folder):
        here = Path(top)
        inside = here.relative_to(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [
            name
            for name in folders
            if name not in links
            and not _ignored(inside / name, patterns)
            and not (here / name / "pyvenv.cfg").is_file()
        ]
        for name in (*names, *links):
            if not _ignored(inside / name, patterns) and (here / name).absolute() not in leave_out:
                yield (inside / name).as_posix()


def _ignored(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path.name, each) or fnmatch.fnmatchcase(path.as_posix(), each) for each in patterns)


def is_packed(path: Path) -> bool:
    """Whether a kept file is a snapshot of a folder, and not one file of code."""
    with path.open("rb") as file:
        return file.read(4) in MAGIC


def laid_out(path: Path, folder: Path) -> None:
    """Write the files of a snapshot below a folder. Raises `Invalid` for a name that leads out of it, `TooLarge` for
    more than a snapshot may hold, whatever its directory says, `Failed` for one that is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
            if len(members) > MOST_FILES:
                raise TooLarge(f"got {len(members):,} files, expected at most {MOST_FILES:,}", field="code")
            left = MOST_BYTES
            for member in members:
                left -= _write(archive, member, folder, left)
    except _DAMAGED as error:
        raise Failed(f"got a snapshot that is damaged ({drawn(str(error), longest=80)})", field="code") from error


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, left: int) -> int:
    name = checked_path(member.filename)
    if PurePosixPath(name).is_absolute() or "\0" in name:
        raise Invalid(f"got {drawn(name)!r}, expected names inside the folder", field="code")
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source:
        data = source.read(left + 1)
    if len(data) > left:
        raise TooLarge(f"got more than {MOST_BYTES:,} bytes unpacked", field="code")
    target.write_bytes(data)
    target.chmod(0o700 if member.external_attr >> 16 & 0o100 else 0o600)
    return len(data)
