"""What a step is given and what it says: files of the steps before it in, files under `out` and a few words out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from quarterdeckd.pipeline.progress import Report
from quarterstore.records.evaluations import Against
from quarterstore.records.faults import got
from quarterstore.records.features import JoinSpec
from quarterstore.records.pipelines import Definition


class Told(NamedTuple):
    """What a step says of itself: a line for people, and figures (plain values) for whoever reads on."""

    words: str
    figures: dict[str, Any]


class At(NamedTuple):
    """One step about to be done, in a process of its own.

    `inputs` are the files of every step it is behind, `STEP/FILE` -> place, in the order the steps ran, read only.
    What it writes under `out` is kept by its hash. `checkpoint` is a folder that is still there when the same step (the
    same code, inputs and params) is begun again after it was cut off; it is gone once the step is done.
    """

    name: str
    definition: Definition
    params: dict[str, Any]
    inputs: dict[str, Path]
    out: Path
    checkpoint: Path
    code: Path
    """The folder with the user's own files, as they were when the run was asked for."""
    data: Path | None
    report: Report
    artefact: Callable[[str], Path] = Path
    """Where what is kept under a hash lies, checked just now; without a store a hash is a path."""
    against: Against | None = None
    """The champion that the model is held against."""
    join: JoinSpec | None = None
    """What the step `features` joins."""

    def file(self, name: str) -> Path:
        """The file of this name that the nearest step before left; a fault where none did."""
        found = [path for at, path in self.inputs.items() if at.partition("/")[2] == name]
        if not found:
            raise got(self.name, f"no {name}", "a step before it that leaves one")
        return found[-1]
