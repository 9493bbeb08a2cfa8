"""Retention at work: what is kept is measured twice a second, what is over a limit goes, oldest first, and the journal
says so."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from pathlib import Path

import msgspec
from msgspec.structs import replace

from quarterdeckd.api.dispatch import Dispatch
from quarterdeckd.api.intake import FOLD_AT, Intake
from quarterdeckd.services.retention import HELD, Choice, Lot, choose, unmet
from quarterdeckd.work.predictions import DAY, Predictions
from quarterstore.ledger.journal import crash
from quarterstore.ledger.retention import held_endpoints, held_runs, retention_of
from quarterstore.ledger.state import State
from quarterstore.records import monitoring, retention
from quarterstore.records.base import Record
from quarterstore.records.faults import Fault, IdReused
from quarterstore.records.ids import new_id
from quarterstore.records.places import Home
from quarterstore.records.retention import KINDS, Kept, NotePurge, Retention, Samples
from quarterstore.shelf.files import write_whole

log = logging.getLogger(__name__)
SAY_EVERY = 10.0
"""Seconds between two entries about one kind: purges that come faster are said in one."""
LOOK_FOR_OLD_EVERY = 60.0
KEEP_EVERY = 0.5
KEEP_SOON = 0.1
KEEP_AGAIN = 5.0
STUCK_FOR = 1.0
"""Seconds until what is over a limit is looked through again, when none of it could go."""
ALERT = "retention"
MOST_LOTS = 10_000
"""Files or runs of one purge: its note, and of runs its entry, names them."""
FOLD_SHARE = 0.1
"""Share of a small limit from which on waiting points are folded."""


class Purge(Record, frozen=True):
    """A purge that is under way or not said yet, kept in a file meanwhile: one that was cut short is ended by the next
    start, and said once. `files` and `runs` are what goes; both may be gone already."""

    id: str
    kind: Samples
    files: tuple[str, ...]
    runs: tuple[str, ...]
    rows: int
    size: int
    oldest: str
    newest: str
    rules: tuple[str, ...]
    done: bool = False
    mended: bool = False


class Retaining:
    """Keeps the samples within their limits; `keep` on the loop, the work in threads."""

    def __init__(
        self,
        home: Home,
        view: State,
        intake: Intake,
        predictions: Predictions,
        dispatch: Dispatch,
    ) -> None:
        self.pause = threading.Lock()
        """Held while files are listed and read for long (a backup): nothing is purged meanwhile."""
        self.recovered: list[str] = []
        self._folder = home.samples
        self._view = view
        self._intake = intake
        self._predictions = predictions
        self._dispatch = dispatch
        self._keeping = asyncio.Lock()
        self._totals: dict[Samples, tuple[int, int]] = {}
        self._over: dict[Samples, str] = {}
        self._said: dict[Samples, float] = {}
        began = time.monotonic()
        self._old_again: dict[Samples, float] = dict.fromkeys(KINDS, began + LOOK_FOR_OLD_EVERY)
        self._stuck_until: dict[Samples, float] = dict.fromkeys(KINDS, began)
        self._limits: dict[Samples, Retention] = {}
        self._mend()

    def _mend(self) -> None:
        """What a stop left of a purge: files of predictions go now, points behind the first answer."""
        for kind in KINDS:
            purge = self._noted(kind)
            if purge is None or purge.done:
                continue
            self._note(replace(purge, mended=True))
            if kind == "predictions":
                self._finish(kind)
            self.recovered.append(f"a purge of {purge.rows} {kind} was cut short and is ended")

    async def run(self) -> None:
        """Until cancelled, twice a second and whenever a log is full: what fills up before its time is folded, then
        what is over a limit goes."""
        full = asyncio.Event()
        self._intake.on_due = full.set
        pause = KEEP_EVERY
        while True:
            try:
                # not wait_for: in Python 3.11 it swallows a cancel that comes with the wake, and stopping hangs
                async with asyncio.timeout(pause):
                    await full.wait()
            except TimeoutError:
                pass
            full.clear()
            try:
                pause = KEEP_SOON if await self.keep() else KEEP_EVERY
            except Exception:
                log.exception("retention failed; it is tried again in %g s", KEEP_AGAIN)
                await asyncio.sleep(KEEP_AGAIN)

    async def keep(self) -> bool:
        """Measure and purge both kinds, say what was purged and which limit cannot be met; answers whether samples fill
        up so quickly that it should be called again soon."""
        async with self._keeping:
            busy = await self._fold_full()
            for kind in KINDS:
                await self._say(kind)  # what was said under an id is not added to
                limit = retention_of(self._view, kind)
                if kind == "points":
                    await self._fold_first(limit)
                over = await asyncio.to_thread(self._purged, limit)
                await self._say(kind)
                await self._alert(kind, over)
        return busy

    async def _fold_full(self) -> bool:
        """Fold what fills up before its time: hosts would soon have to drop predictions. Answers whether there was
        any."""
        points = self._intake.due()
        if points:
            await self._fold_points()
        predictions = self._predictions.due(retention.waiting(retention_of(self._view, "predictions")))
        if predictions:
            await asyncio.to_thread(self._predictions.fold)
        return points or predictions

    async def _fold_points(self) -> None:
        await asyncio.to_thread(self._intake.fold, self._intake.roll())

    async def _fold_first(self, limit: Retention) -> None:
        """Points go by run: those that wait in logs have to be folded before they can."""
        self._intake.fold_size = min(FOLD_AT, int(FOLD_SHARE * limit.size))
        self._intake.fold_points = int(FOLD_SHARE * limit.rows)
        if self._intake.waiting() and _over(limit, *await asyncio.to_thread(self._intake.measured)):
            await self._fold_points()

    def plan(self, limit: Retention) -> Choice:
        """What would go by a limit; in a thread."""
        with self.pause:
            return choose(self._lots(limit), *self._measured(limit.kind), limit)

    def _measured(self, kind: Samples) -> tuple[int, int]:
        """Bytes on the disk and rows, of both files and what waits to become files."""
        self._totals[kind] = self._predictions.measured() if kind == "predictions" else self._intake.measured()
        return self._totals[kind]

    def _lots(self, limit: Retention) -> list[Lot]:
        if limit.kind == "predictions":
            return self._predictions.lots(held_endpoints(self._view), limit.days)
        return runs_as_lots(self._view, self._intake.runs(), limit, time.time())

    def _purged(self, limit: Retention) -> str:
        """Purge what has to go; answers why a limit cannot be met, if so."""
        kind = limit.kind
        with self.pause:
            self._finish(kind)
            size, rows = self._measured(kind)
            over = _over(limit, size, rows)
            now = time.monotonic()
            by_age = kind == "predictions" or limit.days is not None
            changed = self._limits.setdefault(kind, limit) != limit
            self._limits[kind] = limit
            if not (changed or (over and now >= self._stuck_until[kind]) or (by_age and now >= self._old_again[kind])):
                return self._over.get(kind, "") if over else ""
            lots = self._lots(limit)
            choice = choose(lots, size, rows, limit)
            self._old_again[kind] = now + LOOK_FOR_OLD_EVERY
            self._stuck_until[kind] = now + STUCK_FOR if over and not choice.lots else now
            if choice.lots:
                gone = self._purge(kind, choice)
                lots = [lot for lot in lots if lot.name not in gone]
                size, rows = self._measured(kind)
            return unmet(lots, size, rows, limit)

    def _purge(self, kind: Samples, choice: Choice) -> set[str]:
        lots = choice.lots[:MOST_LOTS]
        names = tuple(lot.name for lot in lots)
        purge = Purge(
            id=new_id("purge"),
            kind=kind,
            files=names if kind == "predictions" else (),
            runs=names if kind == "points" else (),
            rows=sum(lot.rows for lot in lots),
            size=sum(lot.size for lot in lots),
            oldest=min(lot.oldest for lot in lots),
            newest=max(lot.newest for lot in lots),
            rules=choice.rules,
        )
        before = self._noted(kind)
        self._note(_joined(before, purge) if before else purge)
        crash("purge.noted")
        self._finish(kind)
        log.info("purged %d %s, %d bytes, by %s", purge.rows, kind, purge.size, ", ".join(purge.rules))
        return set(names)

    def _finish(self, kind: Samples) -> None:
        """Do what the note says, as far as it is not done; doing it again changes nothing."""
        purge = self._noted(kind)
        if purge is None or purge.done:
            return
        if kind == "predictions":
            self._predictions.remove(purge.files)
        else:
            self._intake.drop(set(purge.runs).__contains__, dry_run=False)
        crash("purge.done")
        self._note(replace(purge, done=True, files=()))

    async def _say(self, kind: Samples) -> None:
        """One entry for what was purged since the last one; what cannot be said now (a full disk) is said later."""
        now = time.monotonic()
        if now - self._said.get(kind, -SAY_EVERY) < SAY_EVERY:
            return
        purge = self._noted(kind)
        if purge is None or not purge.done:
            return
        act = NotePurge(
            kind=kind,
            rows=purge.rows,
            size=purge.size,
            oldest=purge.oldest,
            newest=purge.newest,
            rules=purge.rules,
            runs=purge.runs,
            mended=purge.mended,
        )
        try:
            await self._dispatch.speak(act, request=purge.id)
        except IdReused:
            self._note(replace(purge, id=new_id("purge")))  # a part of it was said: all of it is said again, not less
            return
        except Fault as fault:
            log.warning("a purge of %s is not said yet: %s", kind, fault.line())
            return
        self._said[kind] = now
        crash("purge.said")
        self._path(kind).unlink()

    async def _alert(self, kind: Samples, over: str) -> None:
        """Raise or resolve the alert about a limit that cannot be met, when that has changed."""
        before = self._over.get(kind)
        self._over[kind] = over
        if before is not None and bool(before) == bool(over):
            return
        standing = [
            each for each in self._view.alerts if (each.kind, each.subject, each.resolved) == (ALERT, kind, None)
        ]
        try:
            if over and not standing:
                await self._dispatch.speak(
                    monitoring.RaiseAlert(
                        kind=ALERT, subject=kind, severity="warning", words=over[:1000], next="qd retention show"
                    )
                )
            for alert in standing if not over else ():
                await self._dispatch.speak(monitoring.ResolveAlert(alert=alert.id, note="the limits are met"))
        except Fault as fault:
            del self._over[kind]  # looked at again with the next measure
            log.warning("retention of %s: %s", kind, fault.line())

    def shown(self) -> list[Kept]:
        """What is kept now; in a thread."""
        with self.pause:
            found = []
            for kind in KINDS:
                limit = retention_of(self._view, kind)
                found.append(_kept(limit, self._lots(limit), *self._measured(kind)))
            return found

    def words(self) -> dict[str, str]:
        """What was measured last, a line a kind."""
        found: dict[str, str] = {}
        for kind, (size, rows) in self._totals.items():
            limit = retention_of(self._view, kind)
            found[kind] = f"{size / 1e6:,.1f} of {limit.size / 1e6:,.0f} MB, {rows:,} of {limit.rows:,} rows"
        return found

    def unmet(self) -> str:
        """Why limits cannot be met, as was found last; nothing where they are."""
        return "; ".join(filter(None, self._over.values()))

    def _path(self, kind: Samples) -> Path:
        return self._folder / f"purge-{kind}.json"

    def _noted(self, kind: Samples) -> Purge | None:
        path = self._path(kind)
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=Purge)
        except msgspec.MsgspecError as error:
            log.error("%s: got bytes that are no purge (%s); it is put aside", path.name, error)
            path.rename(path.with_suffix(".damaged"))
            return None

    def _note(self, purge: Purge) -> None:
        write_whole(self._path(purge.kind), msgspec.json.encode(purge))


def runs_as_lots(state: State, folded: dict[str, tuple[int, float]], limit: Retention, now: float) -> list[Lot]:
    """The points of each known run (rows and bytes by run), those of the run that ended first before the others;
    points of runs that are not known any more are for `gc`."""
    held = held_runs(state)
    registered = {version.run for version in list(state.versions) if version.run and version.freed is None}
    found = []
    for name, (rows, size) in folded.items():
        run = state.runs.get(name)
        if run is None:
            continue
        ended = run.ended if run.ended is not None else now
        kept = ""
        if name in held:
            kept = HELD
        elif run.state == "RUNNING":
            kept = "are of runs that are open"
        elif name in registered and not limit.registered:
            kept = "are of registered versions (qd retention set points --registered)"
        expired = limit.days is not None and ended < now - limit.days * DAY
        found.append((ended, Lot(name, int(size), rows, _day(run.started), _day(ended), expired, kept)))
    return [lot for _, lot in sorted(found)]


def _over(limit: Retention, size: int, rows: int) -> bool:
    return (
        size > retention.marks(limit.size, retention.WAITING_SIZE).high
        or rows > retention.marks(limit.rows, retention.WAITING_ROWS).high
    )


def _joined(before: Purge, after: Purge) -> Purge:
    """Two purges that are said in one entry."""
    return replace(
        after,
        id=before.id,
        runs=tuple(dict.fromkeys((*before.runs, *after.runs))),
        rows=before.rows + after.rows,
        size=before.size + after.size,
        oldest=min(before.oldest, after.oldest),
        newest=max(before.newest, after.newest),
        rules=tuple(dict.fromkeys((*before.rules, *after.rules))),
        mended=before.mended,
    )


def _kept(limit: Retention, lots: list[Lot], size: int, rows: int) -> Kept:
    days = [lot.oldest for lot in lots], [lot.newest for lot in lots]
    return Kept(
        kind=limit.kind,
        size=size,
        limit_size=limit.size,
        rows=rows,
        limit_rows=limit.rows,
        oldest=min(days[0], default=""),
        newest=max(days[1], default=""),
        limit_days=limit.days,
        held=sum(lot.size for lot in lots if lot.kept == HELD),
        registered=limit.registered,
        over=unmet(lots, size, rows, limit),
    )


def _day(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%d", time.gmtime(at))
    except (OverflowError, ValueError, OSError):
        return ""
