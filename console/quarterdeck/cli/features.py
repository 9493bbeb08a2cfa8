"""Feature definitions in TOML, files of rows that go out, training sets that come back."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from quarterdeck.cli.context import Context
from quarterdeck.cli.waiting import to_the_end
from quarterstore.records import tables
from quarterstore.records.base import Record
from quarterstore.records.faults import Conflict, Invalid, got, missing
from quarterstore.records.features import (
    AddRows,
    DefineView,
    Entity,
    Feature,
    FeatureRows,
    FeatureView,
    JoinFeatures,
    Key,
    Kind,
    Known,
    Reading,
    ShowTrainingSet,
    ShowView,
    TrainingSet,
)
from quarterstore.records.misfits import misfit, refuse_unknown


class EntityWritten(Record, frozen=True):
    """An entity as a file says it: the columns that name one, with their kinds where they are not texts."""

    keys: list[str] | dict[str, str]
    """Columns that name one: a list of texts, or column -> text or integer."""


class ViewWritten(Record, frozen=True):
    """A view as a file says it."""

    entities: list[str]
    """Whose values they are."""
    event_time: str
    """The column that says from when on a row is true."""
    features: dict[str, Kind]
    """Feature -> its kind."""
    created_time: str | None = None
    """The column that says when a row was written."""
    ttl: str | None = None
    """How long a value holds, such as 30d; for ever unless given."""
    max_lag: str | None = None
    """How long rows may wait to be read online before an alert, such as 1h."""
    owner: str = ""
    """Who looks after it."""
    description: str = ""
    """What it is."""
    tags: dict[str, str] = {}
    """Name -> text."""
    source: str = ""
    """Where rows come from, in words; said, not read."""
    requests: dict[str, Kind] = {}
    """Value that comes with a row or a request -> its kind, for formulas."""
    on_demand: dict[str, str] = {}
    """Feature -> the formula that it is computed by as it is read."""


class Written(Record, frozen=True):
    """A file of definitions."""

    entities: dict[str, EntityWritten]
    """`[entities.NAME]`, whose values there are."""
    views: dict[str, ViewWritten]
    """`[views.NAME]`, values that come in the same rows."""


def read(path: Path, *, run_code: bool = False) -> list[DefineView]:
    """The views that a file defines, TOML or (its code is run) Python; a fault names what is wrong in it."""
    if not path.is_file():
        raise got("file", str(path), "a file that is there: feature definitions in TOML or Python")
    if path.suffix == ".py":
        from quarterdeck.cli.feature_code import views_of

        return views_of(path, allowed=run_code)
    try:
        fields = tomllib.loads(path.read_text())
        refuse_unknown(Written, fields)
        written = msgspec.convert(fields, Written)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"got a file that is no TOML ({error})", field=path.name) from error
    except msgspec.ValidationError as error:
        raise misfit(Written, str(error), fields) from error
    entities = {name: _entity(name, each) for name, each in written.entities.items()}
    return [_view(name, each, entities) for name, each in written.views.items()]


def _entity(name: str, written: EntityWritten) -> Entity:
    keys = written.keys if isinstance(written.keys, dict) else dict.fromkeys(written.keys, "text")
    for key, kind in keys.items():
        if kind not in ("text", "integer"):
            raise got(f"entities.{name}.keys.{key}", kind, "text or integer")
    return Entity(name=name, keys=tuple(Key(name=key, kind=kind) for key, kind in keys.items()))  # type: ignore[arg-type]


def _view(name: str, written: ViewWritten, entities: dict[str, Entity]) -> DefineView:
    from quarterdeck.cli.spans import seconds

    for entity in written.entities:
        if entity not in entities:
            raise missing(f"views.{name}.entities", entity, entities)
    return DefineView(
        name=name,
        entities=tuple(entities[entity] for entity in written.entities),
        features=tuple(Feature(name=feature, kind=kind) for feature, kind in written.features.items()),
        event_time=written.event_time,
        created_time=written.created_time,
        ttl=None if written.ttl is None else seconds(f"views.{name}.ttl", written.ttl),
        max_lag=None if written.max_lag is None else seconds(f"views.{name}.max_lag", written.max_lag),
        owner=written.owner,
        description=written.description,
        tags=written.tags,
        source=written.source,
        requests=tuple(Feature(name=each, kind=kind) for each, kind in written.requests.items()),
        on_demand=written.on_demand,
    )


def applied(context: Context, path: Path, run_code: bool) -> list[FeatureView]:
    """Define every view of a file."""
    return [context.client.ask(each) for each in read(path, run_code=run_code)]


def loaded(context: Context, view: str, file: Path, known: Known | None) -> FeatureRows:
    """Send a file of rows, follow its job to the end."""
    context.client.ask(ShowView(view=view))  # before a large file is sent
    digest, format_ = sent_rows(context, "file", file)
    job = to_the_end(context, context.client.ask(AddRows(view=view, digest=digest, format=format_, known=known)))
    files = context.client.ask(ShowView(view=view)).files
    found: FeatureRows = next(each for each in files if each.source == digest)
    context.say(f"{found.rows:,} rows of {found.view} are kept, known {_when(found)} ({job.id})")
    return found


def _when(rows: FeatureRows) -> str:
    words = {"event": "at their event time", "now": "from now on", "column": "when their own column says"}
    return words[rows.known]


def joined(
    context: Context,
    entities: Path,
    views: tuple[str, ...],
    output: Path,
    overwrite: bool,
    time: str,
    reading: Reading,
) -> TrainingSet:
    """Send the entities, follow the job, fetch the training set."""
    if not output.parent.is_dir():
        raise got("output", str(output), "a file in a folder that is there")
    if output.suffix.lower() == ".csv":
        raise got("output", output.name, "a name for a Parquet file, such as training.parquet")
    if output.exists() and not overwrite:
        raise Conflict(f"{output} is there already", field="output", next="give another name or --overwrite")
    digest, format_ = sent_rows(context, "entities", entities)
    asked = JoinFeatures(digest=digest, format=format_, views=views, time=time, reading=reading)
    job = to_the_end(context, context.client.ask(asked))
    result: dict[str, Any] = job.result
    made = context.client.ask(ShowTrainingSet(set=result["id"]))
    context.client.get(made.digest, output)
    context.say(f"{made.rows:,} rows in {output}: {made.id}")
    for view, counts in made.statuses.items():
        context.say(f"{view}: " + ", ".join(f"{n:,} {status}" for status, n in sorted(counts.items(), reverse=True)))
    return made


def sent_rows(context: Context, field: str, file: Path) -> tuple[str, Any]:
    """Send a CSV or Parquet file; answers its hash and its format."""
    if not file.is_file():
        raise got(field, str(file), "a CSV or Parquet file that can be read")
    parquet = file.suffix.lower() in (".parquet", ".pq")
    if parquet:
        tables.check_parquet(file)
    return context.client.put(file)[0], "parquet" if parquet else "csv"
