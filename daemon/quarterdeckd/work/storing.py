"""What is asked of the store as a whole, in threads: a backup, what can be freed, everything out, everything in."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from quarterdeckd.api.dispatch import Dispatch, Wide
from quarterdeckd.api.intake import Intake
from quarterdeckd.api.permissions import Speaker
from quarterdeckd.api.posting import Poster
from quarterdeckd.services.retention import with_limits
from quarterdeckd.work.backing_up import back_up
from quarterdeckd.work.freeing import Freeing
from quarterdeckd.work.predictions import Predictions
from quarterdeckd.work.retaining import Retaining
from quarterdeckd.work.transferring import Transferring
from quarterstore.ledger import journal
from quarterstore.ledger.opening import Ledger
from quarterstore.ledger.retention import retention_of
from quarterstore.ledger.state import State
from quarterstore.records import store, transfer
from quarterstore.records.retention import KINDS, Planned, PlanPurge, ShowRetention
from quarterstore.shelf.artefacts import Artefacts

KEPT_WITHIN = 300.0
"""Seconds that a purge may take before it is waited for no longer; it goes on."""
MOST_SHOWN = 1000
"""Runs that a plan names."""


class Storing:
    """Reads the whole store beside the writer; what is certain of it is said by acts of the daemon's own."""

    def __init__(
        self,
        ledger: Ledger,
        view: State,
        poster: Poster,
        dispatch: Dispatch,
        intake: Intake,
        predictions: Predictions,
        artefacts: Artefacts,
        retaining: Retaining,
    ) -> None:
        self._ledger = ledger
        self._view = view
        self._poster = poster
        self._dispatch = dispatch
        self._intake = intake
        self._predictions = predictions
        self._artefacts = artefacts
        self._retaining = retaining
        self._loop = asyncio.get_running_loop()

    def readers(self) -> dict[type, Wide]:
        """What is asked -> what answers it."""
        return {
            store.Backup: self._back_up,
            store.CollectGarbage: self._collect,
            PlanPurge: self._plan,
            ShowRetention: lambda query, speaker, seen: self._retaining.shown(),
            transfer.Export: self._export,
            transfer.Import: self._import,
        }

    def _back_up(self, query: Any, speaker: Speaker, seen: int) -> store.BackupMade:
        self._poster.wait_for(seen, 10.0)
        ((newest, digest, position),) = self._ledger.database.query("SELECT seq, hash, position FROM head")
        segment, end = journal.end_of(self._ledger.home.journal, position)
        self._fold()
        self._predictions.fold()
        with self._retaining.pause:
            made = back_up(
                self._ledger.home, self._artefacts, journal.Head(newest, bytes.fromhex(digest)), end, segment
            )
        noted = store.NoteBackup(digest=made.digest, size=made.size, seq=made.seq, hash=made.hash)
        answer: store.BackupMade = self._spoken(noted, store.BackupMade)
        return answer

    def _collect(self, query: store.CollectGarbage, speaker: Speaker, seen: int) -> store.Freed:
        self._fold()
        freed = Freeing(self._view, self._artefacts, self._intake, self._spoken).collect(query)
        found = {kind: self._retaining.plan(retention_of(self._view, kind)) for kind in KINDS}
        if not query.dry_run:
            asyncio.run_coroutine_threadsafe(self._retaining.keep(), self._loop).result(KEPT_WITHIN)
        return replace(
            freed,
            predictions=sum(lot.rows for lot in found["predictions"].lots),
            points=freed.points + sum(lot.rows for lot in found["points"].lots),
            size=freed.size + sum(lot.size for choice in found.values() for lot in choice.lots),
        )

    def _plan(self, query: PlanPurge, speaker: Speaker, seen: int) -> Planned:
        limit = with_limits(retention_of(self._view, query.kind), query)
        choice = self._retaining.plan(limit)
        lots = choice.lots
        return Planned(
            kind=query.kind,
            rows=sum(lot.rows for lot in lots),
            size=sum(lot.size for lot in lots),
            oldest=min((lot.oldest for lot in lots), default=""),
            newest=max((lot.newest for lot in lots), default=""),
            rules=choice.rules,
            runs=tuple(lot.name for lot in lots[:MOST_SHOWN]) if query.kind == "points" else (),
        )

    def _export(self, query: transfer.Export, speaker: Speaker, seen: int) -> transfer.Exported:
        self._fold()
        with self._retaining.pause:
            return self._transferring().export()

    def _import(self, query: transfer.Import, speaker: Speaker, seen: int) -> transfer.Imported:
        imported = self._transferring().take_in(query)
        self._intake.look()
        return imported

    def _transferring(self) -> Transferring:
        return Transferring(self._ledger.home, self._view, self._artefacts, self._spoken)

    def _spoken(self, act: Any, answer: Any = None) -> Any:
        """An act of the daemon's own, from a thread."""
        return asyncio.run_coroutine_threadsafe(self._dispatch.speak(act, answer), self._loop).result(30)

    def _fold(self) -> None:
        """All points into Parquet."""
        self._intake.fold(asyncio.run_coroutine_threadsafe(self._rolled(), self._loop).result(10))

    async def _rolled(self) -> Any:
        return self._intake.roll()
