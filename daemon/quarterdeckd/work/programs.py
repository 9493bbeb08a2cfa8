"""Programs that hooks run: looked at before each run, started without a shell in a group of their own, and ended with
everything they started."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from quarterstore.records.faults import Refused, got
from quarterstore.records.names import drawn

TAIL = 4096
"""Bytes of what a program says that are held; the rest is read and let go."""
SHOWN = 1000
"""Characters of it that are kept."""
CHUNK = 65536


class Ran(NamedTuple):
    """How a program ended: its exit status, or None where it was ended; and the end of what it said."""

    status: int | None
    output: str


def checked_program(text: str) -> str:
    """The path of a program as it is recorded: absolute, links followed; a regular file that can be executed, that the
    daemon's user or root owns, and that nobody else may write."""
    if not os.path.isabs(text):
        raise got("target", text, "exec: and an absolute path")
    try:
        path = Path(text).resolve(strict=True)
        found = path.stat()
    except (OSError, RuntimeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise got("target", text, f"a program that is there ({why})") from error
    if not stat.S_ISREG(found.st_mode):
        raise got("target", str(path), "a regular file")
    if not os.access(path, os.X_OK):
        raise got("target", str(path), "a file that may be executed: chmod u+x")
    owners = (os.getuid(), 0)
    if found.st_uid not in owners:
        raise Refused(f"{path} belongs to user {found.st_uid}, expected {os.getuid()} or root", field="target")
    if _open_to_others(found):
        raise Refused(f"others may write {path}", field="target", next="chmod go-w it")
    for folder in path.parents:
        about = folder.stat()
        if about.st_uid not in owners or (_open_to_others(about) and not about.st_mode & stat.S_ISVTX):
            raise Refused(
                f"others may put another file into {folder}", field="target", next="keep it in a folder of yours"
            )
    return str(path)


def _open_to_others(found: os.stat_result) -> bool:
    """Whether another user may write it; a group of the user's own (umask 002) is not another."""
    return bool(found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid not in (os.getgid(), 0)))


def run_program(
    words: Sequence[str],
    data: bytes,
    environ: Mapping[str, str],
    seconds: float,
    started: Callable[[int], None] = lambda group: None,
) -> Ran:
    """Run a program with `data` on its stdin, for at most `seconds`; whatever it started in its group ends with it.

    Raises `OSError` where it cannot be started. `started` is told the process group, so that it can be ended earlier.
    """
    with subprocess.Popen(
        list(words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environ),
        cwd="/",
        start_new_session=True,
    ) as process:
        started(process.pid)
        over = os.pidfd_open(process.pid)
        try:
            tail, ended = _talk(process, over, data, time.monotonic() + seconds)
        finally:
            # the leader is not waited for yet, so its group is still its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            os.close(over)
            assert process.stdin and process.stdout
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()
        status = process.wait()
    return Ran(status if ended else None, cleaned(tail))


def cleaned(output: bytes) -> str:
    """The end of an output as it may be drawn, line by line."""
    text = output[-TAIL:].decode("utf-8", errors="replace")[-SHOWN:]
    return "\n".join(drawn(line.expandtabs(4)) for line in text.splitlines()).strip()


def _talk(process: subprocess.Popen[bytes], over: int, data: bytes, deadline: float) -> tuple[bytes, bool]:
    """Feed and listen until the process ends or its time is over; answers the tail, and whether it ended by itself."""
    assert process.stdin and process.stdout
    into, out = process.stdin.fileno(), process.stdout.fileno()
    rest, tail = memoryview(data), b""
    with selectors.DefaultSelector() as selector:
        os.set_blocking(into, False)
        os.set_blocking(out, False)
        selector.register(into, selectors.EVENT_WRITE)
        selector.register(out, selectors.EVENT_READ)
        selector.register(over, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            ready = {key.fd for key, _ in selector.select(left)}
            if into in ready:
                rest = _fed(into, rest)
                if not rest:
                    selector.unregister(into)
                    process.stdin.close()
                    into = -1
            if out in ready:
                chunk = _heard(out)
                if chunk == b"":
                    selector.unregister(out)
                tail = (tail + (chunk or b""))[-TAIL:]
            if over in ready:
                while chunk := _heard(out):  # what is in the pipe; a child that holds it open is not waited for
                    tail = (tail + chunk)[-TAIL:]
                    if time.monotonic() > deadline:
                        break
                return tail, True
    return tail, False


def _fed(into: int, rest: memoryview) -> memoryview:
    """What is left to feed; nothing where the program does not read on."""
    try:
        return rest[os.write(into, rest[:CHUNK]) :]
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        return rest[:0]


def _heard(out: int) -> bytes | None:
    """What is there to read: empty at the end, None when nothing is there yet."""
    try:
        return os.read(out, CHUNK)
    except BlockingIOError:
        return None
