"""A function of the user's own: loaded from the copy that was taken when the run was asked for, and called once."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from quarterstore.records.faults import Failed, Invalid, got

Points = Callable[[int, dict[str, float]], None]
"""Says the values of metrics at a step, while learning goes on."""
MODULE = "quarterdeck_training_code"


class Environment(NamedTuple):
    """Where a person's code ran: the version of its Python, and its packages as `name==version`."""

    python: str
    packages: tuple[str, ...]


class Log:
    """`log(loss=0.3, step=5)`: points of live curves; without a step the calls count themselves from 1. What is
    written into the folder `checkpoint` is there again when the same training was cut off and is begun again."""

    def __init__(self, points: Points, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._points = points
        self._calls = 0

    def __call__(self, step: int | None = None, **metrics: float) -> None:
        self._calls += 1
        self._points(self._calls if step is None else int(step), {name: float(v) for name, v in metrics.items()})


def call(python: str, code: Path, *given: Any, field: str = "train.python") -> Any:
    """Call `FILE.py:FUNCTION` of the folder `code`, where files beside it can be imported; whatever it raises becomes
    a `Fault` of one line. `field` is where it was named."""
    file = code / python.partition(":")[0]
    function = function_of(python, file, field)
    try:
        return function(*given)
    except SystemExit as error:
        raise Failed(f"called sys.exit({error.code!r}), expected it to return", field=python) from error
    except Exception as error:
        raise Failed(where(error, file) + f"{type(error).__name__}: {error}", field=python) from error


def function_of(python: str, code: Path, field: str) -> Callable[..., Any]:
    """The function of `FILE.py:FUNCTION`, its file loaded; a fault names what is wrong with it."""
    _, _, name = python.partition(":")
    if not name.isidentifier():
        raise got(field, python, "FILE.py:FUNCTION, as train.py:train")
    module = loaded(python, code, field=field)
    found = getattr(module, name, None)
    if not callable(found):
        known = [one for one in vars(module) if callable(vars(module)[one]) and not one.startswith("_")]
        raise got(field, f"no function {name}", "one of " + (", ".join(known[:5]) or "at least one function"))
    return found  # type: ignore[no-any-return]


def loaded(python: str, code: Path, module_name: str = MODULE, field: str = "python") -> ModuleType:
    """The module of `FILE.py:NAME`, its file at `code`; whatever it raises becomes a `Fault` of one line."""
    sys.path.insert(0, str(code.parent))
    spec = importlib.util.spec_from_file_location(module_name, code)
    if spec is None or spec.loader is None:
        raise got(field, str(code), "a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        raise Failed(f"called sys.exit({error.code!r}) while it was loaded", field=python) from error
    except SyntaxError as error:
        raise Invalid(f"line {error.lineno}: {error.msg}", field=python) from error
    except Exception as error:
        raise Failed(where(error, code) + f"{type(error).__name__}: {error}", field=python) from error
    return module


def where(error: BaseException, code: Path) -> str:
    """`line 12: ` of the user's file, the innermost one the traceback names."""
    line, at = None, error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == str(code):
            line = at.tb_lineno
        at = at.tb_next
    return f"line {line}: " if line else ""
