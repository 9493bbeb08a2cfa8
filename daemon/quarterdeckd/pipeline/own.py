"""A step of the user's own: a function of the files that were taken as the run was asked for, or a program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from quarterdeckd.learning import calling
from quarterdeckd.pipeline import own_process
from quarterdeckd.pipeline.step import At, Told
from quarterstore.records.faults import Failed
from quarterstore.records.names import drawn
from quarterstore.records.training import called


class Given:
    """What the user's function is given. `inputs`: `STEP/FILE` -> path (read only). Write files under `out`;
    `checkpoint` is a folder that outlives a step that is cut off. `log(loss=0.3)` draws live curves,
    `progress(0.5, "half")` says how far it is."""

    def __init__(self, at: At) -> None:
        self.name = at.name
        self.params = at.params
        self.inputs = at.inputs
        self.out = at.out
        self.checkpoint = at.checkpoint
        self.data = at.data
        self.log = calling.Log(at.report.points, at.checkpoint)
        self._report = at.report

    def file(self, name: str) -> Path:
        """The file of this name that the nearest step before left."""
        found = [path for place, path in self.inputs.items() if place.partition("/")[2] == name]
        if not found:
            raise FileNotFoundError(f"no step before {self.name} left {name}")
        return found[-1]

    def progress(self, fraction: float | None = None, words: str = "") -> None:
        """Say how far the step is, from 0 to 1."""
        self._report.progress(self.name, fraction, words)


def run(at: At) -> Told:
    """Call `FUNCTION(step)` of the user's file; what it returns (None, text or a dict of plain values) is told. What it
    raises becomes one line with the line number in its file."""
    python = _step(at).run or ""
    interpreter = _step(at).interpreter
    if interpreter:
        said = _called(at, interpreter, python)
    else:
        said = calling.call(python, at.code, Given(at), field=f"{at.name}.run")
    if said is None:
        return Told("", {})
    if isinstance(said, dict):
        try:
            figures: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(said))
        except (TypeError, msgspec.MsgspecError) as error:
            raise Failed(f"returned {drawn(str(error), longest=200)}, expected plain values", field=python) from error
        return Told(drawn(", ".join(f"{name} {value}" for name, value in figures.items()), longest=300), figures)
    return Told(drawn(str(said), longest=300), {})


def _called(at: At, interpreter: str, python: str) -> Any:
    """What the function returns as plain values, called as `FUNCTION(given, log)` in an environment of its own; `given`
    has the fields of `step.json`."""
    own_process.about(interpreter)
    places = {name: str(Path(name).absolute()) for name in ("failure", "metrics", "returns", "temporary")}
    Path("temporary").mkdir()
    task = {**_given(at), **places, "output": str(at.out), "params": at.params}
    Path("step.json").write_bytes(msgspec.json.encode(task))
    file, function = called(f"{at.name}.run", python)
    words = own_process.calling(interpreter, os.path.abspath("step.json"), file, function)
    environment = own_process.environ(interpreter, places)
    own_process.run_well(python, words, at.code, environment, at.report.points)
    try:
        return msgspec.json.decode(Path("returns").read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise Failed("its returned values are gone", field=python) from error


def _given(at: At) -> dict[str, Any]:
    return {
        "name": at.name,
        "params": at.params,
        "inputs": {name: str(path) for name, path in at.inputs.items()},
        "out": str(at.out),
        "checkpoint": str(at.checkpoint),
        "code": str(at.code),
        "data": str(at.data) if at.data else None,
    }


def command(at: At) -> Told:
    """Run a program in the step's own folder, with the code beside it; no shell is between. It finds its inputs, params
    and folders as JSON in the file that `QUARTERDECK_STEP` names. An end other than 0 is a failure."""
    argv = list(_step(at).command)
    program = at.code / argv[0]
    if program.is_file():
        argv[0] = str(program)
    Path("step.json").write_bytes(msgspec.json.encode(_given(at)))
    interpreter = _step(at).interpreter
    base = own_process.environ(interpreter, {}) if interpreter else os.environ
    environment = {**base, "QUARTERDECK_STEP": os.path.abspath("step.json"), "QUARTERDECK_OUT": str(at.out)}
    sys.stdout.flush()
    try:
        ended = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise Failed(f"{drawn(argv[0], longest=100)}: {error.strerror}", field=at.name) from error
    if ended.returncode:
        how = f"ended with {ended.returncode}" if ended.returncode > 0 else f"was ended by signal {-ended.returncode}"
        raise Failed(f"{drawn(argv[0], longest=100)} {how}, expected 0", field=at.name)
    return Told(f"{drawn(Path(argv[0]).name, longest=60)} ended with 0", {})


def _step(at: At) -> Any:
    return next(step for step in at.definition.steps if step.name == at.name)
