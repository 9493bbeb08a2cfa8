"""The process of a person's training code: words without a shell, an environment without our keys, lines of metrics
that become points while it runs."""

from __future__ import annotations

import errno
import json
import os
import pwd
import re
import selectors
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from quarterdeckd.learning.calling import Environment, Points
from quarterdeckd.proc import JOB
from quarterstore.records.faults import Failed, Fault, Invalid, got
from quarterstore.records.names import LONGEST_KEY, checked_text, drawn

PASSED_ON: Final = (
    *("PATH", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    JOB,
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"),
)
"""What a child has of the daemon's environment, with HOME; nothing that leads to a key of ours."""
WITHIN: Final = 60.0
"""Seconds in which an interpreter has to say what it is."""
RUNNER: Final = Path(__file__).with_name("own_runner.py")
MOST_PACKAGES: Final = 5000
_package = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}==[A-Za-z0-9][A-Za-z0-9.!+_-]{0,60}\Z")
LONGEST_LINE: Final = 65_536
MOST_NAMES: Final = 1000
MOST_COMPLAINTS: Final = 5
WORDS: Final = {
    errno.ENOENT: "a program that is there",
    errno.EACCES: "a program that may be executed (chmod u+x)",
    errno.ENOEXEC: "a program: a script begins with #! and its interpreter",
}


class _About(msgspec.Struct):
    """What an interpreter says of itself."""

    python: str
    packages: list[str]


class _Failure(msgspec.Struct):
    """What the runner says of what went wrong."""

    kind: str
    words: str
    where: str = ""


def environ(interpreter: str | None, places: Mapping[str, str], own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the child finds in its environment: a few of ours, the programs of its own first, and our places as QD_…."""
    found = {name: own[name] for name in PASSED_ON if name in own}
    found["HOME"] = own.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
    if interpreter is not None:
        found["PATH"] = f"{Path(interpreter).parent}:{found.get('PATH', os.defpath)}"
        if (root := Path(interpreter).parent.parent).joinpath("pyvenv.cfg").is_file():
            found["VIRTUAL_ENV"] = str(root)
    named = {f"QD_{name.upper()}": place for name, place in places.items()}
    return found | ({"TMPDIR": places["temporary"]} if "temporary" in places else {}) | named


def about(interpreter: str) -> Environment:
    """Version and packages of an interpreter, asked of it; `Invalid` where it is none."""
    said = _asked([interpreter, str(RUNNER), "--about"])
    try:
        found = msgspec.json.decode(said, type=_About)
    except msgspec.DecodeError:
        shown = drawn(said.decode(errors="replace").strip(), longest=80) or "nothing"
        raise got("train.interpreter", f"{interpreter}, which says {shown}", "a Python, 3.7 or later") from None
    return Environment(drawn(found.python, longest=40), tuple(filter(_package.match, found.packages[:MOST_PACKAGES])))


def _asked(words: list[str]) -> bytes:
    try:
        done = subprocess.run(
            words,
            cwd="/",
            env=environ(words[0], {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WITHIN,
            check=False,
        )
    except OSError as error:
        raise _not_started("train.interpreter", words[0], error) from error
    except subprocess.TimeoutExpired as error:
        raise got("train.interpreter", f"{words[0]}, silent for {WITHIN:g} s", "a Python") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        shown = f"{words[0]}, which {ending(done.returncode)}" + (f" ({drawn(said[-1], longest=120)})" if said else "")
        raise got("train.interpreter", shown, "a Python, 3.7 or later")
    return done.stdout


def calling(interpreter: str, task: str, file: str, function: str) -> list[str]:
    """The words that call a function of a file, by the runner."""
    return [interpreter, "-u", str(RUNNER), task, file, function]


def run_well(field: str, words: list[str], folder: Path, environment: dict[str, str], points: Points) -> None:
    """Run to an end with 0. Raises `Failed` with what the runner says of it (in the file `QD_FAILURE`), or how it
    ended."""
    code = run(words, folder, environment, points)
    if code == 0:
        return
    told = Path(environment["QD_FAILURE"])
    if told.is_file() and not told.is_symlink():
        try:
            failure = msgspec.json.decode(told.read_bytes()[:65_536], type=_Failure)
        except msgspec.DecodeError:
            failure = None  # it wrote over it: how it ended is known all the same
        if failure is not None:
            where = f"{failure.where}: " if failure.where else ""
            raise Failed(drawn(f"{where}{failure.kind}: {failure.words}", longest=400), field=field)
    raise Failed(f"{ending(code)}, expected 0; its last lines are in the log", field=field)


def run(words: list[str], folder: Path, environment: dict[str, str], points: Points) -> int:
    """Run to the end; answers the return code (negative: the signal). It writes to this process' log, and is in its
    group, so that a limit or a cancel takes both."""
    lines = Lines(points)
    channel = Path(environment["QD_METRICS"])
    os.mkfifo(channel, 0o600)
    heard = os.open(channel, os.O_RDWR | os.O_NONBLOCK)  # for writing too: it does not end when a writer leaves
    try:
        try:
            process = subprocess.Popen(words, cwd=folder, env=environment, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise _not_started("train.command", words[0], error) from error
        _follow(process, heard, lines)
        return process.wait()
    finally:
        os.close(heard)


def _follow(process: subprocess.Popen[bytes], heard: int, lines: Lines) -> None:
    over = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(over, selectors.EVENT_READ)
            selector.register(heard, selectors.EVENT_READ)
            while over not in {key.fd for key, _ in selector.select()}:
                _take(heard, lines)
        while _take(heard, lines):
            pass
    finally:
        os.close(over)


def _take(heard: int, lines: Lines) -> bool:
    try:
        data = os.read(heard, LONGEST_LINE)
    except BlockingIOError:
        return False
    lines.take(data)
    return bool(data)


class Lines:
    """`{"step": 5, "loss": 0.3}`, one a line; without a step the lines count themselves from 1. What is none is said
    in the log, and nothing else comes of it."""

    def __init__(self, points: Points) -> None:
        self._points = points
        self._rest = b""
        self._calls = 0
        self._names: set[str] = set()
        self._complaints = 0

    def take(self, data: bytes) -> None:
        """Some bytes as they came."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            if line.strip():
                self._line(line)
        if len(self._rest) > LONGEST_LINE:
            self._complain(f"a line of more than {LONGEST_LINE:,} bytes")
            self._rest = b""

    def _line(self, line: bytes) -> None:
        self._calls += 1
        try:
            step, values = _read(line, self._calls)
        except (ValueError, RecursionError, Fault):
            self._complain(drawn(line.decode(errors="replace"), longest=80))
            return
        self._names |= set(values)
        if len(self._names) > MOST_NAMES:
            self._names -= set(values)
            self._complain(f"more than {MOST_NAMES:,} names")
            return
        self._points(step, values)

    def _complain(self, shown: str) -> None:
        self._complaints += 1
        if self._complaints <= MOST_COMPLAINTS:
            print(f'metrics: got {shown}, expected {{"step": 1, "loss": 0.3}}', flush=True)


def _read(line: bytes, calls: int) -> tuple[int, dict[str, float]]:
    found = json.loads(line)  # the standard one: it takes NaN, which curves have
    if not isinstance(found, dict):
        raise ValueError("no object")
    step = found.pop("step", calls)
    if type(step) is not int or abs(step) >= 2**53 or not found:
        raise ValueError("no step")
    for value in found.values():
        if type(value) not in (int, float):
            raise ValueError("no number")
    return step, {checked_text("metrics", name, longest=LONGEST_KEY): float(value) for name, value in found.items()}


def ending(code: int) -> str:
    """How a process ended, from its return code."""
    return f"ended with {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"


def _not_started(field: str, program: str, error: OSError) -> Invalid | Failed:
    shown = drawn(program, longest=200)
    if error.errno in WORDS:
        return got(field, shown, WORDS[error.errno])
    return Failed(f"{shown} could not be started ({error.strerror})", field=field)
