"""Outcomes taken in and read: files joined to the predictions, one journal entry each, and what they say by version."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.api.permissions import Speaker
from quarterdeckd.bus import Bus
from quarterdeckd.work.predictions import Predictions
from quarterstore.ledger.finding import deployment_of
from quarterstore.ledger.journal import crash
from quarterstore.ledger.state import State
from quarterstore.records import outcomes
from quarterstore.records.faults import Failed, FaultRecord, got, raised
from quarterstore.records.ids import new_id
from quarterstore.records.jobs import Progress
from quarterstore.records.names import checked_text, checked_word
from quarterstore.records.places import Home
from quarterstore.shelf import parquet
from quarterstore.shelf.artefacts import Artefacts
from quarterstore.shelf.files import digest_of, make_folder, sync_folder, write_whole

log = logging.getLogger(__name__)
SMALL = 256 * 1024
"""Bytes of a file that is joined in a thread; a process would cost more than the join (0.5 s here)."""
LONGEST_WINDOW = 10 * 365 * 86400.0
TIDY_EVERY = 3600.0
MOST_FILES = 64
"""Files of one metric beyond which they become one."""
DAYS = 90
SPOKEN_WITHIN = 30.0


class Outcomes:
    """Every method may run in a thread; uploads are taken one after the other, so that each sees the ones before."""

    def __init__(
        self, home: Home, view: State, dispatch: Dispatch, bus: Bus, artefacts: Artefacts, predictions: Predictions
    ) -> None:
        self._folder = home.samples / "outcomes"
        self._view = view
        self._dispatch = dispatch
        self._bus = bus
        self._artefacts = artefacts
        self._predictions = predictions
        self._taking = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._tidied = -TIDY_EVERY
        self.on_added: Callable[[], None] = lambda: None
        """Told, on the loop, once the rows of an upload can be read."""
        self._known: dict[
            tuple[str, str, outcomes.Unit, int], tuple[tuple[Path, ...], dict[str, outcomes.ArmOutcome]]
        ] = {}

    # taken in

    def readers(self) -> dict[type, Any]:
        """What is asked -> what answers it, in threads."""
        return {
            outcomes.AddOutcomes: self.add,
            outcomes.ShowOutcomes: self.summary,
            outcomes.ListValues: self.history,
        }

    def add(self, asked: outcomes.AddOutcomes, speaker: Speaker, seen: int) -> outcomes.OutcomeUpload:
        """Join a file and keep what is new of it, all of it or, on a fault, nothing. The entry is the commit point: the
        rows wait under another name until it is certain."""
        checked_word("metric", asked.metric)
        if not 0 < asked.window <= LONGEST_WINDOW:
            raise got("window", asked.window, "seconds, above 0 and up to ten years")
        salt = deployment_of(self._view, asked.endpoint).salt if asked.endpoint is not None else ""
        file = self._artefacts.checked(asked.digest)
        with self._taking:
            self._settle()
            self._predictions.fold_all()
            spec = self._join_of(asked, salt, file)
            taken = _upload_of(asked, speaker, spec, self._joined(spec, file.stat().st_size))
            crash("outcomes.joined")
            self._spoken(outcomes.NoteUpload(upload=taken))
            crash("outcomes.noted")
            self._settle()
        self._loop.call_soon_threadsafe(self.on_added)
        return taken

    def _join_of(self, asked: outcomes.AddOutcomes, salt: str, file: Path) -> outcomes.JoinSpec:
        """What is joined to what, and where it waits."""
        upload = new_id("upload")
        folder = self._folder / f"metric={asked.metric}"
        make_folder(folder)
        return outcomes.JoinSpec(
            file=str(file),
            format=asked.format,
            metric=asked.metric,
            endpoint=asked.endpoint,
            salt=salt,
            window=asked.window,
            now=time.time(),
            upload=upload,
            predictions=tuple(map(str, self._predictions.paths(asked.endpoint))),
            history=tuple(map(str, self.files(asked.metric))),
            target=str(folder / f"{upload}.pending"),
        )

    def _joined(self, spec: outcomes.JoinSpec, size: int) -> outcomes.Joined:
        if size <= SMALL:
            from quarterdeckd.pipeline.outcomes import join

            return join(spec, lambda fraction, words: None)
        return self._joined_apart(spec)

    def _joined_apart(self, spec: outcomes.JoinSpec) -> outcomes.Joined:
        """In a process of its own, so that no file of a person's weighs on the daemon."""
        process = subprocess.Popen(
            [sys.executable, "-m", "quarterdeckd.pipeline.outcomes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "POLARS_MAX_THREADS": "2"},
        )
        assert process.stdin is not None and process.stdout is not None
        with process:
            process.stdin.write(msgspec.json.encode(spec))
            process.stdin.close()
            last = b""
            for last in process.stdout:
                if last.startswith(b"["):
                    self._say(spec, *msgspec.json.decode(last, type=tuple[float, str]))
        try:
            if process.returncode == 0:
                return msgspec.json.decode(last, type=outcomes.Joined)
            fault = msgspec.json.decode(last, type=FaultRecord)
        except msgspec.DecodeError as error:
            raise Failed(
                f"the file was not joined: its process ended with {process.returncode}", field="file"
            ) from error
        raise raised(fault)

    def _say(self, spec: outcomes.JoinSpec, fraction: float, words: str) -> None:
        told = Progress(job=spec.upload, step="join", fraction=fraction, words=words)
        self._loop.call_soon_threadsafe(self._bus.pulse, told)

    def _spoken(self, act: outcomes.NoteUpload) -> None:
        asyncio.run_coroutine_threadsafe(self._dispatch.speak(act), self._loop).result(SPOKEN_WITHIN)

    def settle(self) -> None:
        """At the start: what an upload that was cut short left."""
        with self._taking:
            self._settle()

    def _settle(self) -> None:
        """What is certain gets its name; what never got its entry goes."""
        for path in sorted(self._folder.glob("metric=*/*.pending")):
            if path.is_dir():
                continue
            if path.stem in self._view.uploads:
                path.rename(path.with_suffix(".parquet"))
                sync_folder(path.parent)
            else:
                log.warning("%s was never noted and is dropped", path.stem)
                path.unlink()
                path.with_suffix(".sha256").unlink(missing_ok=True)

    # kept

    def files(self, metric: str) -> list[Path]:
        """The files of one metric, each checked against its hash."""
        checked_word("metric", metric)
        return [parquet.checked(path) for path in sorted((self._folder / f"metric={metric}").glob("*.parquet"))]

    def tidy(self) -> None:
        """Make one file of many, without what is older than its endpoint's predictions may be. Cut short it leaves rows
        twice, which say nothing twice."""
        with self._taking:
            due = time.monotonic() - self._tidied > TIDY_EVERY
            for folder in sorted(self._folder.glob("metric=*")):
                files = self.files(folder.name.partition("=")[2])
                if len(files) > MOST_FILES or (due and files):
                    self._rewrite(folder, files)
            if due:
                self._tidied = time.monotonic()

    def _rewrite(self, folder: Path, files: list[Path]) -> None:
        import polars as pl

        from quarterdeckd.measures.holding import scanned

        days = {found.endpoint: found.rule.days for found in self._view.recordings}
        kept_for = pl.col("endpoint").replace_strict(days, default=DAYS, return_dtype=pl.Float64) * 86400
        rows = scanned(files)
        young = pl.col("at") >= time.time() - kept_for
        if len(files) <= MOST_FILES and rows.select(young.all()).collect().item():
            return
        target = folder / f"{new_id('upload')}.parquet"
        aside = target.with_suffix(".part")
        rows.filter(young).sink_parquet(aside, compression="zstd", compression_level=3)
        write_whole(target.with_suffix(".sha256"), digest_of(aside).encode())
        aside.rename(target)
        sync_folder(folder)
        for path in files:
            path.unlink()
            path.with_suffix(".sha256").unlink(missing_ok=True)

    # read

    def by_arm(
        self, endpoint: str, metric: str, since_epoch: int, unit: outcomes.Unit = "answer"
    ) -> dict[str, outcomes.ArmOutcome]:
        """What came of the answers of each version of an endpoint, of those that were given under the routing epoch
        `since_epoch` or a later one, counted by `unit`. Reads files: from a thread; the same question again costs
        nothing until there is more."""
        from quarterdeckd.measures.holding import by_arm

        files = tuple(self.files(metric))
        asked = (endpoint, metric, unit, since_epoch)
        known = self._known.get(asked)
        if known is None or known[0] != files:
            self._known = {key: each for key, each in self._known.items() if key[:3] != asked[:3]}
            known = self._known[asked] = (files, by_arm(files, endpoint, metric, since_epoch, unit))
        return known[1]

    def summary(self, query: outcomes.ShowOutcomes, speaker: Speaker, seen: int) -> outcomes.OutcomeSummary:
        """The same with how many rows were answered."""
        from quarterdeckd.measures.holding import answered

        deployment_of(self._view, query.endpoint)
        self._predictions.fold()
        return outcomes.OutcomeSummary(
            endpoint=query.endpoint,
            metric=query.metric,
            arms=self.by_arm(query.endpoint, query.metric, query.since_epoch),
            answered=answered(self._predictions.paths(query.endpoint), query.since_epoch),
        )

    def history(self, query: outcomes.ListValues, speaker: Speaker, seen: int) -> list[outcomes.OutcomeValue]:
        """Every value of one prediction, oldest first."""
        checked_text("prediction", query.prediction)
        rows = list(self._values_of(query))
        if not rows:
            self._predictions.one(query.prediction)  # one that nobody knows is said, not an empty list
        holds = {(each.row, each.version): each for each in rows if not each.late}
        return [msgspec.structs.replace(each, holds=holds.get((each.row, each.version)) is each) for each in rows]

    def _values_of(self, query: outcomes.ListValues) -> Iterator[outcomes.OutcomeValue]:
        import polars as pl

        from quarterdeckd.measures.holding import scanned

        files = self.files(query.metric)
        if not files:
            return
        rows = scanned(files).filter(pl.col("id") == query.prediction)
        found = rows.unique(["row", "version", "value", "time", "upload"]).sort("time", "came", "line").collect()
        for row in found.iter_rows(named=True):
            yield outcomes.OutcomeValue(
                prediction=row["id"],
                row=row["row"],
                version=row["version"],
                metric=query.metric,
                value=row["value"],
                at=row["time"],
                late=row["late"],
                upload=row["upload"],
            )


def _upload_of(
    asked: outcomes.AddOutcomes, speaker: Speaker, spec: outcomes.JoinSpec, joined: outcomes.Joined
) -> outcomes.OutcomeUpload:
    return outcomes.OutcomeUpload(
        id=spec.upload,
        at=spec.now,
        by=speaker.person,
        digest=asked.digest,
        metric=asked.metric,
        window=asked.window,
        rows=joined.rows,
        joined=joined.joined,
        late=joined.late,
        unknown=joined.unknown,
        duplicate=joined.duplicate,
        conflicting=joined.conflicting,
        endpoints=joined.endpoints,
    )
