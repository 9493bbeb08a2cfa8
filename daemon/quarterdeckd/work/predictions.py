"""Recorded predictions on their way from the hosts' segments to Parquet by endpoint and day, and read back from
there."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from quarterstore.ledger.journal import crash
from quarterstore.ledger.state import State
from quarterstore.records import predictions
from quarterstore.records.faults import NotFound
from quarterstore.records.places import Home
from quarterstore.shelf import parquet

log = logging.getLogger(__name__)
COLUMNS = (
    "id",
    "row",
    "at",
    "endpoint",
    "version",
    "role",
    "epoch",
    "status",
    "latency",
    "prediction",
    "score",
    "error",
)


class Predictions:
    """Folds closed segments into Parquet and answers questions about what is kept; every method may run in a thread."""

    def __init__(self, home: Home, view: State) -> None:
        self.folder = home.samples / "predictions"
        self._segments = home.serving / "predictions"
        self._view = view
        self._folding = threading.Lock()

    def waiting(self) -> int:
        """Bytes in closed segments."""
        return sum(path.stat().st_size for path in self._segments.glob("*.done"))

    def fold(self) -> int:
        """Turn every closed segment into Parquet, one file an endpoint; answers how many predictions that were. A
        segment goes only when its rows lie in a file under its own name, so that a crash in between doubles nothing."""
        from quarterdeckd.serving.recorder import columns, read_segment

        with self._folding:
            closed = sorted(self._segments.glob("*.done"))
            if not closed:
                return 0
            frames = [frame for path in closed for frame in read_segment(path)]
            by_endpoint: dict[str, list[Any]] = {}
            for frame in frames:
                by_endpoint.setdefault(frame.endpoint, []).append(frame)
            name = f"{closed[0].stem}-{closed[-1].stem}"
            for endpoint, found in by_endpoint.items():
                self._write(endpoint, columns(found), name)
            crash("predictions.folded")
            for path in closed:
                path.unlink()
            return len(frames)

    def _write(self, endpoint: str, found: dict[str, list[Any]], name: str) -> None:
        import polars

        kinds = {
            feature.name: feature.kind for version in self._view.versions for feature in version.signature.features
        }
        series = [
            polars.Series(column, values, dtype=_dtype(column, kinds, polars), strict=False)
            for column, values in found.items()
        ]
        day = time.strftime("%Y-%m-%d", time.gmtime(found["at"][0]))
        parquet.write(polars.DataFrame(series), self.folder / f"endpoint={endpoint}" / f"day={day}" / f"{name}.parquet")

    def _files(self, endpoint: str) -> list[Path]:
        return sorted(
            (self.folder / f"endpoint={endpoint}").glob("day=*/*.parquet"), key=lambda path: path.stat().st_mtime
        )

    def count(self, endpoint: str) -> dict[str, int]:
        """Kept predictions of an endpoint by version."""
        import polars

        self.fold()
        counts: dict[str, int] = {}
        for path in self._files(endpoint):
            frame = polars.read_parquet(parquet.checked(path), columns=["id", "version"]).unique("id")
            for version, number in frame.group_by("version").len().iter_rows():
                counts[version] = counts.get(version, 0) + number
        return counts

    def newest(self, endpoint: str, limit: int, version: str | None) -> list[predictions.Prediction]:
        """The newest predictions of an endpoint."""
        self.fold()
        found: list[predictions.Prediction] = []
        for path in reversed(self._files(endpoint)):
            found += [each for each in self._read(path) if version in (None, each.version)]
            if len(found) >= limit:
                break
        return sorted(found, key=lambda each: each.at, reverse=True)[:limit]

    def one(self, prediction: str) -> predictions.Prediction:
        """A prediction by the id its answer carried."""
        self.fold()
        for path in sorted(self.folder.glob("endpoint=*/day=*/*.parquet"), reverse=True):
            for each in self._read(path, prediction):
                return each
        raise NotFound(f"got {prediction}, expected a recorded one", field="prediction")

    def _read(self, path: Path, prediction: str | None = None) -> list[predictions.Prediction]:
        import polars

        frame = polars.scan_parquet(parquet.checked(path))
        if prediction is not None:
            frame = frame.filter(polars.col("id") == prediction)
        rows = frame.collect().to_dicts()
        counts: dict[str, int] = {}
        for row in rows:
            counts[row["id"]] = counts.get(row["id"], 0) + 1
        return [
            predictions.Prediction(
                id=row["id"],
                at=row["at"],
                endpoint=row["endpoint"],
                version=row["version"],
                role=row["role"],
                epoch=row["epoch"],
                status=row["status"],
                latency=row["latency"],
                inputs={name: value for name, value in row.items() if name not in COLUMNS and value is not None},
                output=row["prediction"],
                rows=counts[row["id"]],
                error=row["error"],
            )
            for row in rows
            if row["row"] == 0
        ]

    def drop_old(self) -> int:
        """Remove whole days beyond each endpoint's retention; answers how many files went."""
        dropped = 0
        for folder in self.folder.glob("endpoint=*/day=*"):
            recording = self._view.recordings.get(folder.parent.name.partition("=")[2])
            days = recording.rule.days if recording else 90
            oldest = time.strftime("%Y-%m-%d", time.gmtime(time.time() - days * 86400))
            if folder.name.partition("=")[2] < oldest:
                for path in folder.iterdir():
                    path.unlink()
                    dropped += path.suffix == ".parquet"
                folder.rmdir()
        return dropped


def _dtype(column: str, kinds: dict[str, str], polars: Any) -> Any:
    fixed = {
        "id": polars.String,
        "row": polars.Int32,
        "at": polars.Float64,
        "endpoint": polars.String,
        "version": polars.String,
        "role": polars.String,
        "epoch": polars.Int64,
        "status": polars.Int32,
        "latency": polars.Float64,
        "prediction": polars.String,
        "score": polars.Float64,
        "error": polars.String,
    }
    if column in fixed:
        return fixed[column]
    return polars.Float64 if kinds.get(column) == "number" else polars.String
