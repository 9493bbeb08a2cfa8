"""The feature view `usage` of the tests: its definition, and a generation of it as a host is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quarterstore.records import features, online
from quarterstore.shelf.entity_keys import key_bytes
from quarterstore.shelf.online import packed, write

DEFINED = """
[entities.customer]
keys = { customer = "integer" }

[views.usage]
entities = ["customer"]
event_time = "at"
ttl = "30d"
[views.usage.features]
minutes = "number"
plan = "text"
"""
Rows = dict[tuple[Any, ...], tuple[int, list[Any]]]
"""Keys of an entity -> its event time (microseconds of the epoch), and its values."""


def generation(
    folder: Path, keys: tuple[features.Key, ...], has: tuple[features.Feature, ...], rows: Rows, made: float
) -> online.OnlineView:
    """A generation of these rows, written and named; the ttl is an hour, `made` in seconds of the epoch."""
    write(folder, sorted((key_bytes(key), packed([at, at, *values])) for key, (at, values) in rows.items()))
    return online.OnlineView(
        name="usage",
        version=1,
        keys=keys,
        features=has,
        ttl=3600.0,
        folder=str(folder),
        columns=tuple(each.name for each in has),
        made=made,
    )
