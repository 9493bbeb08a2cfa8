"""Garbage: what was removed long enough ago is forgotten in the journal first, and its bytes freed after."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from quarterdeckd.api.intake import Intake
from quarterdeckd.services.store import purgeable
from quarterstore.ledger.journal import crash
from quarterstore.ledger.retention import held_runs
from quarterstore.ledger.state import State
from quarterstore.records.base import Record
from quarterstore.records.faults import got
from quarterstore.records.store import CollectGarbage, Freed, Purge
from quarterstore.records.wire import encode
from quarterstore.shelf.artefacts import Artefacts
from quarterstore.shelf.files import on_disk

ORPHANED_AFTER = 86_400.0
"""Seconds after which a kept file that no record names is garbage: an upload whose act never came."""
_digest = re.compile(rb"[0-9a-f]{64}")


class Freeing:
    """Frees the disk; runs in a thread, `speak` asks the writer and waits for it."""

    def __init__(self, view: State, artefacts: Artefacts, intake: Intake, speak: Callable[[Purge], Any]) -> None:
        self._view = view
        self._artefacts = artefacts
        self._intake = intake
        self._speak = speak

    def collect(self, query: CollectGarbage) -> Freed:
        """Free, or with `dry_run` only count. A crash between the entry and the files leaves files that nothing
        names: the next collection takes them."""
        if not query.older >= 0:
            raise got("older", query.older, "seconds, 0 or more")
        purge = purgeable(self._view, time.time() - query.older)
        forgotten = {*purge.runs, *purge.logged_models, *purge.versions}
        doomed = self._doomed(forgotten)
        size = sum(on_disk(self._artefacts.path(digest)) for digest in doomed)
        if not query.dry_run:
            if forgotten:
                self._speak(purge)
                crash("gc.purged")
            doomed, size = self._unlink(doomed)
        known = self._view.runs.rows.keys() - set(purge.runs)
        held = held_runs(self._view)
        dropped = self._intake.drop(lambda run: run not in known and run not in held, dry_run=query.dry_run)
        return Freed(
            dry_run=query.dry_run,
            runs=len(purge.runs),
            logged_models=len(purge.logged_models),
            versions=len(purge.versions),
            files=len(doomed),
            points=dropped.points,
            size=size + dropped.size,
        )

    def _doomed(self, forgotten: set[str]) -> set[str]:
        """Kept files that nothing but what is forgotten names, and those that nothing has named for a day."""
        named = digests(record for record in self._records() if not _gone(record, forgotten))
        lost = digests(record for record in self._records() if _gone(record, forgotten))
        young = time.time() - ORPHANED_AFTER
        return {
            path.name
            for path in self._artefacts.kept()
            if path.name not in named and (path.name in lost or path.stat().st_mtime < young)
        }

    def _records(self) -> Iterable[Record]:
        for name, book in self._view.books().items():
            if name != "undo":  # what could be taken back is gone with what is forgotten
                yield from list(book.rows.values())

    def _unlink(self, doomed: set[str]) -> tuple[set[str], int]:
        """Set aside, look once more whether an act of this moment names one, then unlink."""
        if not doomed:
            return doomed, 0
        aside = {digest: self._artefacts.set_aside(digest) for digest in doomed}
        self._speak(Purge(files=len(doomed)))  # whatever was asked before the files were set aside is decided by now
        again = digests(record for record in self._records() if not _gone(record, set()))
        size = 0
        for digest, path in aside.items():
            if digest in again:
                self._artefacts.put_back(path)
            else:
                size += on_disk(path)
                path.unlink()
        return doomed - again, size


def digests(records: Iterable[Record]) -> set[str]:
    """Every SHA-256 that records name, in whichever field."""
    return {found.decode() for record in records for found in _digest.findall(encode(record))}


def _gone(record: Record, forgotten: set[str]) -> bool:
    return getattr(record, "id", "") in forgotten or getattr(record, "freed", None) is not None
