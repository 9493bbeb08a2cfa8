"""The files of a folder of code that are taken along with a run: plain files, without what is no code."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from quarterstore.records.faults import TooLarge, got
from quarterstore.records.names import drawn

IGNORE: Final = ".quarterdeckignore"
"""Patterns of names or of paths, one a line, as the shell's; `#` begins a comment."""
IGNORED: Final = ("__pycache__", "*.pyc", ".*", "node_modules", "*.egg-info")
"""Left out always; a folder that holds an environment (`pyvenv.cfg`) is too."""
MOST_BYTES: Final = 64 * 1024**2
MOST_FILES: Final = 1000


def files_in(folder: Path, leave_out: tuple[Path, ...] = ()) -> list[str]:
    """The paths of its files below a folder, sorted. Raises `TooLarge` above the limits, `Invalid` for a link or a
    device among them, or where there is none."""
    found = sorted(_files(folder, _patterns(folder), {path.absolute() for path in leave_out}))
    total = 0
    for count, name in enumerate(found, 1):
        about = (folder / name).lstat()
        if not stat.S_ISREG(about.st_mode):
            raise got("train.code", f"{drawn(name)}, which is no plain file", f"plain files; or name it in {IGNORE}")
        total += about.st_size
        if count > MOST_FILES or total > MOST_BYTES:
            raise TooLarge(
                f"got more than {MOST_FILES:,} files or {MOST_BYTES:,} bytes in {folder}",
                field="train.code",
                next=f"name what is no code in {IGNORE}",
            )
    if not found:
        raise got("train.code", f"no file in {folder}", "at least one")
    return found


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
