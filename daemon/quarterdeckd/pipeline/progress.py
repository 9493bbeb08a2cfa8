"""What a job says while it runs: steps, progress and points as JSON lines that whoever follows the file can read."""

from __future__ import annotations

import math
import time
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

import msgspec

from quarterstore.records.jobs import Line
from quarterstore.records.names import drawn
from quarterstore.records.pipelines import Step


class Report:
    """Appends `jobs.Line` to `progress.jsonl`, one write a line, so that a reader never sees half of one."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._lock = Lock()

    def __enter__(self) -> Report:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def step(self, step: Step) -> None:
        """Say where a step is; the newest line of a name holds."""
        self._write(Line(kind="step", at=time.time(), name=step.name, step=msgspec.to_builtins(step)))

    def progress(self, name: str, fraction: float | None = None, words: str = "") -> None:
        """Say how far a step is, from 0 to 1 when it can be told."""
        self._write(Line(kind="progress", at=time.time(), name=name, fraction=fraction, words=drawn(words)))

    def point(self, name: str, number: int, value: float) -> None:
        """One value of a metric at step `number`; NaN and infinities go as text, because JSON has none."""
        plain: float | str = value if math.isfinite(value) else str(value)
        self._write(Line(kind="point", at=time.time(), name=name, number=number, value=plain))

    def points(self, number: int, values: dict[str, float]) -> None:
        """The values of several metrics at one step."""
        for name, value in values.items():
            self.point(name, number, value)

    def _write(self, line: Any) -> None:
        with self._lock:
            self._file.write(msgspec.json.encode(line) + b"\n")
