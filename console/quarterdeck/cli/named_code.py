"""The files that a definition names beside it, and whether each has the function it is named for; none of it is run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from quarterstore.records.faults import Invalid, got
from quarterstore.records.misfits import unknown_name

_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_BOUND_BY_RUNNING: Final = ("globals", "vars", "exec", "setattr", "__getattr__")
"""What can put a name into a module that stands nowhere in it."""


def source(folder: Path, name: str) -> Path:
    """A file of the user's own, beside the definition."""
    file = folder / name
    if not file.is_file():
        raise got("file", name, "a file of that name beside the definition, as FILE.py:FUNCTION says")
    return file


def check_names(named: Iterable[tuple[str, str]], folder: Path) -> None:
    """Refuse the first `FILE.py:NAME` (with the field that says it) whose file does not parse or has no such name.
    What only running it would show is left to the run: a name that the file makes at run time, or imports by `*`."""
    for field, text in named:
        file, _, name = text.partition(":")
        if not name.isidentifier():
            raise got(field, text, "FILE.py:FUNCTION, as train.py:train")
        tree = _parsed(source(folder, file), file)
        bound = _bound(tree)
        if name not in bound and not _may_bind_more(tree):
            made = [each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.ClassDef)]
            raise unknown_name(field, name, made or sorted(bound))


def _parsed(file: Path, name: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd in it, such as an escape, is said when it runs
            return ast.parse(file.read_bytes())
    except SyntaxError as error:
        place = f"line {error.lineno}: " if error.lineno else ""
        raise Invalid(f"got {place}{error.msg}, expected Python that parses", field=name) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Invalid(f"got {error or 'what is nested too deep'}, expected Python that parses", field=name) from error


def _bound(tree: ast.Module) -> set[str]:
    """Every name that the module's own statements bind, and what its functions declare `global`."""
    found = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {each.asname or each.name.partition(".")[0] for each in node.names}
        if not isinstance(node, _SCOPES):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def _may_bind_more(tree: ast.Module) -> bool:
    return any(
        (isinstance(node, ast.ImportFrom) and any(each.name == "*" for each in node.names))
        or (isinstance(node, ast.Name) and node.id in _BOUND_BY_RUNNING)
        or (isinstance(node, ast.FunctionDef) and node.name == "__getattr__")
        for node in ast.walk(tree)
    )
