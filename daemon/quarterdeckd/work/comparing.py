"""Two datasets compared row by row: counted in a child, so that no file of a person's weighs on the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import msgspec

from quarterstore.ledger.finding import one_of
from quarterstore.ledger.state import State
from quarterstore.records.datasets import CompareDatasets, Dataset, RowDifference
from quarterstore.records.faults import Failed, TimedOut
from quarterstore.shelf.artefacts import Artefacts

COUNTED_WITHIN = 120.0
THREADS = "2"


class Comparing:
    """Answers `datasets.compare`; runs in a reader's thread."""

    def __init__(self, view: State, artefacts: Artefacts) -> None:
        self._view = view
        self._artefacts = artefacts

    def rows(self, query: CompareDatasets, speaker: Any, seen: int) -> RowDifference:
        """What differs. Raises `NotFound` for rows that are not kept here, `Failed` for what is no table."""
        found: list[Dataset] = [
            one_of(self._view.datasets, field, getattr(query, field)) for field in ("before", "after")
        ]
        words = [sys.executable, "-m", "quarterdeckd.pipeline.rows"]
        for dataset in found:
            words += [str(self._artefacts.checked(dataset.id)), dataset.format]
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                timeout=COUNTED_WITHIN,
                check=False,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "POLARS_MAX_THREADS": THREADS},
            )
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"the rows were not counted within {COUNTED_WITHIN:g} s", field="dataset") from error
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or [f"the child ended with {done.returncode}"]
            raise Failed(said[-1][:300].replace(str(self._artefacts.folder), "artefacts"), field="dataset")
        return msgspec.json.decode(done.stdout, type=RowDifference)
