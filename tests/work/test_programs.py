"""Programs of hooks as they really are: they hang, fork, flood, ignore what they are told, and are replaced."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from quarterdeckd.work.programs import SHOWN, checked_program, run_program
from quarterstore.records.faults import Fault, Invalid, Refused


def script(folder: Path, text: str, name: str = "x.sh", mode: int = 0o755) -> str:
    """A program of the shell."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return str(path)


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int) -> bool:
    """Whether a killed process goes away."""
    deadline = time.monotonic() + 30
    while lives(pid) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    return not lives(pid)


def test_a_program_is_fed_and_heard(tmp_path: Path) -> None:
    program = script(tmp_path, 'cat; echo " $1 $QUARTERDECK_X"; exit 3')
    ran = run_program([program, "a b;c"], b'{"a":1}', {"QUARTERDECK_X": "x", "PATH": "/usr/bin:/bin"}, 10)
    assert ran == (3, '{"a":1} a b;c x')


def test_arguments_are_words_and_never_a_shells(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    program = script(tmp_path, 'for each in "$@"; do echo "$each"; done')
    words = [f"$(touch {canary})", f"`touch {canary}`", f"; touch {canary}", f"| touch {canary}", "--", "-rf"]
    ran = run_program([program, *words], b"", {"PATH": "/usr/bin:/bin"}, 10)
    assert ran.output.splitlines() == words and not canary.exists()


def test_one_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    program = script(tmp_path, "sleep 300 & echo $!; trap '' TERM HUP; wait; sleep 300")
    began = time.monotonic()
    ran = run_program([program], b"", {"PATH": "/usr/bin:/bin"}, 1.0)
    assert ran.status is None and time.monotonic() - began < 60
    assert gone(int(ran.output))


def test_one_that_forks_and_leaves_is_over_and_so_is_what_it_left(tmp_path: Path) -> None:
    """The child holds the pipe open: who waits for its end waits for ever."""
    program = script(tmp_path, "sleep 300 & echo $!; exit 0")
    began = time.monotonic()
    ran = run_program([program], b"", {"PATH": "/usr/bin:/bin"}, 30)
    assert ran.status == 0 and time.monotonic() - began < 30
    assert gone(int(ran.output))


def test_one_that_escapes_its_group_does_not_hold_us(tmp_path: Path) -> None:
    program = script(tmp_path, "setsid sleep 100 & exit 0")
    began = time.monotonic()
    assert run_program([program], b"", {"PATH": "/usr/bin:/bin"}, 60).status == 0
    assert time.monotonic() - began < 60


def test_one_that_floods_is_heard_to_its_end_and_held_by_its_tail(tmp_path: Path) -> None:
    program = script(tmp_path, "head -c 50000000 /dev/zero | tr '\\0' x; echo; echo the end")
    ran = run_program([program], b"", {"PATH": "/usr/bin:/bin"}, 60)
    assert ran.status == 0 and ran.output.endswith("the end") and len(ran.output) <= SHOWN


def test_one_that_does_not_read_a_large_event_is_no_error(tmp_path: Path) -> None:
    program = script(tmp_path, "exec <&-; echo done")
    assert run_program([program], b"x" * 5_000_000, {"PATH": "/usr/bin:/bin"}, 20) == (0, "done")


def test_one_that_closes_its_output_and_goes_on_is_waited_for(tmp_path: Path) -> None:
    done = tmp_path / "done"
    program = script(tmp_path, f"exec >&- 2>&-; sleep 0.5; touch {done}")
    assert run_program([program], b"", {"PATH": "/usr/bin:/bin"}, 20).status == 0
    assert done.exists()


def test_escape_sequences_are_drawn_harmless(tmp_path: Path) -> None:
    program = script(tmp_path, "printf 'a\\033[31m\\033]0;t\\007b\\r\\n\\302\\233c\\342\\200\\256d\\377'")
    output = run_program([program], b"", {"PATH": "/usr/bin:/bin"}, 20).output
    assert output.replace("\n", "").isprintable() and {"a", "b", "c", "d"} <= set(output)
    assert not set("\x1b\x07\r\x9b\u202e") & set(output)


def test_one_that_is_killed_says_by_what(tmp_path: Path) -> None:
    assert run_program([script(tmp_path, "kill -9 $$")], b"", {"PATH": "/usr/bin:/bin"}, 20).status == -signal.SIGKILL


def test_nothing_of_the_daemon_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its environment, which may hold secrets, nor its open files."""
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    held = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(held, True)
    program = script(tmp_path, "env; ls -l /proc/self/fd")
    output = run_program([program], b"", {"PATH": "/usr/bin:/bin"}, 20).output
    os.close(held)
    assert "hunter2" not in output and f"{tmp_path}\n" not in output + "\n"


def test_a_program_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\x00\x01\x02 no program")
    path.chmod(0o755)
    with pytest.raises(OSError):
        run_program([str(path)], b"", {}, 10)


def test_a_good_program_is_recorded_by_its_own_path(tmp_path: Path) -> None:
    program = script(tmp_path, "true")
    link = tmp_path / "link"
    link.symlink_to(program)
    assert checked_program(str(link)) == os.path.realpath(program)


def test_a_program_that_others_could_change_is_refused(tmp_path: Path) -> None:
    for mode in (0o757, 0o777, 0o702):
        with pytest.raises(Refused):
            checked_program(script(tmp_path, "true", mode=mode))
    opened = tmp_path / "open"
    opened.mkdir()
    inside = script(opened, "true")
    assert checked_program(inside)
    opened.chmod(0o777)
    with pytest.raises(Refused, match="another file"):
        checked_program(inside)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_program_of_somebody_else_is_refused(tmp_path: Path) -> None:
    program = script(tmp_path, "true")
    os.chown(program, 12345, 12345)
    with pytest.raises(Refused, match="12345"):
        checked_program(program)


@pytest.mark.parametrize(
    "text", ["x.sh", "./x.sh", "", "/no/such/file", "/", "/dev/null", "/etc/passwd", "/bin/\0true"]
)
def test_what_is_no_program_is_refused(text: str) -> None:
    with pytest.raises((Invalid, Refused)) as refused:
        checked_program(text)
    assert isinstance(refused.value, Fault) and refused.value.field == "target"


def test_a_fifo_is_no_program_and_a_ring_of_links_neither(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o755)
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    for name in ("fifo", "ring"):
        with pytest.raises(Invalid):
            checked_program(str(tmp_path / name))
