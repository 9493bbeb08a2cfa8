"""Paths of artefacts as MLflow's clients write them: quoted, relative, listed a folder at a time."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

from quarterdeckd.doors.mlflow.errors import invalid
from quarterstore.records.runs import Artefact

MOST_QUOTED = 10
TEXTS = frozenset(
    [
        "txt",
        "log",
        "err",
        "cfg",
        "conf",
        "cnf",
        "cf",
        "ini",
        "properties",
        "prop",
        "hocon",
        "toml",
        "yaml",
        "yml",
        "xml",
        "json",
        "js",
        "py",
        "py3",
        "csv",
        "tsv",
        "md",
        "rst",
        "ipynb",
        "MLmodel",
        "mlproject",
    ]
)
"""Ends of names, and whole names, that MLflow shows as text (mlflow.utils.mime_type_utils, 3.17)."""
_token = re.compile(r"[\w!#$%&'*+.^`|~-]+\Z", re.ASCII)


def checked(path: str) -> str:
    """A path inside a run, percent signs taken out, without `.`; never one that leaves it.

    A sign whose bytes would be no text stays as it is: MLflow's own images are called `dog%step%100%timestamp%100`.
    """
    whole = plain = path
    for _ in range(MOST_QUOTED):  # a client may have quoted it more than once
        unquoted = unquote(whole)
        plain = unquoted if plain == whole and _is_text(unquoted) else plain
        if unquoted == whole:
            break
        whole = unquoted
    else:
        raise invalid("Invalid path")
    for each in (path, plain, whole):
        _check_inside(each)
    return "/".join(part for part in plain.split("/") if part != ".")


def _is_text(path: str) -> bool:
    return path.isprintable() and "\ufffd" not in path


def _check_inside(path: str) -> None:
    parts = path.split("/")
    odd = path.startswith("/") or "\\" in path or "\0" in path or "#" in path or ":" in parts[0]
    if path and (odd or {"", ".."} & set(parts)):
        raise invalid("Invalid path")  # MLflow's own words, which its clients look for


def kind(path: str) -> str:
    """The media type of a file by its name; texts are shown as texts, whatever they say."""
    name = path.rpartition("/")[2]
    if (name.rpartition(".")[2] if "." in name else name) in TEXTS:
        return "text/plain"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def attachment(path: str) -> str:
    """The header that gives a file its name and keeps a browser from opening it as a page of this address."""
    name = path.rpartition("/")[2]
    plain = "".join(char if char.isascii() and char.isprintable() and char not in '"\\' else "_" for char in name)
    shown = plain if _token.match(plain) else f'"{plain}"'
    return f"attachment; filename={shown}" + (f"; filename*=UTF-8''{quote(name, safe='')}" if plain != name else "")


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
