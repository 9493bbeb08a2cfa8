"""Where a run comes from, taken without asking and without waiting: command, folder, commit, patch, host, Python,
packages."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path

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
"""Seconds for which what git said is taken as it was: a script that opens a thousand runs asks it a few times."""
_said: dict[tuple[str, ...], tuple[float, str | None]] = {}


def found(seed: int | None = None, folder: Path | None = None) -> Source:
    """The source of this process; what cannot be told is None."""
    here = str(folder or _here())
    commit, inside = _head(here)
    patch = _git(here, "diff", "--no-ext-diff", "--no-color", "HEAD") if commit else None
    packages = installed()
    return Source(
        command=_cut(shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]), LONGEST_COMMAND),
        folder=here or None,
        inside=inside,
        interpreter=sys.executable or None,
        commit=commit,
        patch=_cut(patch, LONGEST) if patch else None,
        host=platform.node(),
        python=platform.python_version(),
        packages=digest_of(packages) if packages else None,
        seed=seed,
    )


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # the folder was removed under the process
        return ""


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + f"\n{CUT}{len(text)} characters]"


def _head(folder: str) -> tuple[str | None, str | None]:
    """The commit, and the folder as it lies in its repository."""
    said = _git(folder, "rev-parse", "HEAD", "--show-prefix")
    if said is None:
        return None, None
    commit, _, inside = said.partition("\n")
    return commit, inside.strip("\n/")


def _git(folder: str, *words: str) -> str | None:
    key = (folder, *words)
    at, answer = _said.get(key, (0.0, None))
    if time.monotonic() - at < FRESH and key in _said:
        return answer
    answer = _asked(folder, words)
    _said[key] = (time.monotonic(), answer)
    return answer


def _asked(folder: str, words: tuple[str, ...]) -> str | None:
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
    names: set[str] = set()
    for place in sys.path:
        try:
            names.update(name for name in os.listdir(place or ".") if name.endswith(".dist-info"))
        except OSError:
            continue
    packages = (name.removesuffix(".dist-info").partition("-") for name in names)
    return tuple(sorted(f"{name}=={version}" for name, dash, version in packages if dash))
