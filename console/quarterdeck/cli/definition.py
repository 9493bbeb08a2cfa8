"""A pipeline definition in TOML: read, checked, its file and code sent, run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from quarterdeck.cli.context import Context
from quarterdeck.cli.feature_rows import with_features
from quarterstore.records import plans, tables
from quarterstore.records.datasets import AddDataset
from quarterstore.records.faults import Invalid, got
from quarterstore.records.misfits import misfit, refuse_unknown
from quarterstore.records.pipelines import CheckPipeline, Definition, PipelineRun, RunPipeline

READ_WITHIN = 150.0
"""Seconds that the daemon's child may read rows, a little more than it is given."""


def read(path: Path) -> Definition:
    """A definition from a TOML file; a fault names what is wrong in it."""
    if not path.is_file():
        raise got("file", str(path), "a pipeline definition in TOML")
    try:
        fields = tomllib.loads(path.read_text())
        refuse_unknown(Definition, fields)
        return msgspec.convert(fields, Definition)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"got a file that is no TOML ({error})", field=path.name) from error
    except msgspec.ValidationError as error:
        raise misfit(Definition, str(error)) from error


def run_file(context: Context, path: Path) -> PipelineRun:
    """Send what the definition names and run it."""
    definition = with_features(context, read(path), path.parent)
    data, code, add = definition.data, None, None
    if definition.train.python:
        source = path.parent / definition.train.python.partition(":")[0]
        if not source.is_file():
            raise got("train.python", definition.train.python, "FILE.py:FUNCTION beside the definition")
        code = context.client.put(source)[0]
    if data.file:
        file = (path.parent / data.file).resolve() if not Path(data.file).is_absolute() else Path(data.file)
        if not file.exists() and Path(data.file).exists():
            file = Path(data.file)
        if not file.is_file():
            raise got("data.file", data.file, "a file beside the definition")
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
    return context.client.ask(RunPipeline(definition=definition, code=code))


def check_rows(context: Context, definition: Definition) -> dict[str, Any]:
    """What is found of the rows that a definition names, as figures of the step `validate`; raises what its job would
    end with, before anything of it is kept."""
    validated, _ = context.client.ask(CheckPipeline(definition=definition), timeout=READ_WITHIN)
    figures: dict[str, Any] = validated.figures
    return figures
