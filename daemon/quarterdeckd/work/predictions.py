"""Recorded predictions on their way from the hosts' segments to Parquet by endpoint and day, and read back from
there."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from quarterdeckd.api.dispatch import Wide
from quarterdeckd.services.retention import HELD, Lot
from quarterstore.ledger.journal import crash
from quarterstore.ledger.state import State
from quarterstore.records import predictions
from quarterstore.records.base import Record
from quarterstore.records.deployments import RecordingRule
from quarterstore.records.faults import missing
from quarterstore.records.names import checked_word
from quarterstore.records.places import Home
from quarterstore.records.predictions import COLUMNS, column_of
from quarterstore.records.retention import Waiting
from quarterstore.shelf import parquet
from quarterstore.shelf.files import on_disk, write_whole
from quarterstore.shelf.kept import KeptFiles

if TYPE_CHECKING:
    import polars

log = logging.getLogger(__name__)
BATCH = 8 * 1024 * 1024
"""Bytes of segments folded at a time: two full ones; as rows they are about ten times that in memory."""
DIVIDED = 4
"""Folds in which what may wait is taken, so that hosts go on writing meanwhile."""
FIRST_ROW_SIZE = 100.0
"""Bytes of a row in a segment, before any were seen."""
DAY = 86_400.0
MOST_LISTED = 10_000
CLOSED_WITHIN = 10.0
"""Seconds to wait for a host that closes its segment, a second of its own time; one that died has its closed for it."""


class Batch(Record, frozen=True):
    """Segments that become Parquet together, kept on disk meanwhile: a fold that was cut short is taken up with the
    same segments under the same name (`written` False), or only cleared away (True), so that nothing is doubled."""

    name: str
    segments: tuple[str, ...]
    written: bool = False


class Predictions:
    """Folds closed segments into Parquet and answers questions about what is kept; every method may run in a thread."""

    def __init__(self, home: Home, view: State) -> None:
        self.folder = home.samples / "predictions"
        self.shadows = self.folder / "shadows"
        """What shadows said, apart and within the same limits: under the ids of the predictions they stood beside."""
        self._segments = home.serving / "predictions"
        self._view = view
        self._folding = threading.Lock()
        self._kept = KeptFiles(self.folder)
        self._row_size = FIRST_ROW_SIZE
        self.dropped: Callable[[], int] = lambda: 0
        """How many predictions the hosts had no room for."""

    def readers(self) -> dict[type, Wide]:
        """What is asked -> what answers it, in threads."""
        return {
            predictions.ListPredictions: lambda query, speaker, seen: self.newest(
                query.endpoint, max(1, min(query.limit, MOST_LISTED)), query.version
            ),
            predictions.ShowPrediction: lambda query, speaker, seen: self.one(query.prediction),
            predictions.CountPredictions: lambda query, speaker, seen: predictions.PredictionCount(
                endpoint=query.endpoint, versions=self.count(query.endpoint, query.since), dropped=self.dropped()
            ),
        }

    def waiting(self) -> int:
        """Bytes in closed segments."""
        return sum(path.stat().st_size for path in self._segments.glob("*.done"))

    def due(self, most: Waiting) -> bool:
        """Whether enough waits to be folded before its time: a share of what may wait in bytes and rows."""
        waiting = self.waiting()
        return waiting >= min(BATCH, most.size // DIVIDED) or waiting / self._row_size >= most.rows // DIVIDED

    def fold_all(self) -> None:
        """Fold what was answered until now: hosts close what they write to within about a second."""
        opened, deadline = set(self._segments.glob("*.seg")), time.monotonic() + CLOSED_WITHIN
        while any(path.exists() for path in opened) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.fold()

    def fold(self) -> int:
        """Turn every closed segment into Parquet, a file an endpoint and day; answers how many predictions that were.
        Memory is bounded by `BATCH`, not by what waits."""
        total = 0
        with self._folding:
            for batch in self._batches():
                total += self._write_batch(batch)
        return total

    def _batches(self) -> Iterator[Batch]:
        kept = self._segments / "folding.json"
        if kept.exists():
            yield msgspec.json.decode(kept.read_bytes(), type=Batch)
        names: list[str] = []
        size = 0
        for path in sorted(self._segments.glob("*.done")):
            more = path.stat().st_size
            if names and size + more > BATCH:
                yield Batch(name=f"{names[0]}-{names[-1]}", segments=tuple(names))
                names, size = [], 0
            names.append(path.stem)
            size += more
        if names:
            yield Batch(name=f"{names[0]}-{names[-1]}", segments=tuple(names))

    def _write_batch(self, batch: Batch) -> int:
        from quarterdeckd.serving.recorder import Frame, columns, read_segment, rows_of

        note = self._segments / "folding.json"
        paths = [path for name in batch.segments if (path := self._segments / f"{name}.done").exists()]
        count = 0
        if not batch.written:
            write_whole(note, msgspec.json.encode(batch))
            crash("predictions.noted")
            by_place: dict[tuple[Path, str, str], list[Frame]] = {}
            rows = 0
            for path in paths:
                for frame in read_segment(path, self._damaged):
                    rows += rows_of(frame)
                    day = time.strftime("%Y-%m-%d", time.gmtime(frame.at))
                    folder = self.shadows if frame.role == "shadow" else self.folder
                    by_place.setdefault((folder, frame.endpoint, day), []).append(frame)
                    count += 1
            if rows:
                self._row_size = sum(path.stat().st_size for path in paths) / rows
            while by_place:
                (folder, endpoint, day), frames = by_place.popitem()
                self._write(folder / f"endpoint={endpoint}" / f"day={day}" / batch.name, columns(frames))
            crash("predictions.folded")
            write_whole(note, msgspec.json.encode(replace(batch, written=True)))
        for path in paths:
            path.unlink(missing_ok=True)
            crash("predictions.cleared")
        note.unlink()
        return count

    def _damaged(self, words: str) -> None:
        """Said now, and noted beside the segments (without what was in them) until a person has seen it: `qd doctor`
        shows the notes. A fold that is taken up again notes the same under the same name."""
        log.warning("%s", words)
        write_whole(self._segments / f"{words.partition(':')[0]}.damaged", words.encode())

    def _write(self, path: Path, found: dict[str, list[Any]]) -> None:
        import polars

        numbers = {
            column_of(feature.name)
            for version in set(found["version"])
            if (known := self._view.versions.get(version)) is not None
            for feature in known.signature.features
            if feature.kind == "number"
        }
        series = [
            polars.Series(column, values, dtype=_dtype(column, values, numbers, polars), strict=False)
            for column, values in found.items()
        ]
        target = path.with_name(f"{path.name}.parquet")
        frame = polars.DataFrame(series)
        parquet.write(frame, target)
        self._kept.add(target, len(frame))

    def files(self, endpoint: str) -> list[Path]:
        """The files of an endpoint's predictions, the oldest first."""
        checked_word("endpoint", endpoint)
        files = []
        for path in (self.folder / f"endpoint={endpoint}").glob("day=*/*.parquet"):
            with contextlib.suppress(FileNotFoundError):  # purged meanwhile
                files.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(files)]

    def paths(self, endpoint: str | None = None) -> list[Path]:
        """The files of an endpoint, or of all, and of what shadows said there, each checked against its hash."""
        place = "endpoint=*" if endpoint is None else f"endpoint={checked_word('endpoint', endpoint)}"
        found = []
        for path in (
            path for folder in (self.folder, self.shadows) for path in folder.glob(f"{place}/day=*/*.parquet")
        ):
            with contextlib.suppress(FileNotFoundError):  # purged meanwhile
                found.append((path.stat().st_mtime, path))
        return [parquet.checked(path) for _, path in sorted(found)]

    def count(self, endpoint: str, since: float | None = None) -> dict[str, int]:
        """Kept predictions of an endpoint by version, those answered at `since` (seconds of the epoch) or later."""
        import polars

        self.fold()
        counts: dict[str, int] = {}
        for path in self.files(endpoint):
            try:
                frame = polars.read_parquet(parquet.checked(path), columns=["id", "version", "at"]).unique("id")
            except FileNotFoundError:
                continue  # purged since it was listed
            if since is not None:
                frame = frame.filter(polars.col("at") >= since)
            for version, number in frame.group_by("version").len().iter_rows():
                counts[version] = counts.get(version, 0) + number
        return counts

    def rows(self, folder: Path, endpoint: str, wanted: polars.Expr, columns: list[str] | None) -> polars.DataFrame:
        """The rows of one endpoint that an expression holds of, from the predictions or from what shadows said."""
        import polars

        found = [polars.DataFrame(schema={name: _dtype(name, [], set(), polars) for name in columns or COLUMNS})]
        for path in sorted((folder / f"endpoint={checked_word('endpoint', endpoint)}").glob("day=*/*.parquet")):
            with contextlib.suppress(FileNotFoundError):  # purged since it was listed
                rows = polars.scan_parquet(parquet.checked(path)).filter(wanted)
                found.append((rows.select(columns) if columns else rows).collect())
        return polars.concat(found, how="diagonal_relaxed")

    def newest(self, endpoint: str, limit: int, version: str | None) -> list[predictions.Prediction]:
        """The newest predictions of an endpoint."""
        self.fold()
        found: list[predictions.Prediction] = []
        for path in reversed(self.files(endpoint)):
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
        raise missing("prediction", prediction, ())

    def _read(self, path: Path, prediction: str | None = None) -> list[predictions.Prediction]:
        import polars

        try:
            frame = polars.scan_parquet(parquet.checked(path))
            if prediction is not None:
                frame = frame.filter(polars.col("id") == prediction)
            rows = frame.collect().to_dicts()
        except FileNotFoundError:
            return []  # purged since it was listed
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
                inputs={
                    predictions.feature_of(name): value
                    for name, value in row.items()
                    if name not in COLUMNS and value is not None
                },
                output=row["prediction"],
                rows=counts[row["id"]],
                error=row["error"],
                propensity=row.get("propensity", 1.0),
                features_read=msgspec.json.decode(row.get("features_read") or "{}"),
            )
            for row in rows
            if row["row"] == 0
        ]

    def measured(self) -> tuple[int, int]:
        """Bytes on the disk and rows that predictions take, folded or not; the rows that wait are told by the bytes a
        row took in the last fold."""
        with self._folding:
            self._kept.load()
            waiting = [_bytes(path) for path in self._segments.glob("*.*")]
            rows = int(sum(size for size, _ in waiting) / self._row_size)
            return self._kept.size + sum(blocks for _, blocks in waiting), self._kept.rows + rows

    def lots(self, held: set[str], days: int | None) -> list[Lot]:
        """Every file, the oldest first: by its day, then by its name, which begins with the time of its first
        segment."""
        with self._folding:
            self._kept.load()
            files = sorted(self._kept.files.items(), key=lambda item: (item[0].parent.name, item[0].name))
        found = []
        for path, file in files:
            endpoint, day = path.parent.parent.name.partition("=")[2], path.parent.name.partition("=")[2]
            recording = self._view.recordings.get(endpoint)
            kept_days = min(recording.rule.days if recording else RecordingRule().days, days or sys.maxsize)
            found.append(
                Lot(
                    name=str(path.relative_to(self.folder)),
                    size=file.size,
                    rows=file.rows,
                    oldest=day,
                    newest=day,
                    expired=day < time.strftime("%Y-%m-%d", time.gmtime(max(0.0, time.time() - kept_days * DAY))),
                    kept=HELD if endpoint in held else "",
                )
            )
        return found

    def remove(self, names: tuple[str, ...]) -> None:
        """Take files off the disk, each with its hash; those that are gone already are passed over."""
        folders = set()
        for name in names:
            path = self.folder / name
            with self._folding:
                path.unlink(missing_ok=True)
                crash("predictions.purging")
                path.with_suffix(".sha256").unlink(missing_ok=True)
                self._kept.drop(path)
            folders.add(path.parent)
        for folder in folders:
            with self._folding:  # a fold may be about to write into it
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()


def _bytes(path: Path) -> tuple[int, int]:
    """Bytes in a file and on the disk; none of one that a host renamed meanwhile."""
    try:
        return path.stat().st_size, on_disk(path)
    except FileNotFoundError:
        return 0, 0


def _dtype(column: str, values: list[Any], numbers: set[str], polars: Any) -> Any:
    """The type of a column: a number as declared, unless the recording rule made a hash of it."""
    fixed = {
        "row": polars.Int32,
        "at": polars.Float64,
        "epoch": polars.Int64,
        "status": polars.Int32,
        "latency": polars.Float64,
        "score": polars.Float64,
        "dealt": polars.UInt64,
        "propensity": polars.Float64,
    }
    if column in fixed:
        return fixed[column]
    if column in numbers and not any(isinstance(value, str) for value in values):
        return polars.Float64
    return polars.String
