"""Features online as the daemon sees them: it keeps what is pushed, reads like a host, tidies up after generations and
says when a view is late."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quarterdeckd.api.dispatch import Dispatch, Prepare
from quarterdeckd.api.permissions import Speaker
from quarterdeckd.bus import Bus, Kept
from quarterdeckd.features import entities
from quarterdeckd.services.online import forgotten_at, status_of
from quarterdeckd.services.routing import online_view
from quarterstore.ledger.features import rows_of, view_of
from quarterstore.ledger.journal import crash
from quarterstore.ledger.online import generations_of
from quarterstore.ledger.state import State
from quarterstore.records import feature_checks, feature_files, features, monitoring, online
from quarterstore.records.faults import Conflict, Fault, Refused, got
from quarterstore.records.names import checked_word
from quarterstore.records.places import Home
from quarterstore.shelf.artefacts import Artefacts
from quarterstore.shelf.entity_keys import key_bytes, key_of
from quarterstore.shelf.online import Online, Pushed, Row

log = logging.getLogger(__name__)
SPOKEN_WITHIN = 60.0
LATE = "features late"
"""The kind of the alert of a view whose rows wait too long to be online."""
MOST_ROUNDS = 10_000
WHOLE = re.compile(r"-?[0-9]{1,19}\Z")


class OnlineFeatures:
    """What is pushed and what is read, of every view; the methods may run in threads."""

    def __init__(self, home: Home, view: State, dispatch: Dispatch, bus: Bus, artefacts: Artefacts) -> None:
        self._home = home
        self._view = view
        self._dispatch = dispatch
        self._artefacts = artefacts
        self._loop = asyncio.get_running_loop()
        self._pushed = Pushed(home.pushed, writes=True)
        self._readers: dict[str, Online] = {}
        self._opening = threading.Lock()
        self._folding = threading.Lock()
        self._tidy = asyncio.Event()
        self._tidy.set()
        bus.on_kept(self._kept)

    def close(self) -> None:
        """Let go of the files."""
        self._pushed.close()

    def _kept(self, kept: Kept) -> None:
        if any(isinstance(event, online.GenerationMade | feature_files.ForgettingNoted) for event in kept.events):
            self._tidy.set()

    def readers(self) -> dict[type, Any]:
        """What is read and pushed in threads, by its message."""
        return {
            online.LookUp: self.looked,
            online.MeasureReads: self.measured,
            online.ShowOnline: self.statuses,
            online.PushRows: self.push,
        }

    def preparers(self) -> dict[type, Prepare]:
        """Acts that read files of features -> what folds what was pushed first."""
        return {online.Materialise: self.folded, feature_checks.CheckParity: self.noted}

    # read

    def read(self, name: str, keys: Sequence[tuple[Any, ...]], names: Sequence[str] | None = None) -> list[Any]:
        """Of each key what a host would read now (`shelf.online.Found`)."""
        return self._reader(name).read(keys, time.time(), names)

    def _reader(self, name: str) -> Online:
        """The reader of a view, opened again when what it reads is another."""
        wanted = online_view(self._view, view_of(self._view, name), self._home.online)
        with self._opening:
            known = self._readers.get(wanted.name)
            if known is None or known.view != wanted:
                self._readers[wanted.name] = known = Online(wanted, self._pushed, known)
            return known

    def looked(self, query: online.LookUp, speaker: Speaker, seen: int) -> online.Looked:
        """Read what a person asks for."""
        reader = self._reader(query.view)
        view = reader.view
        keys = entities.keys_of(view.keys, query.keys)
        names = entities.names_of(view, query.features)
        found = reader.read(keys, time.time(), names)
        return online.Looked(
            view=view.id,
            generation=view.generation,
            features=tuple(names or [each.name for each in view.features]),
            values=tuple(each.values for each in found),
            statuses=tuple(each.status for each in found),
            ages=tuple(each.age for each in found),
        )

    def measured(self, query: online.MeasureReads, speaker: Speaker, seen: int) -> online.Measured:
        """Read the same entities again and again."""
        for field, value, most in (("entities", query.entities, 1000), ("rounds", query.rounds, MOST_ROUNDS)):
            if not 1 <= value <= most:
                raise got(field, value, f"1 to {most:,}")
        reader = self._reader(query.view)
        keys = reader.some(query.entities)
        if not keys:
            todo = f"qd features materialise {reader.view.name}"
            raise Refused(f"{reader.view.name} has no entity online", field="view", next=todo)
        took, found = [], 0
        for _ in range(query.rounds):
            began = time.perf_counter()
            read = reader.read(keys, time.time())
            took.append((time.perf_counter() - began) * 1000)
            found = sum(each.status != "NOT_FOUND" for each in read)
        took.sort()
        generation = next(reversed(generations_of(self._view, reader.view.name)), None)
        return online.Measured(
            view=reader.view.id,
            entities=len(keys),
            features=len(reader.view.features),
            rounds=query.rounds,
            p50=took[len(took) // 2],
            p95=took[len(took) * 95 // 100],
            p99=took[len(took) * 99 // 100],
            rows=generation.entities if generation else 0,
            found=found,
        )

    def statuses(self, query: online.ShowOnline, speaker: Speaker, seen: int) -> list[online.OnlineStatus]:
        """How views stand: all of them, or one."""
        now = time.time()
        return [status_of(self._view, view, self._pushed.waiting(view.name), now) for view in self._asked(query.view)]

    def _asked(self, name: str | None) -> list[features.FeatureView]:
        if name is not None:
            return [view_of(self._view, name)]
        return [view_of(self._view, each) for each in sorted({each.name for each in self._view.feature_views})]

    # pushed

    def push(self, asked: online.PushRows, speaker: Speaker, seen: int) -> online.PushedRows:
        """Keep rows, synced and read from here on; all of them or none."""
        view = view_of(self._view, asked.view)
        now = time.time_ns() // 1000
        self._pushed.push(view.name, entities.rows_of(view, asked.rows, now))
        return online.PushedRows(view=view.id, rows=len(asked.rows), at=now / 1e6)

    def forget(self) -> None:
        """Of whoever is being forgotten nothing is read from here on but what is pushed later; whoever is forgotten, is
        so before a job has looked through the files. Done again it does no harm."""
        for forgetting in [each for each in self._view.forgettings if each.done is None]:
            from quarterdeckd.features.forgetting import entity_of  # with polars: 0.1 s of a start that forgets nobody

            try:
                who = entity_of(self._artefacts.checked(forgetting.entity).read_bytes())
            except (Fault, OSError) as error:
                log.error("who %s means is not known: %s", forgetting.id, error)
                continue
            with self._folding:
                for name in forgetting.views:
                    keys = self._named(view_of(self._view, name), who)
                    self._pushed.forget(name, keys, round(forgetting.at * 1e6), forgetting.id)

    def _named(self, view: features.FeatureView, who: Mapping[str, str]) -> list[tuple[Any, ...] | bytes]:
        """The keys of a view that name an entity, which may be by some of its columns only. One of which only the hash
        is there may be meant: nothing is read of it until the next generation has it, or has not."""
        kinds = {key.name: key.kind for key in view.keys}
        if any(kinds[name] == "integer" and not WHOLE.match(value) for name, value in who.items() if name in kinds):
            return []
        typed = {name: int(value) if kinds.get(name) == "integer" else value for name, value in who.items()}
        wanted = {n: typed[key.name] for n, key in enumerate(view.keys) if key.name in who}
        if len(wanted) == len(view.keys):
            return [tuple(wanted.values())]
        logged = {key_bytes(row.key): tuple(row.key) for _, row in self._pushed.logged(view.name)}
        found: list[tuple[Any, ...] | bytes] = []
        for each in {*self._reader(view.name).keys(), *self._pushed.keys(view.name), *logged}:
            key = key_of(each) or logged.get(each)
            if key is None:
                found.append(each)
            elif all(key[n] == value for n, value in wanted.items()):
                found.append(key)
        return found

    def folded(self, act: online.Materialise) -> online.Materialise:
        """Before a generation is asked for: what was pushed is among the files; where the generation before is gone
        from the disk (after a restore), all of them are read."""
        self.fold()
        name = act.view.partition("@")[0]
        before = next(reversed(generations_of(self._view, name)), None)
        there = before is not None and (self._home.online / before.view / before.id).is_dir()
        return act if there else online.Materialise(view=act.view, full=True)

    def noted(self, act: feature_checks.CheckParity) -> feature_checks.CheckParity:
        """Before both sides are compared: what was pushed is among the files."""
        self.fold()
        return act

    def fold(self) -> None:
        """Make files of what was pushed. The entry is the commit point: a file whose entry is certain is never made of
        the same rows again."""
        with self._folding:
            for name in self._pushed.views_logged():
                try:
                    self._fold(name)
                except Fault as fault:
                    log.error("what was pushed to %s is in no file yet: %s", name, fault.line())

    def _fold(self, name: str) -> None:
        kept = {each.source for each in rows_of(self._view, name)}
        done = max((upto for upto, digest in self._pushed.noted(name) if digest in kept), default=0)
        self._pushed.folded(name, done)
        rows = self._pushed.logged(name)
        if not rows:
            return
        upto = rows[-1][0]
        view = view_of(self._view, name)
        digest, result = self._filed(view, [row for _, row in rows])
        self._pushed.note(name, upto, digest)
        crash("online.noted")
        act = features.NoteRows(view=name, source=digest, known="column", result=result)
        asyncio.run_coroutine_threadsafe(self._dispatch.speak(act), self._loop).result(SPOKEN_WITHIN)
        crash("online.kept")
        self._pushed.folded(name, upto)

    def _filed(self, view: features.FeatureView, rows: Sequence[Row]) -> tuple[str, features.RowsResult]:
        """A file of rows as the others of the view are: sorted by event time, each with the time it was known."""
        import polars

        from quarterdeckd.features.joining import KNOWN, TIME
        from quarterdeckd.features.reading import KINDS
        from quarterstore.shelf import parquet

        columns = {key.name: polars.Series(key.name, [row.key[n] for row in rows]) for n, key in enumerate(view.keys)}
        columns[TIME] = polars.Series(TIME, [row.at for row in rows], polars.Int64)
        columns[KNOWN] = polars.Series(KNOWN, [row.known for row in rows], polars.Int64)
        for each in view.features:
            values = [row.values.get(each.name) for row in rows]
            columns[each.name] = polars.Series(each.name, values, KINDS[each.kind])
        frame = polars.DataFrame(list(columns.values())).sort(TIME, KNOWN, maintain_order=True)
        path = self._home.pushed / f"{view.name}.parquet"
        parquet.write_into(frame, path)
        digest, size = self._artefacts.adopt(path)
        return digest, features.RowsResult(
            output=digest,
            rows=len(rows),
            first_at=frame[TIME][0] / 1e6,
            last_at=frame[TIME][-1] / 1e6,
            late=sum(row.known > row.at for row in rows),
            size=size,
            known_from=float(min(row.known for row in rows) // 1_000_000),
        )

    # looked after

    async def run(self, every: float) -> None:
        """Until cancelled: tidy up after each new generation, look at the lag of views now and then."""
        while True:
            try:
                async with asyncio.timeout(every):
                    await self._tidy.wait()
            except TimeoutError:
                pass
            try:
                if self._tidy.is_set():
                    self._tidy.clear()
                    await asyncio.to_thread(self.tidy)
                await self.look()
            except Exception:  # a full disk, a damaged file: the daemon goes on, and so does this
                self._tidy.set()
                log.exception("features online are not looked after; it is tried again in %g s", every)
                await asyncio.sleep(every)

    def tidy(self) -> None:
        """Drop generations that nobody is sent to any more (who has one open reads on), and what was pushed that the
        generation before the newest has already: so nobody reads less meanwhile."""
        self.forget()
        kept = {each.id for each in self._view.generations if not self._spoilt(each)}
        kept |= {job.id for job in self._view.jobs if job.kind == "materialise" and job.state in ("QUEUED", "RUNNING")}
        for folder in self._home.online.glob("[!.]*/*"):
            if folder.name not in kept:
                _remove(folder)
        for folder in self._home.online.glob("[!.]*/.*.part"):
            if folder.name.removeprefix(".").removesuffix(".part") not in kept:
                _remove(folder)
        for name in {each.view for each in self._view.generations}:
            generations = generations_of(self._view, name)
            if len(generations) > 1:
                files = {*generations[-2].files}.difference(generations[-2].waiting)
                upto = max((upto for upto, digest in self._pushed.noted(name) if digest in files), default=0)
                self._pushed.covered(name, upto, round(generations[-2].made * 1e6))

    def _spoilt(self, generation: online.Generation) -> bool:
        """Whether an entity was forgotten since, so that it is on the disk in an older generation; the newest is read
        until the next is made."""
        newest = generations_of(self._view, generation.view)[-1]
        return generation != newest and generation.made <= forgotten_at(self._view, generation.view)

    async def _made_anew(self, name: str) -> None:
        """Without an entity that was forgotten since the newest generation was made, or where that is gone from the
        disk, as after a restore."""
        newest = generations_of(self._view, name)[-1]
        gone = not (self._home.online / name / newest.id).is_dir()
        if gone or newest.made <= forgotten_at(self._view, name):
            with contextlib.suppress(Conflict, Refused):  # it is being made, or the view has no row any more
                await self._dispatch.speak(await asyncio.to_thread(self.folded, online.Materialise(view=name)))

    async def look(self) -> None:
        """Raise an alert for a view whose rows wait for longer than it allows; resolve it once none does."""
        for name in {each.view for each in self._view.generations}:
            await self._made_anew(name)
            status = status_of(self._view, view_of(self._view, name), 0, time.time())  # on the loop: no row is counted
            standing = next(
                (a for a in self._view.alerts if (a.kind, a.subject, a.resolved) == (LATE, name, None)), None
            )
            try:
                if status.late and standing is None:
                    await self._dispatch.speak(_late(name, status))
                elif not status.late and standing is not None:
                    note = "no row waits for longer than it may"
                    await self._dispatch.speak(monitoring.ResolveAlert(alert=standing.id, note=note))
            except Fault as fault:
                log.warning("the lag of %s: %s", name, fault.line())


def _late(name: str, status: online.OnlineStatus) -> monitoring.RaiseAlert:
    words = f"{status.rows_waiting:,} rows of {status.view} wait to be online, the oldest for {status.lag:.0f} s"
    return monitoring.RaiseAlert(
        kind=LATE,
        subject=name,
        severity="warning",
        words=f"{words}; {status.max_lag:.0f} s are allowed",
        next=f"qd features materialise {checked_word('view', name)}",
    )


def _remove(folder: Path) -> None:
    log.info("%s/%s is read no more", folder.parent.name, folder.name)
    shutil.rmtree(folder, ignore_errors=True)
