"""How many distinct callers each arm of a trial had, counted file by file from what is kept of its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quarterdeckd.work.predictions import Predictions
from quarterstore.records.trials import Trial
from quarterstore.shelf import parquet

if TYPE_CHECKING:
    import polars


class Census:
    """Of the trials that are asked for again and again: a file is read once, and what is left of it are the points that
    dealt its callers, eight bytes each. Forgotten with the process, and counted anew."""

    def __init__(self, predictions: Predictions) -> None:
        self._predictions = predictions
        self._seen: dict[str, set[Path]] = {}
        self._points: dict[str, polars.DataFrame] = {}

    def callers(self, trial: Trial, *, newest: bool) -> tuple[int, ...]:
        """The callers of each arm, in the order of the versions: distinct keys, and predictions without one; with
        `newest` those of the last seconds too. In a thread."""
        import polars

        if newest:
            self._predictions.fold()
        seen = self._seen.setdefault(trial.id, set())
        new = [path for path in self._predictions.files(trial.endpoint) if path not in seen]
        here = (polars.col("epoch") == trial.epoch) & polars.col("dealt").is_not_null()
        found = [
            polars.read_parquet(parquet.checked(path), columns=["version", "dealt", "epoch"]).filter(here)
            for path in new
            if "dealt" in polars.read_parquet_schema(path)
        ]
        kept = [self._points[trial.id]] if trial.id in self._points else []
        if together := [*kept, *(each.select("version", "dealt") for each in found)]:
            self._points[trial.id] = polars.concat(together).unique()
            counts = dict(self._points[trial.id].group_by("version").len().iter_rows())
        else:
            counts = {}
        seen.update(new)
        return tuple(counts.get(version, 0) for version in trial.versions)

    def keep(self, running: set[str]) -> None:
        """Forget the trials that are over."""
        for name in self._seen.keys() - running:
            self._seen.pop(name)
            self._points.pop(name, None)
