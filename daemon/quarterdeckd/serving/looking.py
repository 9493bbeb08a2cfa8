"""The features that a version needs and its callers leave out: read in this process from the views by the keys in
their rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from quarterdeckd.features.computing import completed, read_for
from quarterdeckd.features.entities import key_of, keys_of, names_of
from quarterdeckd.serving.nulls import Nulls
from quarterstore.records.deployments import Slot
from quarterstore.records.faults import Conflict, missing
from quarterstore.records.names import drawn
from quarterstore.records.online import OnlineView, Status
from quarterstore.shelf.online import Online, Pushed

TOLD = 3
"""Rows, and features of a row, that a complaint names."""
Read = tuple[list[Status | None], list[float | None]]
"""Of one view the status and the age (seconds) of each row; None for a row without its keys."""


class Looked(NamedTuple):
    """What was read for the rows of one request to a version: their values by feature, what was read of each view, the
    columns that were keys or requests of a view, the rows as they came, and of each feature its view with its keys."""

    values: list[dict[str, Any]]
    views: dict[str, Read]
    keys: frozenset[str]
    version: str
    rows: Sequence[Mapping[str, Any]]
    sources: dict[str, tuple[str, list[str]]]

    @property
    def names(self) -> set[str]:
        """The features that were read: any of them may be null."""
        return {name for row in self.values for name in row}

    def refused(self, nulls: Nulls) -> Conflict:
        """What a caller is told whose version takes no null there: which rows have one, of which view and key."""
        told = [self._told(number, nulls[number]) for number in sorted(nulls)[:TOLD]]
        if len(nulls) > TOLD:
            told.append(f"{len(nulls) - TOLD} more rows")
        words = f"got null for {', for '.join(told)}, expected a value: {self.version} takes no null there"
        return Conflict(
            words,
            field="features",
            next="a row may give the value itself",
            figures={"features": read_of(self.views)},
        )

    def _told(self, number: int, names: Sequence[str]) -> str:
        sources: dict[str, list[str]] = {}
        for name in names:
            sources.setdefault(self.sources[name][0], []).append(name)
        return ", ".join(
            f"{_few(those)} in rows[{number}] ({view}: {self._key(number, those[0])} {self._status(number, view)})"
            for view, those in sources.items()
        )

    def _key(self, number: int, name: str) -> str:
        row = self.rows[number]
        return ", ".join(f"{each}={drawn(str(row[each]), longest=60)}" for each in self.sources[name][1])

    def _status(self, number: int, view: str) -> str:
        statuses, ages = self.views[view]
        age = ages[number]
        return f"{statuses[number]}" + (f", {age:.0f} s old" if age is not None else "")


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more


def read_of(read: dict[str, Read]) -> dict[str, Any]:
    """What was read of each view, as an answer says it."""
    return {view: {"statuses": statuses, "ages": ages} for view, (statuses, ages) in read.items()}


class Views:
    """The views of the last routing table; what was pushed is in `pushed`, None where nothing can have been."""

    def __init__(self, pushed: Path | None = None) -> None:
        self._folder = pushed
        self._pushed: Pushed | None = None
        self._views: dict[str, Online] = {}
        self._newest: dict[str, Online] = {}

    def swap(self, views: Sequence[OnlineView]) -> None:
        """Read by other views from the next request on; one that is the same stays open. What is being read is read to
        its end."""
        if self._pushed is None and self._folder is not None and self._folder.is_dir():
            self._pushed = Pushed(self._folder)
        before, newest = self._views, dict(self._newest)
        self._views, self._newest = {}, {}
        for view in sorted(views, key=lambda each: each.version):
            known = before.get(view.id)
            if known is None or known.view != view:
                known = Online(view, self._pushed, newest.get(view.name))
            self._views[view.id] = self._newest[view.name] = newest[view.name] = known

    def view(self, name: str) -> Online:
        """A view by its name, in its newest version; `NotFound` names the nearest."""
        found = self._newest.get(name.partition("@")[0])
        if found is None or name not in (found.view.name, found.view.id):
            raise missing("view", name, self._newest)
        return found

    def looked(self, slot: Slot, rows: Sequence[Mapping[str, Any]]) -> Looked | None:
        """What a version needs of the rows that have keys, None where none has; raises `Invalid` for a key that is
        none, `Conflict` for an old value that the version takes none of."""
        now, values = time.time(), [dict[str, Any]() for _ in rows]
        views: dict[str, Read] = {}
        keys: set[str] = set()
        sources: dict[str, tuple[str, list[str]]] = {}
        for need in slot.views:
            online = self._views.get(need.id)
            if online is None:
                continue  # a sandbox reads no view: its callers give every value, as it was recorded
            names = [key.name for key in online.view.keys]
            having = [number for number, row in enumerate(rows) if all(name in row for name in names)]
            if not having:
                continue
            asked = [key_of(online.view.keys, rows[number], f"rows[{number}]") for number in having]
            read: Read = ([None] * len(rows), [None] * len(rows))
            found = online.read(asked, now, read_for(online.view, need.features), stale=slot.on_expired == "last")
            given, fields = [rows[number] for number in having], [f"rows[{number}]" for number in having]
            whole = completed(online.view, need.features, [each.values for each in found], given, fields)
            for number, each, cells in zip(having, found, whole, strict=True):
                if each.status == "EXPIRED" and slot.on_expired == "fail":
                    words = f"rows[{number}] has values of {each.age:.0f} s ago in {online.view.id}"
                    raise Conflict(f"{words}, {slot.version} takes none that is EXPIRED", field="features")
                values[number].update(zip(need.features, cells, strict=True))
                read[0][number], read[1][number] = each.status, each.age
            views[online.view.id] = read
            keys.update(names, (each.name for each in online.view.requests))
            sources.update((name, (online.view.id, names)) for name in need.features)
        return Looked(values, views, frozenset(keys), slot.version, rows, sources) if views else None

    def answer(self, name: str, keys: Sequence[Mapping[str, Any]], features: Sequence[str]) -> dict[str, Any]:
        """What is read of some entities, as it is answered over HTTP: a list of values for each key."""
        online = self.view(name)
        view = online.view
        names = names_of(view, features)
        found = online.read(keys_of(view.keys, keys), time.time(), names)
        return {
            "view": view.id,
            "generation": view.generation,
            "features": names or [each.name for each in view.features],
            "values": [each.values for each in found],
            "statuses": [each.status for each in found],
            "ages": [each.age for each in found],
        }
