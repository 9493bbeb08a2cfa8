"""A pipeline definition in TOML: read, checked, its file and code sent, run."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from quarterdeck.cli.context import Context
from quarterdeck.cli.feature_rows import with_features
from quarterstore.records import plans, tables
from quarterstore.records.checks import CheckRows, Finding, RowRules, ValidateSection, checked_section
from quarterstore.records.datasets import AddDataset
from quarterstore.records.faults import Invalid, got
from quarterstore.records.misfits import misfit, refuse_unknown
from quarterstore.records.pipelines import CheckPipeline, Definition, PipelineRun, RunPipeline, TrainSection
from quarterstore.records.snapshots import packed
from quarterstore.records.training import called, check_train, outside

READ_WITHIN = 150.0
"""Seconds that the daemon's child may read rows, a little more than it is given."""


def read(path: Path) -> Definition:
    """A definition from a TOML file; a fault names what is wrong in it."""
    return _written(path, Definition, "a pipeline definition in TOML")


def checked_rows(context: Context, file: Path, rules: Path) -> list[Finding]:
    """What the rules of a TOML file find in the rows of a file."""
    asked = _written(rules, RowRules, "rules in TOML")
    checked_section(ValidateSection(asked.checks, asked.reference), rules.name)
    if not file.is_file():
        raise got("file", str(file), "a file of rows")
    if asked.reference is not None:
        asked = replace(asked, reference=context.client.put(_beside(rules, asked.reference, "reference"))[0])
    question = CheckRows(digest=context.client.put(file)[0], rules=asked, named=file.name)
    return context.client.ask(question, timeout=READ_WITHIN)


Kind = TypeVar("Kind")


def _written(path: Path, kind: type[Kind], what: str) -> Kind:
    """A record as a person wrote it in TOML; a fault names what is wrong in it."""
    if not path.is_file():
        raise got("file", str(path), what)
    try:
        fields = tomllib.loads(path.read_text())
        refuse_unknown(kind, fields)
        return msgspec.convert(fields, kind)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"got a file that is no TOML ({error})", field=path.name) from error
    except msgspec.ValidationError as error:
        raise misfit(kind, str(error)) from error


def _beside(path: Path, name: str, field: str) -> Path:
    """A file that is named in another one: beside it, or where the command is given."""
    for found in (path.parent / name, Path(name)):
        if found.is_file():
            return found.resolve()
    raise got(field, name, f"a file beside {path.name}")


def run_file(context: Context, path: Path, allow_leak: str | None = None) -> PipelineRun:
    """Send what the definition names and run it."""
    definition, code = with_features(context, read(path), path.parent), None
    if allow_leak is not None:
        definition = replace(definition, split=replace(definition.split, allow_leak=allow_leak))
    definition = replace(definition, train=placed(definition.train, path.parent))
    source = code_of(definition, path)
    if source is not None:
        code = context.client.put(source)[0]
    definition = replace(definition, validate=_sent_along(context, path, definition.validate))
    definition = with_rows(context, path, definition)
    return context.client.ask(RunPipeline(definition=definition, code=code))


def with_rows(context: Context, path: Path, definition: Definition) -> Definition:
    """The definition with its file of rows sent and kept, once its job would take them."""
    data, add = definition.data, None
    if data.file:
        file = _beside(path, data.file, "data.file")
        parquet = file.suffix.lower() in (".parquet", ".pq")
        if parquet:
            tables.check_parquet(file)
        else:
            table = tables.read(file, blank=data.missing, kinds=data.columns)
            plans.plan(table, data.target, task=definition.task, time=data.time, group=data.group, ignore=data.ignore)
        digest, size = context.client.put(file)
        add = AddDataset(digest=digest, name=file.name[:200], format="parquet" if parquet else "csv", size=size)
        definition = replace(definition, data=replace(data, dataset=digest, file=None))
    check_rows(context, definition)
    if add is not None:
        context.client.ask(add)
    return definition


def _sent_along(context: Context, path: Path, section: ValidateSection) -> ValidateSection:
    """The section with the hashes of the files that it names: rows to compare with, which become a dataset; code."""
    checked_section(section)
    if section.reference is not None:
        file = _beside(path, section.reference, "validate.reference")
        parquet = file.suffix.lower() in (".parquet", ".pq")
        digest, size = context.client.put(file)
        add = AddDataset(digest=digest, name=file.name[:200], format="parquet" if parquet else "csv", size=size)
        context.client.ask(add)
        section = replace(section, reference=digest)
    if section.pandera is not None:
        code = _beside(path, section.pandera.partition(":")[0], "validate.pandera")
        section = replace(section, code=context.client.put(code)[0])
    return section


def placed(train: TrainSection, folder: Path) -> TrainSection:
    """The section with its interpreter as an absolute path, links as they are: that of an environment is one, and says
    by its own place which environment it is."""
    if train.interpreter is not None:
        interpreter = Path(os.path.abspath(folder / Path(train.interpreter).expanduser()))
        if not os.access(interpreter, os.X_OK) or interpreter.is_dir():
            raise got("train.interpreter", str(interpreter), "a Python that is there and may be executed")
        train = replace(train, interpreter=str(interpreter))
    check_train(train)
    return train


def code_of(definition: Definition, path: Path) -> Path | bytes | None:
    """What is taken along of a person's own code: the one file, or the snapshot of a folder (for a command the folder
    of the definition unless said)."""
    train = definition.train
    if not train.code and not train.command:
        named = train.python or train.run
        if named is None:
            return None
        source = path.parent / named.partition(":")[0]
        if not source.is_file():
            raise got("train.python" if train.python else "train.run", named, "FILE.py:FUNCTION beside the definition")
        return source
    if train.python or not outside(train):
        raise got("train.code", train.code, "none without run or command")
    folder = path.parent / (train.code or ".")
    if not folder.is_dir():
        raise got("train.code", train.code, "a folder beside the definition")
    if train.run is not None and not (folder / called("train.run", train.run)[0]).is_file():
        raise got("train.run", train.run, f"FILE.py:FUNCTION inside {folder}")
    data = definition.data.file
    return packed(folder, (path, path.parent / data) if data else (path,))


def check_rows(context: Context, definition: Definition) -> dict[str, Any]:
    """What is found of the rows that a definition names, as figures of the step `validate`; raises what its job would
    end with, before anything of it is kept."""
    validated, _ = context.client.ask(CheckPipeline(definition=definition), timeout=READ_WITHIN)
    figures: dict[str, Any] = validated.figures
    return figures
