"""A frame on its way into DuckDB."""

from __future__ import annotations

from typing import Any


class ArrowStream:
    """A frame as nothing but its Arrow stream (the PyCapsule protocol): DuckDB asks pyarrow for what it knows to be a
    frame."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested: Any = None) -> Any:
        return self._frame.__arrow_c_stream__(requested)
