"""The Parquet files under one folder, what each takes and holds: looked at once, followed from then on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from quarterstore.shelf.files import on_disk


class File(NamedTuple):
    """Bytes on the disk, with the file of its hash, and rows."""

    size: int
    rows: int


class KeptFiles:
    """Totals over the files of `day=*/*.parquet` below a folder, at whatever depth; used under the lock of its owner,
    `size` and `rows` also without."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.size = 0
        self.rows = 0
        self.files: dict[Path, File] = {}
        self._runs: dict[Path, Mapping[str, int]] = {}
        self._loaded = False

    def load(self) -> None:
        """Look at what is there, once: sizes from the names, rows from the footers."""
        if not self._loaded:
            self.look()

    def look(self) -> None:
        """Take in the files that are not known yet."""
        self._loaded = True
        for path in sorted(self.folder.glob("**/day=*/*.parquet")):
            if path not in self.files:
                self.add(path)

    def add(self, path: Path, rows: int | None = None) -> None:
        """A file was written, or written again; its rows are read unless they are given."""
        if not self._loaded:
            return  # it is looked at with the others
        self.drop(path)
        found = File(_size(path), _rows(path) if rows is None else rows)
        self.files[path] = found
        self.size += found.size
        self.rows += found.rows

    def drop(self, path: Path) -> None:
        """A file is gone."""
        found = self.files.pop(path, None)
        self._runs.pop(path, None)
        if found is not None:
            self.size -= found.size
            self.rows -= found.rows

    def runs(self, path: Path) -> Mapping[str, int]:
        """How many rows each value of the column `run` has in a file of points."""
        if path not in self._runs:
            self._runs[path] = _counts(path)
        return self._runs[path]


def _size(path: Path) -> int:
    side = path.with_suffix(".sha256")
    return on_disk(path) + (on_disk(side) if side.exists() else 0)


def _rows(path: Path) -> int:
    """From the footer; 0 of a file that is damaged: readers say so by its hash."""
    import polars

    try:
        return int(polars.scan_parquet(path).select(polars.len()).collect().item())
    except (polars.exceptions.PolarsError, OSError):
        return 0


def _counts(path: Path) -> Mapping[str, int]:
    import polars

    try:
        return dict(polars.scan_parquet(path).group_by("run").len().collect().iter_rows())
    except (polars.exceptions.PolarsError, OSError):
        return {}
