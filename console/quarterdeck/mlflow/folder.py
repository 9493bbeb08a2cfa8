"""MLflow's store of files: a folder `mlruns` with a `meta.yaml` for each experiment, run, logged model and version."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quarterdeck.mlflow.left import Left
from quarterdeck.mlflow.places import Artefacts, below, folders, opened, text_of, texts
from quarterdeck.mlflow.plain_yaml import Meta, parsed
from quarterdeck.mlflow.shapes import PROMPT, Experiment, Fetch, LoggedModel, Model, Point, Run, Version
from quarterstore.records.faults import Invalid, got
from quarterstore.records.logged_models import ModelStatus
from quarterstore.records.names import LONGEST_KEY, checked_text
from quarterstore.records.runs import DatasetInput, ModelOutput

STATUS = ("", "RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
"""MLflow's numbers of its states (mlflow.entities.RunStatus)."""
MODEL_STATUS: dict[int, ModelStatus] = {0: "PENDING", 1: "PENDING", 2: "READY", 3: "FAILED"}
RESERVED = ("tags", "datasets", "traces", "models")
"""Folders of an experiment that are no runs."""
DELETED = "Deleted_Internal"
LONGEST_LINE = 10_000
LARGEST_WHOLE = 2**63


class Folder:
    """An `mlruns` folder; links in it are not followed. A server keeps artefacts in `mlartifacts` beside it: they are
    looked for below `place`, and nowhere else."""

    def __init__(self, root: Path, place: Path, left: Left) -> None:
        self._root = root
        self._left = left
        self._places: dict[str, Path] = {}
        self._artefacts = Artefacts(place, left)

    def experiments(self) -> Iterator[Experiment]:
        """All of them, those in the trash as removed."""
        for place, removed in ((self._root, False), (self._root / ".trash", True)):
            for folder in folders(place, self._left):
                if folder == self._root / "models" or (found := self._experiment(folder, removed)) is None:
                    continue
                self._places[f"experiment {found.id}"] = folder
                traces = folders(folder / "traces", self._left)
                if traces:
                    self._left.add(f"traces of {found.name}", got("traces", len(traces), "none: they are not taken"))
                yield found

    def _experiment(self, folder: Path, removed: bool) -> Experiment | None:
        what = f"experiment {folder.name}"
        with self._left.over(what):
            meta = self._meta(folder, "experiment_id")
            name = _text(meta, "name")
            created = _seconds(meta, "creation_time")
            return Experiment(folder.name, name, texts(folder / "tags", f"tag of {what}", self._left), removed, created)
        return None

    def _meta(self, folder: Path, id_: str) -> Meta:
        """The `meta.yaml` of a folder that bears the id that stands in it."""
        meta = parsed(text_of(folder / "meta.yaml"))
        if str(meta.get(id_)) != folder.name:
            raise got(f"meta.yaml: {id_}", meta.get(id_), f"{folder.name}, as its folder is called")
        return meta

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        """The runs of one experiment."""
        for folder in folders(self._places[f"experiment {experiment.id}"], self._left):
            if folder.name in RESERVED:
                continue
            with self._left.over(f"run {folder.name}"):
                run = self._run(folder)
                self._places[f"run {run.id}"] = folder
                yield run

    def _run(self, folder: Path) -> Run:
        meta, what = self._meta(folder, "run_id"), f"run {folder.name}"
        status = meta.get("status", 1)
        inputs = list(self._inputs(folder, what))
        return Run(
            folder.name,
            _text(meta, "run_name"),
            STATUS[status] if isinstance(status, int) and 0 < status < len(STATUS) else str(status),
            _seconds(meta, "start_time"),
            _seconds(meta, "end_time"),
            texts(folder / "params", f"param of {what}", self._left),
            texts(folder / "tags", f"tag of {what}", self._left),
            meta.get("lifecycle_stage") == "deleted",
            _text(meta, "artifact_uri"),
            tuple(each for each in inputs if isinstance(each, DatasetInput)),
            tuple(each for each in inputs if isinstance(each, str)),
            tuple(self._outputs(folder, what)),
        )

    def _inputs(self, folder: Path, what: str) -> Iterator[DatasetInput | str]:
        for place in folders(folder / "inputs", self._left):
            with self._left.over(f"input {place.name} of {what}"):
                meta = parsed(text_of(place / "meta.yaml"))
                source = _text(meta, "source_id")
                if meta.get("source_type") == "MODEL":
                    yield source
                else:
                    yield self._dataset(folder.parent / "datasets", source, _table(meta, "tags"))

    def _dataset(self, place: Path, id_: str, tags: dict[str, str]) -> DatasetInput:
        if "/" in id_ or id_ in ("", ".", ".."):
            raise got("source_id", id_, "the name of a folder of datasets")
        if (place / id_).is_symlink():
            raise got("source_id", f"{id_}, a link", "a folder")
        meta = parsed(text_of(place / id_ / "meta.yaml"))
        words = {name: _text(meta, name) for name in ("name", "digest", "source_type", "source", "schema", "profile")}
        return DatasetInput(**words, tags=tags)

    def _outputs(self, folder: Path, what: str) -> Iterator[ModelOutput]:
        for place in folders(folder / "outputs", self._left):
            with self._left.over(f"output {place.name} of {what}"):
                meta = parsed(text_of(place / "meta.yaml"))
                yield ModelOutput(model=_text(meta, "source_id"), step=_whole(meta.get("step") or 0))

    def points(self, run: Run) -> Iterator[Point]:
        """Every point; a line is `TIME VALUE STEP`, and the dataset, if any (before 1.0 without the step)."""
        what = f"metric of run {run.id}"
        for key, path in below(self._places[f"run {run.id}"] / "metrics", what, self._left):
            wrong: list[str] = []
            with self._left.over(f"{what} {key}"):
                checked_text("metric", key, longest=LONGEST_KEY)
                yield from _points(key, path, wrong)
            if wrong:
                expected = f"TIME VALUE STEP; {len(wrong)} lines were left"
                self._left.add(f"{what} {key}", got("line", wrong[0], expected))

    def files(self, holder: Run | LoggedModel) -> Iterator[tuple[str, Fetch]]:
        """The files of a run or a logged model: in its folder, or where its artifact_uri says, below the root."""
        what = f"{'run' if isinstance(holder, Run) else 'logged model'} {holder.id}"
        own = self._places[what] / "artifacts"
        if own.is_symlink() or (own.is_dir() and any(own.iterdir())):
            yield from self._artefacts.inside(own, what)
        elif holder.uri:
            yield from self._artefacts.of(holder.uri, holder.id, what)

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        """The logged models of one experiment."""
        for folder in folders(self._places[f"experiment {experiment.id}"] / "models", self._left):
            what = f"logged model {folder.name}"
            with self._left.over(what):
                meta = self._meta(folder, "model_id")
                self._places[what] = folder
                yield LoggedModel(
                    folder.name,
                    _text(meta, "name"),
                    MODEL_STATUS.get(_whole(meta.get("status") or 0), "PENDING"),
                    _seconds(meta, "creation_timestamp"),
                    _text(meta, "source_run_id") or None,
                    _text(meta, "model_type"),
                    texts(folder / "params", f"param of {what}", self._left),
                    texts(folder / "tags", f"tag of {what}", self._left),
                    meta.get("lifecycle_stage") == "deleted",
                    _text(meta, "artifact_location"),
                )

    def models(self) -> Iterator[Model]:
        """Registered models by name."""
        for folder in folders(self._root / "models", self._left):
            what = f"model {folder.name}"
            with self._left.over(what):
                meta = self._meta(folder, "name")
                tags = texts(folder / "tags", f"tag of {what}", self._left)
                if tags.get(PROMPT) == "true":
                    raise got("model", "a prompt", "a model: prompts are not taken")
                aliases = texts(folder / "aliases", f"alias of {what}", self._left)
                numbers = {alias: _number(text) for alias, text in aliases.items()}
                yield Model(
                    folder.name, _text(meta, "description"), tags, numbers, _seconds(meta, "creation_timestamp")
                )

    def versions(self, model: Model) -> Iterator[Version]:
        """Versions by number, without the deleted ones."""
        found = []
        for folder in folders(self._root / "models" / model.name, self._left):
            if not folder.name.startswith("version-"):
                continue
            what = f"version {model.name}@{folder.name[8:]}"
            with self._left.over(what):
                meta = parsed(text_of(folder / "meta.yaml"))
                number = _whole(meta.get("version"))
                if folder.name != f"version-{number}" or number < 1:
                    raise got("version", meta.get("version"), f"that of {folder.name}")
                if meta.get("current_stage") != DELETED:
                    found.append(
                        Version(
                            number,
                            _text(meta, "source"),
                            _text(meta, "run_id") or None,
                            _text(meta, "current_stage") or "None",
                            _text(meta, "description"),
                            texts(folder / "tags", f"tag of {what}", self._left),
                            _seconds(meta, "creation_timestamp"),
                            _text(meta, "user_id"),
                        )
                    )
        yield from sorted(found, key=lambda version: version.number)


def _points(key: str, path: Path, wrong: list[str]) -> Iterator[Point]:
    with os.fdopen(opened(path), "rb") as file:
        while line := file.readline(LONGEST_LINE):
            try:
                at, value, *more = line.decode("ascii").split()
                if len(more) not in (0, 1, 3) or not line.endswith(b"\n"):
                    raise ValueError
                yield key, _number(more[0]) if more else 0, _number(at) / 1000, float(value)
            except (ValueError, Invalid):
                wrong.append(line[:60].decode("ascii", errors="backslashreplace").rstrip())


def _number(text: str) -> int:
    if len(text) > 20 or not -LARGEST_WHOLE <= int(text) < LARGEST_WHOLE:
        raise got("number", text, "a number of 64 bits")
    return int(text)


def _text(meta: Meta, name: str) -> str:
    found = meta.get(name)
    if isinstance(found, dict):
        raise got(f"meta.yaml: {name}", "a table", "a text")
    return "" if found is None else str(found)


def _table(meta: Meta, name: str) -> dict[str, str]:
    found = meta.get(name) or {}
    if not isinstance(found, dict):
        raise got(f"meta.yaml: {name}", found, "names and values")
    return {key: "" if value is None else str(value) for key, value in found.items()}


def _whole(found: Any) -> int:
    if isinstance(found, str) and found.isdecimal() and len(found) < 19:
        return int(found)
    if isinstance(found, bool) or not isinstance(found, int):
        raise got("meta.yaml", found, "a number")
    return found


def _seconds(meta: Meta, name: str) -> float | None:
    found = meta.get(name)
    return None if found is None else _whole(found) / 1000
