"""The command line said in this process: what it answers is asked of it hundreds of times, and a new process costs
0.12 s each time. Tests of the process itself (its start, signals, limits, the bytes of its output) start one."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from unittest.mock import patch

from quarterdeck.cli.context import Context, guarded
from quarterdeck.cli.main import command

LIMIT = 200
"""Seconds that a command may take."""


def said(words: Sequence[str], environ: Mapping[str, str], stdin: str = "") -> CompletedProcess[str]:
    """Say `qd WORDS` with this environment and stdin; its exit code and what it wrote. A fault that it lets through
    is raised here, where a process would print its traceback."""
    out, talk = _stream(), _stream(errors="backslashreplace")
    context = Context()
    with (
        patch.dict(os.environ, environ, clear=True),
        patch.object(sys, "argv", ["qd", *words]),
        patch.object(sys, "stdin", _stream(stdin)),
        redirect_stdout(out),
        redirect_stderr(talk),
        _limited(),
    ):
        try:
            code = guarded(lambda: command().main(list(words), prog_name="qd", standalone_mode=False, obj=context))
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        finally:
            if context._client is not None:
                context._client.close()
    return CompletedProcess(["qd", *words], code, _written(out), _written(talk))


def _stream(text: str = "", errors: str = "strict") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", errors=errors, write_through=True)


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


@contextmanager
def _limited() -> Iterator[None]:
    """What waits for ever is a failure, as it is of a process that is given a timeout."""
    before = signal.signal(signal.SIGALRM, _late)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _late(number: int, frame: object) -> None:
    raise AssertionError(f"the command did not end within {LIMIT} s")
