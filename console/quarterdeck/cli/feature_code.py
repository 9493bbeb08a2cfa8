"""Feature definitions in Python, run as the user's own code in a process apart; only their views come back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from quarterstore.records.faults import Failed, Refused, TimedOut, got
from quarterstore.records.features import DefineView
from quarterstore.records.names import drawn

WITHIN = 60.0
"""Seconds that a file of definitions may run."""


def views_of(file: Path, *, allowed: bool) -> list[DefineView]:
    """The views that a file of Python leaves. `Refused` unless its code may run; `Failed` with what it raised."""
    if not allowed:
        raise Refused(
            f"{file} is Python: to read it is to run it, with all you may do",
            field="file",
            next=f"qd features apply {file} --run-code",
        )
    command = [sys.executable, "-m", "quarterdeck.features", str(file.resolve())]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, cwd=file.resolve().parent)
    except subprocess.TimeoutExpired:
        raise TimedOut(f"it still runs after {WITHIN:g} s", field=file.name) from None
    if ran.returncode != 0:
        last = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        raise Failed(drawn(last, longest=300), field=file.name)
    try:
        found = msgspec.json.decode(ran.stdout, type=list[DefineView])
    except msgspec.MsgspecError:
        raise got(file.name, "a file that ends its process", "one that leaves views") from None
    if not found:
        raise got(file.name, "no FeatureView", "at least one, under a name of the file")
    return found
