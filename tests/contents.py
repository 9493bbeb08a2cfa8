"""Files below a folder in which a daemon works: some of them come and go while they are looked at."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Each file that is there, with what it holds."""
    for at, _, names in os.walk(folder):  # passes over a folder that goes, where `rglob` fails
        for path in (Path(at) / name for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    yield path, path.read_bytes()
