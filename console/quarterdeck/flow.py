"""A pipeline written in Python: functions that are steps, compiled to the same data that a TOML definition is.

from quarterdeck.flow import Flow

flow = Flow("nightly", model="churn", data={"builtin": "iris", "target": "target"})

@flow.step(retries=2)
def load(step):
    (step.out / "rows.txt").write_text("1 2 3")

@flow.step(after=[load])
def count(step):
    return {"n": len(step.file("rows.txt").read_text().split())}
"""

from __future__ import annotations

import json
import runpy
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Flow:
    """A definition in the making: its sections by name, its steps in the order they are written."""

    def __init__(self, name: str, **sections: Any) -> None:
        self._definition = {"name": name, **sections}
        self._steps: list[dict[str, Any]] = []

    def step(self, name: str | None = None, *, after: Any = (), **about: Any) -> Callable[[F], F]:
        """Make a function a step: it is called as `function(step)` in a process of its own. `after` are functions or
        names; `retries`, `backoff`, `limits` and `params` are those of `[[steps]]`."""

        def take(function: F) -> F:
            file = Path(function.__code__.co_filename).name
            given = {"name": name or function.__name__, "run": f"{file}:{function.__name__}", **about}
            self._steps.append({**given, "after": _names(after)})
            return function

        return take

    def uses(self, kind: str, name: str | None = None, *, after: Any = (), **about: Any) -> str:
        """Add a step of ours (validate, split, train, ...); answers its name."""
        self._steps.append({"name": name or kind, "uses": kind, **about, "after": _names(after)})
        return name or kind

    def command(self, name: str, argv: Iterable[str], *, after: Any = (), **about: Any) -> str:
        """Add a program as a step, without a shell; answers its name."""
        self._steps.append({"name": name, "command": list(argv), **about, "after": _names(after)})
        return name

    def definition(self) -> dict[str, Any]:
        """The data that the daemon is given."""
        return {**self._definition, "steps": self._steps} if self._steps else dict(self._definition)


def _names(after: Any) -> list[str]:
    given: Iterable[Any] = [after] if isinstance(after, str) or callable(after) else after
    return [each if isinstance(each, str) else each.__name__ for each in given]


def main(argv: list[str]) -> int:
    """`python -m quarterdeck.flow FILE.py`: its one flow as JSON on the last line of stdout."""
    from quarterdeck.flow import Flow as Known  # not this module's own, which is called __main__

    sys.path.insert(0, str(Path(argv[1]).resolve().parent))
    try:
        names = runpy.run_path(argv[1])
    except (Exception, SystemExit) as error:  # whatever the file does is said in one line
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == argv[1]]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else 0
        print(f"line {line}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    found = {id(each): each for each in names.values() if isinstance(each, Known)}
    if len(found) != 1:
        print(f"got {len(found)} flows, expected one", file=sys.stderr)
        return 1
    print(json.dumps(next(iter(found.values())).definition()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
