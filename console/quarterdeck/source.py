"""Where a run comes from, taken without asking and without waiting: command, folder, commit, patch, host, Python,
packages."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from quarterdeck.changes import Changes
from quarterstore.records.packages import digest_of
from quarterstore.records.runs import Source

PATIENCE = 0.5
"""Seconds git may take, each time."""
LONGEST = 65_536
"""Characters of a patch that are kept."""
LONGEST_COMMAND = 8000
CUT = "[cut: "
"""Stands before the number of characters of what was too long."""
FRESH = 1.0
"""Seconds for which what git said is taken as it was, unless a tracked file was written to since: a script that opens
a thousand runs asks it a few times. Where the kernel does not tell of files, a patch may be as old as this."""


class Said(NamedTuple):
    """What git said of a folder, when, and what tells whether it still holds."""

    at: float
    commit: str | None = None
    inside: str | None = None
    patch: str | None = None
    changes: Changes | None = None


_said: dict[str, Said] = {}
"""Of one folder: the one that runs were opened in last."""
_listed: dict[tuple[tuple[str, int], ...], tuple[tuple[str, ...], str]] = {}
"""Packages and their hash, by the folders of the path and when they were last written to; one entry."""
_lock = threading.Lock()


def found(seed: int | None = None, folder: Path | None = None) -> Source:
    """The source of this process; what cannot be told is None."""
    here = str(folder or _here())
    with _lock:
        said = _git_says(here)
    packages, digest = _installed()
    return Source(
        command=_cut(shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]), LONGEST_COMMAND),
        folder=here or None,
        inside=said.inside,
        interpreter=sys.executable or None,
        commit=said.commit,
        patch=said.patch,
        host=platform.node(),
        python=platform.python_version(),
        packages=digest if packages else None,
        seed=seed,
    )


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # the folder was removed under the process
        return ""


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + f"\n{CUT}{len(text)} characters]"


def _git_says(folder: str) -> Said:
    """Commit, patch, and the folder as it lies in its repository, as they are now."""
    said = _said.get(folder)
    changed = said is not None and said.changes is not None and said.changes.seen()
    if said is not None and not changed and time.monotonic() - said.at < FRESH:
        return said
    if said is None or changed:
        _forget()  # another folder, or other files are tracked now
    at = time.monotonic()
    where = _git(folder, "rev-parse", "HEAD", "--show-prefix", "--show-toplevel", "--absolute-git-dir")
    commit, inside, top, git = where.split("\n")[:4] if where else ("", "", "", "")
    known = _said.get(folder)
    changes = known.changes if known else _watch(top, git) if commit else None
    patch = _git(folder, "diff", "--no-ext-diff", "--no-color", "HEAD") if commit else None
    kept = _cut(patch, LONGEST) if patch else None
    _said[folder] = Said(at, commit or None, inside.strip("/") if commit else None, kept, changes)
    return _said[folder]


def _watch(top: str, git: str) -> Changes | None:
    tracked = _git(top, "ls-files", "-z")
    try:
        return Changes(top, tracked.split("\0"), git) if tracked is not None else None
    except OSError:
        return None


def _forget() -> None:
    for said in _said.values():
        if said.changes is not None:
            said.changes.close()
    _said.clear()


def _after_fork() -> None:
    """A forked child would take from the parent what the kernel tells."""
    global _lock
    _lock = threading.Lock()
    _forget()


os.register_at_fork(after_in_child=_after_fork)


def _git(folder: str, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=folder or None,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def installed() -> tuple[str, ...]:
    """The packages on the path as `name==version`, by the names of their `*.dist-info` folders: a listing, because
    reading them takes 100 ms."""
    return _installed()[0]


def _installed() -> tuple[tuple[str, ...], str]:
    places = tuple((place or ".", _written(place or ".")) for place in sys.path)
    listed = _listed.get(places)
    if listed is None:
        packages = tuple(_packages(place for place, _ in places))
        listed = packages, digest_of(packages)
        _listed.clear()
        _listed[places] = listed
    return listed


def _written(place: str) -> int:
    try:
        return os.stat(place).st_mtime_ns
    except OSError:
        return 0


def _packages(places: Iterable[str]) -> list[str]:
    names: set[str] = set()
    for place in places:
        try:
            names.update(name for name in os.listdir(place) if name.endswith(".dist-info"))
        except OSError:
            continue
    packages = (name.removesuffix(".dist-info").partition("-") for name in names)
    return sorted(f"{name}=={version}" for name, dash, version in packages if dash)
