"""The step `features`: the rows of entities with the features that were known at each row's time, for the steps behind
it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from quarterdeckd.features import training_set
from quarterdeckd.features.lumps import write
from quarterdeckd.pipeline.step import At, Told
from quarterstore.records.base import Record
from quarterstore.records.faults import got
from quarterstore.records.features import JoinSpec
from quarterstore.records.pipelines import Definition, JoinedFigures
from quarterstore.records.training_sets import identity

ROWS, ABOUT = "joined.parquet", "joined.json"


class Joined(Record, frozen=True):
    """`joined.json`: the training set that `joined.parquet` is, and its columns that say whose a row is and when."""

    set: str
    entities: tuple[str, ...]


def features(at: At) -> Told:
    """`joined.parquet` and `joined.json`; a fault names what the entities lack."""
    if at.join is None:
        raise got(at.name, "no views", "data.features")
    figures = made(at.join, at.out, at)
    found = [f"{name} {_counted(statuses)}" for name, statuses in figures.statuses.items()]
    words = f"{figures.rows:,} rows with features: {'; '.join(found)}; {figures.set}"
    return Told(words, msgspec.to_builtins(figures))


def made(join: JoinSpec, out: Path, at: At | None = None) -> JoinedFigures:
    """The training set as files below a folder, as `qd features get` makes it."""
    rows = training_set.rows_of(join, _Told(at))
    write(rows.frame, out / ROWS)
    id_ = identity(join, rows.used)
    entities = tuple(dict.fromkeys([*(key.name for view in join.views for key in view.keys), join.time]))
    (out / ABOUT).write_bytes(msgspec.json.encode(Joined(id_, entities)))
    return JoinedFigures(id_, rows.frame.height, rows.newest, rows.statuses)


class _Told:
    """How far the join is, as that of the step; of a check before a run nobody is told."""

    def __init__(self, at: At | None) -> None:
        self._at = at

    def progress(self, name: str, fraction: float, words: str) -> None:
        if self._at is not None:
            self._at.report.progress(self._at.name, fraction, words)


def behind(at: At) -> At:
    """A step that reads the rows of the definition: those that a step `features` before it left, where there is one."""
    if not any(place.endswith(f"/{ABOUT}") for place in at.inputs):
        return at
    rows, about = at.file(ROWS), at.file(ABOUT)
    return at._replace(data=rows, definition=learnt_from(at.definition, about))


def learnt_from(definition: Definition, about: Path) -> Definition:
    """The definition for joined rows: the keys and the time of the entities are no features; a column that orders or
    groups the rows is left for that."""
    data = definition.data
    entities = msgspec.json.decode(about.read_bytes(), type=Joined).entities
    ours = [name for name in entities if name not in (data.time, data.group, data.target, *data.ignore)]
    return msgspec.structs.replace(definition, data=msgspec.structs.replace(data, ignore=(*data.ignore, *ours)))


def _counted(statuses: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in sorted(statuses.items(), reverse=True))
