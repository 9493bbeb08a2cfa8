"""A study in TOML: read, checked, its rows and code sent, started and followed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec.structs import replace

from quarterdeck.cli.context import Context
from quarterdeck.cli.definition import with_rows
from quarterdeck.cli.named_code import check_names, source
from quarterstore.records.faults import Invalid, got
from quarterstore.records.misfits import misfit, refuse_unknown
from quarterstore.records.names import drawn
from quarterstore.records.spaces import Goal
from quarterstore.records.studies import CheckStudy, StartStudy, Study, StudyDefinition, file_of, searched


def read(path: Path, **budget: Any) -> StudyDefinition:
    """A study from a TOML file, with what of its budget was given in place of its own; a fault names what is wrong."""
    if not path.is_file():
        raise got("file", str(path), "a study in TOML")
    try:
        fields = tomllib.loads(path.read_text())
        refuse_unknown(StudyDefinition, fields)
        _check_objectives(fields.get("objectives"))
        found = msgspec.convert(fields, StudyDefinition)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"got a file that is no TOML ({error})", field=path.name) from error
    except msgspec.ValidationError as error:
        raise misfit(StudyDefinition, str(error), fields) from error
    given = {name: value for name, value in budget.items() if value is not None}
    return replace(found, budget=replace(found.budget, **given))


def _check_objectives(objectives: Any) -> None:
    """Raise for the first objective that goes nowhere, by its name."""
    known = get_args(Goal)
    for name, goal in objectives.items() if isinstance(objectives, dict) else ():
        if goal not in known:
            place = drawn(f"objectives.{name}", longest=200)
            raise got(place, drawn(str(goal), longest=100), " or ".join(known))


def start(context: Context, path: Path, **budget: Any) -> Study:
    """Check the study, send what it names, start it."""
    definition = context.client.ask(CheckStudy(definition=read(path, **budget)))
    functions = {"objective": definition.objective, "train.python": definition.train.python}
    check_names(((field, each) for field, each in functions.items() if each), path.parent)
    named = file_of(definition)
    sources = {named: context.client.put(source(path.parent, named))[0]} if named else {}
    if definition.objective is None:
        rows = with_rows(context, path, searched(definition))
        definition = replace(definition, data=rows.data)
    return context.client.ask(StartStudy(definition=definition, sources=sources))
