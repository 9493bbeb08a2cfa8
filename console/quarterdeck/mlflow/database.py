"""MLflow's default store since 3.7: `mlflow.db`, an SQLite database, beside its folder of artefacts."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from quarterdeck.mlflow.left import Left
from quarterdeck.mlflow.places import Artefacts
from quarterdeck.mlflow.shapes import LARGEST, PROMPT, Experiment, Fetch, LoggedModel, Model, Point, Run, Version
from quarterstore.records.faults import Invalid, got
from quarterstore.records.logged_models import ModelStatus
from quarterstore.records.names import LONGEST_KEY, checked_text
from quarterstore.records.runs import DatasetInput, ModelOutput

MODEL_STATUS: dict[int, ModelStatus] = {0: "PENDING", 1: "PENDING", 2: "READY", 3: "FAILED"}
NEEDED = ("experiments", "experiment_tags", "runs", "params", "tags", "metrics", "registered_models", "model_versions")
WAIT = 10.0
"""Seconds to wait for a writer."""
Made = TypeVar("Made")


class Database:
    """An `mlflow.db` that is opened to be read only; its artefacts are looked for below `folder` and nowhere else."""

    def __init__(self, path: Path, folder: Path, left: Left) -> None:
        self._left = left
        self._artefacts = Artefacts(folder, left)
        if not path.is_file():
            raise got("folder", str(path), "a database of MLflow")
        try:
            address = f"{path.absolute().as_uri()}?mode=ro"
            self._connection = sqlite3.connect(address, uri=True, timeout=WAIT, isolation_level=None)
            self._connection.execute("PRAGMA trusted_schema = OFF")
        except sqlite3.Error as error:
            raise got("folder", f"{path.name}: {error}", "a database of MLflow") from None
        # a view could be anything; tables are what MLflow makes
        self._tables = {str(name) for (name,) in self._rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if absent := [name for name in NEEDED if name not in self._tables]:
            raise got("folder", f"{path.name} without {', '.join(absent)}", "a database of MLflow")
        self._columns = {
            table: {name for (name,) in self._rows("SELECT name FROM pragma_table_info(?)", table)}
            for table in self._tables
        }
        self._say_what_is_not_taken()

    def _rows(self, query: str, *values: Any) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            raise got("database", str(error), "rows of MLflow") from None

    def _of(self, table: str, query: str, *values: Any) -> list[Any]:
        """The rows of a table that older versions of MLflow do not have."""
        return self._rows(query, *values) if table in self._tables else []

    def _pairs(self, table: str, query: str, *values: Any) -> dict[str, str]:
        return {_text(key): _text(value) for key, value in self._of(table, query, *values)}

    def _here(self, table: str) -> str:
        """What limits a table to the workspace that is there without any."""
        return " AND workspace = 'default'" if "workspace" in self._columns[table] else ""

    def _say_what_is_not_taken(self) -> None:
        for table in ("experiments", "registered_models"):
            if self._here(table):
                [(count,)] = self._rows(f"SELECT count(*) FROM {table} WHERE workspace != 'default'")
                if count:
                    self._left.add(table, got("workspace", f"{count} in other workspaces", "default"))
        [(count,)] = self._of("trace_info", "SELECT count(*) FROM trace_info") or [(0,)]
        if count:
            self._left.add("traces", got("traces", count, "none: they are not taken"))

    def _each(self, what: str, rows: list[Any], made: Callable[[Any], Made]) -> Iterator[Made]:
        """Rows as records; one that is none is left, under its first column."""
        for row in rows:
            with self._left.over(f"{what} {row[0]}"):
                yield made(row)

    def experiments(self) -> Iterator[Experiment]:
        """All of them, by number."""
        rows = self._rows(
            "SELECT experiment_id, name, lifecycle_stage, creation_time FROM experiments "
            f"WHERE true{self._here('experiments')} ORDER BY experiment_id"
        )

        def made(row: Any) -> Experiment:
            id_, name, stage, created = row
            tags = self._pairs("experiment_tags", "SELECT key, value FROM experiment_tags WHERE experiment_id = ?", id_)
            return Experiment(str(_whole(id_)), _text(name), tags, stage == "deleted", _seconds(created))

        yield from self._each("experiment", rows, made)

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        """The runs of one experiment, oldest first."""
        rows = self._rows(
            "SELECT run_uuid, name, status, start_time, end_time, lifecycle_stage, artifact_uri FROM runs "
            "WHERE experiment_id = ? ORDER BY start_time, run_uuid",
            int(experiment.id),
        )

        def made(row: Any) -> Run:
            id_, name, status, started, ended, stage, uri = row
            return Run(
                _text(id_),
                _text(name),
                _text(status),
                _seconds(started),
                _seconds(ended),
                self._pairs("params", "SELECT key, value FROM params WHERE run_uuid = ?", id_),
                self._pairs("tags", "SELECT key, value FROM tags WHERE run_uuid = ?", id_),
                stage == "deleted",
                _text(uri),
                self._inputs(id_),
                tuple(_text(model) for (model,) in self._links("source_id", "MODEL", "RUN", "destination_id", id_)),
                tuple(
                    ModelOutput(model=_text(model), step=_whole(step))
                    for model, step in self._links(
                        "destination_id, step", "RUN_OUTPUT", "MODEL_OUTPUT", "source_id", id_
                    )
                ),
            )

        yield from self._each("run", rows, made)

    def _links(self, columns: str, source: str, destination: str, by: str, id_: str) -> list[Any]:
        if "step" in columns and "step" not in self._columns.get("inputs", ()):
            return []  # before 3.0 a run had no outputs
        query = f"SELECT {columns} FROM inputs WHERE source_type = ? AND destination_type = ? AND {by} = ?"
        return self._of("inputs", query, source, destination, id_)

    def _inputs(self, run: str) -> tuple[DatasetInput, ...]:
        rows = self._of(
            "inputs",
            "SELECT input_uuid, name, digest, dataset_source_type, dataset_source, dataset_schema, dataset_profile "
            "FROM inputs JOIN datasets ON dataset_uuid = source_id "
            "WHERE source_type = 'DATASET' AND destination_type = 'RUN' AND destination_id = ?",
            run,
        )
        names = ("name", "digest", "source_type", "source", "schema", "profile")
        return tuple(
            DatasetInput(
                **dict(zip(names, map(_text, words), strict=True)),
                tags=self._pairs("input_tags", "SELECT name, value FROM input_tags WHERE input_uuid = ?", id_),
            )
            for id_, *words in rows
        )

    def points(self, run: Run) -> Iterator[Point]:
        """Every point, by metric in the order of steps; one metric at a time, so that a writer never waits for long."""
        for (key,) in self._rows("SELECT DISTINCT key FROM metrics WHERE run_uuid = ? ORDER BY key", run.id):
            with self._left.over(f"metric of run {run.id} {key}"):
                checked_text("metric", _text(key), longest=LONGEST_KEY)
                yield from self._curve(run.id, key)

    def _curve(self, run: str, key: str) -> Iterator[Point]:
        wrong = []
        for step, at, value, is_nan in self._rows(
            "SELECT step, timestamp, value, is_nan FROM metrics WHERE run_uuid = ? AND key = ? "
            "ORDER BY step, timestamp",
            run,
            key,
        ):
            try:
                yield key, _whole(step), _whole(at) / 1000, math.nan if is_nan else _value(value)
            except Invalid as fault:
                wrong.append(fault)
        if wrong:
            self._left.add(f"metric of run {run} {key}: {len(wrong)} points", wrong[0])

    def files(self, holder: Run | LoggedModel) -> Iterator[tuple[str, Fetch]]:
        """The files of a run or a logged model, where the database says that they are, below the folder."""
        what = f"{'run' if isinstance(holder, Run) else 'logged model'} {holder.id}"
        if holder.uri:
            yield from self._artefacts.of(holder.uri, holder.id, what)

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        """The logged models of one experiment, oldest first."""
        rows = self._of(
            "logged_models",
            "SELECT model_id, name, status, creation_timestamp_ms, source_run_id, model_type, lifecycle_stage, "
            "artifact_location FROM logged_models WHERE experiment_id = ? ORDER BY creation_timestamp_ms, model_id",
            int(experiment.id),
        )

        def made(row: Any) -> LoggedModel:
            id_, name, status, created, run, kind, stage, uri = row
            return LoggedModel(
                _text(id_),
                _text(name),
                MODEL_STATUS.get(_whole(status), "PENDING"),
                _seconds(created),
                _text(run) or None,
                _text(kind),
                self._pairs(
                    "logged_model_params",
                    "SELECT param_key, param_value FROM logged_model_params WHERE model_id = ?",
                    id_,
                ),
                self._pairs(
                    "logged_model_tags", "SELECT tag_key, tag_value FROM logged_model_tags WHERE model_id = ?", id_
                ),
                stage == "deleted",
                _text(uri),
            )

        yield from self._each("logged model", rows, made)

    def models(self) -> Iterator[Model]:
        """Registered models by name."""
        rows = self._rows(
            "SELECT name, description, creation_time FROM registered_models "
            f"WHERE true{self._here('registered_models')} ORDER BY name"
        )

        def made(row: Any) -> Model:
            name, description, created = row
            tags = self._named("registered_model_tags", "key, value", name)
            if tags.get(PROMPT) == "true":
                raise got("model", "a prompt", "a model: prompts are not taken")
            aliases = {
                alias: int(number) if number.isdecimal() else 0
                for alias, number in self._named("registered_model_aliases", "alias, version", name).items()
            }
            return Model(_text(name), _text(description), tags, aliases, _seconds(created))

        yield from self._each("model", rows, made)

    def _named(self, table: str, columns: str, name: str) -> dict[str, str]:
        if table not in self._tables:
            return {}
        return self._pairs(table, f"SELECT {columns} FROM {table} WHERE name = ?{self._here(table)}", name)

    def versions(self, model: Model) -> Iterator[Version]:
        """Versions by number, without the deleted ones."""
        here = self._here("model_versions")
        rows = self._rows(
            "SELECT version, source, run_id, current_stage, description, creation_time, user_id FROM model_versions "
            f"WHERE name = ? AND current_stage != 'Deleted_Internal'{here} ORDER BY version",
            model.name,
        )

        def made(row: Any) -> Version:
            number, source, run, stage, description, created, user = row
            query = f"SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?{here}"
            return Version(
                _whole(number),
                _text(source),
                _text(run) or None,
                _text(stage) or "None",
                _text(description),
                self._pairs("model_version_tags", query, model.name, number),
                _seconds(created),
                _text(user),
            )

        yield from self._each(f"version of {model.name}", rows, made)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        raise got("database", "bytes", "a text")
    return "" if value is None else str(value)


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise got("database", value, "a number")
    return value


def _value(value: Any) -> float:
    if not isinstance(value, int | float):
        raise got("database", value, "a number")
    return math.copysign(math.inf, value) if abs(value) >= LARGEST else float(value)


def _seconds(milliseconds: Any) -> float | None:
    return None if milliseconds is None else _whole(milliseconds) / 1000
