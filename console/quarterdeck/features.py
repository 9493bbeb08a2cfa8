"""Feature definitions in Python: `Entity`, `FeatureView` and what belongs to them, named as Feast names them.

    from datetime import timedelta
    from quarterdeck.features import Entity, FeatureView, Field, FileSource, Float64, Int64

    customer = Entity(name="customer", join_keys=["customer"], value_type=Int64)
    usage = FeatureView(
        name="usage",
        entities=[customer],
        ttl=timedelta(days=30),
        schema=[Field(name="minutes", dtype=Float64), Field(name="calls", dtype=Int64)],
        source=FileSource(path="usage.parquet", timestamp_field="at", created_timestamp_column="written"),
        requests=[Field(name="amount", dtype=Float64)],
        on_demand={"per_call": "minutes / max(calls, 1)"},
        owner="data",
        tags={"team": "churn"},
    )

`qd features apply FILE.py --run-code` runs such a file in a process of its own (`python -m quarterdeck.features FILE`)
and takes every `FeatureView` that it leaves under a name. What Feast knows and this does not (`batch_source`, `online`,
`mode`, transformations in Python) is an error of the file: there is no such argument.
"""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, get_args

import msgspec

from quarterstore.records.features import DefineView, Feature, Key, Kind
from quarterstore.records.features import Entity as EntityRecord

Float32: Final[Kind] = "number"
Float64: Final[Kind] = "number"
Int32: Final[Kind] = "integer"
Int64: Final[Kind] = "integer"
String: Final[Kind] = "text"
Bool: Final[Kind] = "boolean"
KEYS: Final = ("text", "integer")


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A feature, or a value that comes with a request: its name and its kind."""

    name: str
    dtype: Kind

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Kind):
            raise TypeError(f"the dtype of {self.name} is {self.dtype!r}, expected Float64, Int64, String or Bool")


class FileSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where rows come from (said, not read: `qd features load` takes them in) and which columns hold their times."""

    timestamp_field: str
    path: str = ""
    created_timestamp_column: str | None = None


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """What values are of; `join_keys` are the columns that name one together (its own name, unless said)."""

    name: str
    join_keys: Sequence[str] = ()
    value_type: Kind | Mapping[str, Kind] = String

    def record(self) -> EntityRecord:
        """As the daemon is told; `TypeError` for a key that is neither text nor integer."""
        keys = tuple(self.join_keys) or (self.name,)
        kinds = dict.fromkeys(keys, self.value_type) if isinstance(self.value_type, str) else self.value_type
        for key in keys:
            if kinds.get(key, String) not in KEYS:
                raise TypeError(f"the key {key} of {self.name} is {kinds[key]}, expected String or Int64")
        return EntityRecord(name=self.name, keys=tuple(_key(key, kinds.get(key, String)) for key in keys))


def _key(name: str, kind: Kind) -> Key:
    return Key(name=name, kind="integer" if kind == "integer" else "text")


class FeatureView(msgspec.Struct, frozen=True, kw_only=True):
    """Features of the same entities that come in the same rows; see `docs/how-to/keep-features.md`."""

    name: str
    entities: Sequence[Entity]
    schema: Sequence[Field]
    source: FileSource
    ttl: timedelta | None = None
    requests: Sequence[Field] = ()
    on_demand: Mapping[str, str] = {}
    owner: str = ""
    description: str = ""
    tags: Mapping[str, str] = {}

    def record(self) -> DefineView:
        """As the daemon is told; a ttl of nothing is none, as in Feast."""
        return DefineView(
            name=self.name,
            entities=tuple(each.record() for each in self.entities),
            features=tuple(Feature(name=each.name, kind=each.dtype) for each in self.schema),
            event_time=self.source.timestamp_field,
            created_time=self.source.created_timestamp_column,
            ttl=self.ttl.total_seconds() if self.ttl else None,
            owner=self.owner,
            description=self.description,
            tags=dict(self.tags),
            source=self.source.path,
            requests=tuple(Feature(name=each.name, kind=each.dtype) for each in self.requests),
            on_demand=dict(self.on_demand),
        )


def main(argv: list[str]) -> int:
    """Run a file, print its views as JSON on one line; 1 with the file's own error where it has one."""
    file = Path(argv[1])
    said, sys.stdout = sys.stdout, sys.stderr  # what the file prints is talk
    sys.path.insert(0, str(file.parent))
    try:
        module = sys.modules["quarterdeck.features"] = sys.modules["__main__"]
        left = runpy.run_path(str(file))
        views = {view.name: view.record() for view in left.values() if isinstance(view, module.FeatureView)}
    except Exception as error:
        traceback.print_exc(limit=-1)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    said.write(msgspec.json.encode(list(views.values())).decode())
    said.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
