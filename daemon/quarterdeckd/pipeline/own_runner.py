"""What calls a person's function in an environment of its own: run there, it knows the standard library alone
(Python 3.7 and later) and none of our packages.

`own_runner.py --about` prints version and packages of the environment as JSON. `own_runner.py TASK.json FILE FUNCTION`
calls `FUNCTION(given, log)` and keeps what it returns: a model in the task's `output`, or, where the task names a file
`returns`, plain values there. What goes wrong is told in the task's `failure`.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

MODULE = "training_code"


class Given:
    """What the code is given: paths of the rows, what they mean, where to write. `given.params["rate"]`,
    `given.rows` (Parquet), `given.rows_csv`, `given.held_out`, `given.held_out_csv`, `given.target`, `given.task`,
    `given.classes`, `given.features`, `given.inputs`, `given.outputs`, `given.seed`, `given.checkpoint`,
    `given.output`."""

    rows_csv: str
    held_out_csv: str
    features: list[dict[str, str]]
    target: str
    task: str
    output: str
    metrics: str
    failure: str
    returns: str = ""

    def __init__(self, task: dict[str, Any]) -> None:
        self.__dict__.update(task)

    def columns(self, held_out: bool = False) -> dict[str, list[Any]]:
        """Column -> its values, in order: numbers as floats (NaN is missing), texts as texts; the target as it is."""
        numbers = {each["name"] for each in self.features if each["kind"] == "number"}
        if self.task == "regression":
            numbers.add(self.target)
        with open(self.held_out_csv if held_out else self.rows_csv, newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        found = {name: [row[place] for row in rows] for place, name in enumerate(head)}
        return {
            name: [float(cell) if cell else math.nan for cell in cells] if name in numbers else cells
            for name, cells in found.items()
        }


class Log:
    """`log(loss=0.3, step=5)`: points of live curves; without a step the calls count themselves from 1."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._calls = 0

    def __call__(self, step: int | None = None, **metrics: float) -> None:
        self._calls += 1
        line: dict[str, float] = {"step": self._calls if step is None else int(step)}
        line.update((name, float(value)) for name, value in metrics.items())
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def about() -> dict[str, Any]:
    """Version and packages, by the names of the folders that installers leave on the path."""
    names: set[str] = set()
    for place in sys.path:
        if os.path.isdir(place or "."):
            names.update(name[: -len(".dist-info")] for name in os.listdir(place or ".") if name.endswith(".dist-info"))
    packages = sorted("==".join(name.split("-", 1)) for name in names if "-" in name)
    return {"python": sys.version.split()[0], "packages": packages}


def line_of(error: BaseException, folder: str) -> str:
    """`train.py line 12` of the person's own files, the innermost one that the traceback names."""
    found = ""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.relpath(error.filename, folder)} line {error.lineno}"
    for frame in traceback.extract_tb(error.__traceback__):
        if os.path.abspath(frame.filename).startswith(folder + os.sep):
            found = f"{os.path.relpath(os.path.abspath(frame.filename), folder)} line {frame.lineno}"
    return found


def function(file: str, name: str) -> Callable[..., Any]:
    """The function of a file, whose folder is where its imports are looked for."""
    spec = importlib.util.spec_from_file_location(MODULE, os.path.abspath(file))
    if spec is None or spec.loader is None:
        raise LookupError(f"got {file}, expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        known = [each for each in vars(module) if callable(vars(module)[each]) and not each.startswith("_")]
        raise LookupError(f"got no function {name}, expected one of {', '.join(known[:5]) or 'at least one'}")
    return found  # type: ignore[no-any-return]


def keep(made: Any, given: Given) -> None:
    """What was returned, in the output folder: bytes of a model, the path of its file, or nothing more; as JSON where
    plain values are asked for."""
    if given.returns:
        with open(given.returns, "w", encoding="utf-8") as told:
            json.dump(made, told)
        return
    if isinstance(made, (str, os.PathLike)):
        with open(made, "rb") as file:
            made = file.read()
    if isinstance(made, (bytes, bytearray)):
        with open(os.path.join(given.output, "model"), "wb") as file:
            file.write(made)
    elif made is not None:
        kind = type(made)
        raise TypeError(
            f"got {kind.__module__}.{kind.__name__}, expected the bytes of a model, the path of its file, "
            "or None where it lies in given.output"
        )


def main(task_path: str, file: str, name: str) -> int:
    """0 when it was called and came back; 1 and `failure.json` when it did not."""
    with open(task_path, encoding="utf-8") as task:
        given = Given(json.load(task))
    folder = os.getcwd()
    sys.path[0] = os.path.dirname(os.path.abspath(file))
    try:
        keep(function(file, name)(given, Log(given.metrics)), given)
        return 0
    except BaseException as error:
        traceback.print_exc()
        said = f"called sys.exit({error.code!r})" if isinstance(error, SystemExit) else str(error)
        failure = {"where": line_of(error, folder), "kind": type(error).__name__, "words": said[:1000]}
        with open(given.failure, "w", encoding="utf-8") as told:
            json.dump(failure, told)
        return 1


if __name__ == "__main__":
    if sys.argv[1:] == ["--about"]:
        print(json.dumps(about()))
    else:
        code = main(*sys.argv[1:4])
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
