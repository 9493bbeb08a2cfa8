"""Paths of artefacts as MLflow's clients write them: quoted, relative, listed a folder at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from quarterdeckd.doors.mlflow.errors import invalid
from quarterstore.records.runs import Artefact


def checked(path: str) -> str:
    """A path inside a run, percent signs taken out; never one that leaves it."""
    for _ in range(3):  # a client may have quoted it more than once; what still changes then is nobody's file name
        plain = unquote(path)
        if plain == path:
            break
        path = plain
    parts = path.split("/")
    odd = path.startswith("/") or "\\" in path or "\0" in path or ":" in parts[0]
    if path and (odd or {"", ".", ".."} & set(parts)):
        raise invalid("Invalid path")  # MLflow's own words, which its clients look for
    return path


def below(artefacts: Sequence[Artefact], inside: str) -> list[dict[str, Any]]:
    """What lies directly below a path: files with sizes, folders."""
    inside = checked(inside.rstrip("/"))
    start = f"{inside}/" if inside else ""
    found: dict[str, dict[str, Any]] = {}
    for each in sorted(artefacts, key=lambda artefact: artefact.path):
        if each.path.startswith(start):
            name, folder, _ = each.path[len(start) :].partition("/")
            path = start + name
            found[path] = (
                {"path": path, "is_dir": True} if folder else {"path": path, "is_dir": False, "file_size": each.size}
            )
    return list(found.values())
