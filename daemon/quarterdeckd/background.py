"""`quarterdeckd --background`: the daemon in a process of its own, the command back once it answers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from quarterstore.records.places import Home, listened

LOOK = 0.02
"""Seconds between two looks: there is nothing to wait on before its socket is there."""


def start_apart(home: Home, words: list[str]) -> int:
    """Start the daemon apart from this terminal, with its log in the home; answers 0 once its socket is listened at, or
    its exit code when it ends before, its error said."""
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    other = listened(home.ask_socket)  # then the new one ends by itself, and says who is there
    with home.log.open("ab") as log:
        began = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "quarterdeckd", "--home", str(home.root), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while process.poll() is None:
        if not other and listened(home.ask_socket):
            print(f"answering in process {process.pid}; its log is {home.log}; stop it: kill {process.pid}")
            return 0
        time.sleep(LOOK)
    print(_last_line(home.log, began), file=sys.stderr)
    return process.returncode


def _last_line(path: Path, after: int) -> str:
    with path.open("rb") as log:
        log.seek(after)
        lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "error: daemon: got no word from it, expected a reason"
