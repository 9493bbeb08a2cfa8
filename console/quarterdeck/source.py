"""Where a run comes from, taken without asking and without waiting: command, commit, patch, host, Python, packages."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from quarterstore.records.runs import Source

PATIENCE = 0.5
"""Seconds git may take, each time."""
LONGEST = 65_536
"""Characters of a patch that are kept."""


def found(seed: int | None = None, folder: Path | None = None) -> Source:
    """The source of this process; what cannot be told is None."""
    commit = _git(folder, "rev-parse", "HEAD")
    patch = _git(folder, "diff", "--no-ext-diff", "HEAD") if commit else None
    if patch and len(patch) > LONGEST:
        patch = patch[:LONGEST] + f"\n[cut: {len(patch)} characters]"
    return Source(
        command=shlex.join([Path(sys.executable).name, *sys.argv])[:2000],
        commit=commit,
        patch=patch or None,
        host=platform.node(),
        python=platform.python_version(),
        packages=_packages(),
        seed=seed,
    )


def _git(folder: Path | None, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=folder,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def _packages() -> str | None:
    """SHA-256 over the names of the `*.dist-info` folders on the path: a listing, because reading them takes 100 ms."""
    names: set[str] = set()
    for place in sys.path:
        try:
            names.update(name for name in os.listdir(place or ".") if name.endswith(".dist-info"))
        except OSError:
            continue
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest() if names else None
