"""A pipeline definition in TOML: read, checked, its file and code sent, run."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from quarterdeck.cli.context import Context
from quarterdeck.cli.named_code import check_names, source
from quarterdeck.cli.steps import ENDED_BADLY
from quarterstore.records import flows, plans, tables
from quarterstore.records.checks import CheckRows, Finding, RowRules, ValidateSection, checked_section
from quarterstore.records.datasets import AddDataset, Dataset
from quarterstore.records.faults import Failed, Invalid, TimedOut, got
from quarterstore.records.misfits import misfit, refuse_unknown
from quarterstore.records.pipelines import (
    CheckPipeline,
    Definition,
    PipelineRun,
    ResumePipeline,
    RunPipeline,
    ShowPipelineRun,
)
from quarterstore.records.snapshots import files_in
from quarterstore.records.training import check_train

READ_WITHIN = 150.0
"""Seconds that the daemon's child may read rows, a little more than it is given."""
COMPILED_WITHIN = 60.0
"""Seconds in which a Python file makes its flow."""


def read(path: Path) -> Definition:
    """A definition from a TOML file, or from a Python file that makes one; a fault names what is wrong in it."""
    definition = _written(path, Definition, "a pipeline definition in TOML or Python")
    flows.check_features(definition)
    flows.check_gate(definition)
    return definition


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
    """A record as a person wrote it; a fault names what is wrong in it."""
    if not path.is_file():
        raise got("file", str(path), f"a file that is there: {what}")
    try:
        fields = compiled(path) if path.suffix == ".py" else tomllib.loads(path.read_text())
        refuse_unknown(kind, fields)
        return msgspec.convert(fields, kind)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"got a file that is no TOML ({error})", field=path.name) from error
    except msgspec.ValidationError as error:
        raise misfit(kind, str(error), fields) from error


def _beside(path: Path, name: str, field: str) -> Path:
    """A file that is named in another one: beside it, or where the command is given."""
    for found in (path.parent / name, Path(name)):
        if found.is_file():
            return found.resolve()
    raise got(field, name, f"a file beside {path.name}")


def compiled(path: Path) -> dict[str, Any]:
    """The definition that a Python file makes, as data: the file is run in a child, which may do as it likes."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "quarterdeck.flow", str(path)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=COMPILED_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"{path.name} made no flow within {COMPILED_WITHIN:g} s", field="file") from error
    said = done.stderr.decode(errors="replace").strip().splitlines()
    try:
        if done.returncode == 0:
            found: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1], type=dict[str, Any])
            return found
    except (IndexError, msgspec.DecodeError):
        said = said or ["it ended before its flow was made"]
    raise Failed(f"{path.name} made no flow: {said[-1] if said else f'it ended with {done.returncode}'}", field="file")


def ready(context: Context, path: Path, allow_leak: str | None = None) -> tuple[Definition, dict[str, str]]:
    """The definition of a file as it is to be asked with, and the user's own files; what it names has been sent, and
    its rows looked at."""
    definition = placed(read(path), path.parent)
    if allow_leak is not None:
        definition = replace(definition, split=replace(definition.split, allow_leak=allow_leak))
    check_names(flows.functions_of(definition), path.parent)
    sources = {
        name: context.client.put(source(path.parent, name))[0]
        for name in dict.fromkeys((*flows.files_of(definition), *code_of(definition, path)))
    }
    definition = replace(definition, validate=_with_reference(context, path, definition.validate))
    return with_rows(context, path, definition), sources


def with_rows(context: Context, path: Path, definition: Definition) -> Definition:
    """The definition with its file of rows sent and kept, once its job would take them."""
    data, add, rows = definition.data, None, 0
    if data.file:
        file = _beside(path, data.file, "data.file")
        parquet = file.suffix.lower() in (".parquet", ".pq")
        if parquet:
            tables.check_parquet(file)
        elif not data.features:  # what there is to learn from comes of the join, which the daemon looks at
            table = tables.read(file, blank=data.missing, kinds=data.columns)
            rows = table.rows
            plans.plan(table, data.target, task=definition.task, time=data.time, group=data.group, ignore=data.ignore)
        digest, size = context.client.put(file)
        kind = "parquet" if parquet else "csv"
        add = AddDataset(digest=digest, name=file.name[:200], format=kind, size=size, rows=rows)
        definition = replace(definition, data=replace(data, dataset=digest, file=None))
    if any(step.uses == "validate" for step in flows.flow(definition)):
        check_rows(context, definition)
    if add is not None:
        context.client.ask(add, timeout=READ_WITHIN)
    return definition


def placed(definition: Definition, folder: Path) -> Definition:
    """The definition with its interpreters as absolute paths."""
    train = definition.train
    if train.interpreter is not None:
        train = replace(train, interpreter=_interpreter("train.interpreter", train.interpreter, folder))
    steps = [
        replace(step, interpreter=_interpreter(f"{step.name}.interpreter", step.interpreter, folder))
        if step.interpreter
        else step
        for step in definition.steps
    ]
    check_train(train)
    return replace(definition, train=train, steps=tuple(steps))


def _interpreter(field: str, text: str, folder: Path) -> str:
    """Links stay as they are: that of an environment is one, and says by its own place which environment it is."""
    found = Path(os.path.abspath(folder / Path(text).expanduser()))
    if not os.access(found, os.X_OK) or found.is_dir():
        raise got(field, str(found), "a Python that is there and may be executed")
    return str(found)


def code_of(definition: Definition, path: Path) -> list[str]:
    """The files of the folder that `[train]` takes along, by their path beside the definition: the one it names, or for
    a command that of the definition."""
    train = definition.train
    if train.code is None and not train.command:
        return []
    folder = path.parent / (train.code or ".")
    if not folder.is_dir():
        raise got("train.code", train.code, "a folder beside the definition")
    data = definition.data.file
    names = files_in(folder, (path, path.parent / data) if data else (path,))
    return names if train.code in (None, ".") else [f"{train.code}/{name}" for name in names]


def _with_reference(context: Context, path: Path, section: ValidateSection) -> ValidateSection:
    """The section with the hash of the file of rows to compare with, which becomes a dataset."""
    checked_section(section)
    if section.reference is None:
        return section
    file = _beside(path, section.reference, "validate.reference")
    return replace(section, reference=added(context, file).id)


def added(context: Context, file: Path, name: str | None = None) -> Dataset:
    """Send a file of rows and keep it as a dataset of its name."""
    if not file.is_file():
        raise got("file", str(file), "a CSV or Parquet file that can be read")
    parquet = file.suffix.lower() in (".parquet", ".pq")
    if parquet:
        tables.check_parquet(file)
    digest, size = context.client.put(file)
    named = (name or file.name)[:200]
    asked = AddDataset(digest=digest, name=named, format="parquet" if parquet else "csv", size=size)
    return context.client.ask(asked, timeout=READ_WITHIN)


def run_file(context: Context, path: Path, preempt: float | None = None, allow_leak: str | None = None) -> PipelineRun:
    """Send what the definition names and run it."""
    definition, sources = ready(context, path, allow_leak)
    origin = str(path.resolve())[:1000]
    return context.client.ask(RunPipeline(definition=definition, sources=sources, origin=origin, preempt=preempt))


def resume(context: Context, given: str, path: Path | None, as_it_was: bool) -> PipelineRun:
    """Go on with a run, by its definition as it is now where that is still there, else as it was."""
    run = context.client.ask(ShowPipelineRun(pipeline_run=given))
    if run.state not in ENDED_BADLY:  # refused, before it is said to go on and before a file is sent
        return context.client.ask(ResumePipeline(pipeline_run=run.id))
    path = path or (Path(run.origin) if run.origin and Path(run.origin).is_file() and not as_it_was else None)
    if path is None or as_it_was:
        context.say("going on with definition and code as they were")
        return context.client.ask(ResumePipeline(pipeline_run=run.id))
    context.say(f"going on with definition and code as they are now in {path}")
    definition, sources = ready(context, path)
    return context.client.ask(ResumePipeline(pipeline_run=run.id, definition=definition, sources=sources))


def check_rows(context: Context, definition: Definition) -> dict[str, Any]:
    """What is found of the rows that a definition names, as figures of the step `validate`; raises what its job would
    end with, before anything of it is kept."""
    validated, *_ = context.client.ask(CheckPipeline(definition=definition), timeout=READ_WITHIN)
    figures: dict[str, Any] = validated.figures
    return figures
