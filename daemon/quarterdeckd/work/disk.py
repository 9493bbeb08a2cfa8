"""How much room there is on the disk of a store, and what of the store takes it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)
FEW = 5 * 1024**3
"""Bytes free below which the doctor warns."""
LARGEST = 3
"""Files and folders that are named where there is little room."""
MEASURED_EVERY = 300.0
"""Seconds between two looks at every file: 100,000 of them take 0.3 s, of a thread."""


class Disk:
    """What the files and folders of a store take, as it was measured last: nobody who asks waits for that."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.used: dict[str, int] = {}
        """Bytes by file or folder, the largest first; nothing until the first look."""

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                self.used = await asyncio.to_thread(used, self._root)
            except OSError as error:  # what was measured before stands, and the daemon goes on
                log.warning("what the store takes could not be measured: %s", error)
            await asyncio.sleep(MEASURED_EVERY)


def room(root: Path, few: int = FEW) -> tuple[bool, str]:
    """Whether more than `few` bytes are free below a folder, in words as well, with what in it takes most of the room
    where not."""
    free = shutil.disk_usage(root).free
    words = f"{free / 1e9:.1f} GB free"
    if free <= few:
        largest = list(used(root).items())[:LARGEST]
        words += "; " + ", ".join(f"{name} {size / 1e9:.1f} GB" for name, size in largest)
    return free > few, words


def used(root: Path) -> dict[str, int]:
    """Bytes of each file and folder in a folder, the largest first."""
    sizes = {each.name: _size(each) for each in root.iterdir() if not each.is_symlink()}
    return dict(sorted(sizes.items(), key=lambda found: -found[1]))


def _size(place: Path) -> int:
    """Bytes of a file, or of the files in a folder; what goes while it is looked at is none of them."""
    files = [os.path.join(below, name) for below, _, names in os.walk(place) for name in names]
    size = 0
    for path in files if place.is_dir() else [str(place)]:
        with suppress(OSError):
            size += os.stat(path, follow_symlinks=False).st_size
    return size
