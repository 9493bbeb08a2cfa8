"""The units of the service manager: what they say, that nothing is written unasked, and what the daemon tells it."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeck.cli.service import NAMES, escaped, system_units, user_units
from quarterdeckd import notify
from quarterstore.records.faults import Invalid
from quarterstore.records.places import Home

SYSTEM_HOME = Home(Path("/var/lib/quarterdeck"))
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed on this machine")


def written(folder: Path, units: dict[str, str]) -> list[str]:
    for name, text in units.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in units]


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(ANALYZE), *words], capture_output=True, text=True, timeout=60)


@needs_systemd
def test_the_system_units_pass_the_managers_own_check_without_a_word(tmp_path: Path) -> None:
    found = analyze("verify", *written(tmp_path, system_units(SYSTEM_HOME)))
    assert (found.returncode, found.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_a_system_unit_is_exposed_to_little(tmp_path: Path, name: str) -> None:
    written(tmp_path, system_units(SYSTEM_HOME))
    found = analyze("security", "--offline=true", "--threshold=20", str(tmp_path / name))
    assert found.returncode == 0, found.stdout[-400:] + found.stderr
    assert found.stderr == ""


@needs_systemd
def test_the_user_units_pass_the_managers_own_check_even_for_a_home_with_odd_letters(tmp_path: Path) -> None:
    units = user_units(Home(Path('/srv/my "100%" $HOME\\x')))
    (tmp_path / "r").mkdir()
    command = [str(ANALYZE), "--user", "verify", *written(tmp_path, units)]
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "r"), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    found = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_path_is_one_word_of_the_command_line() -> None:
    assert escaped("/srv/plain-1.0") == "/srv/plain-1.0"
    assert escaped("/srv/a b") == '"/srv/a b"'
    assert escaped("/srv/100%") == "/srv/100%%"
    assert escaped('/srv/"$x\\') == '"/srv/\\"$$x\\\\"'
    with pytest.raises(Invalid):
        escaped("/srv/a\nExecStartPre=/bin/evil")


@pytest.mark.parametrize("render", [user_units, system_units])
def test_every_placeholder_is_filled_and_the_commands_exist(render: object) -> None:
    for text in render(SYSTEM_HOME).values():  # type: ignore[operator]
        assert not re.search(r"@[A-Z]+@", text)
        command = re.search(r"^ExecStart=(.+)", text, re.MULTILINE)
        assert command is not None
        assert Path(shlex.split(command[1])[0]).exists()


def test_the_daemons_unit_says_how_it_is_watched_reloaded_and_stopped() -> None:
    for units in (user_units(SYSTEM_HOME), system_units(SYSTEM_HOME)):
        lines = units["quarterdeckd.service"].splitlines()
        for line in (
            "Type=notify",
            "WatchdogSec=30",
            "Restart=on-failure",
            "TimeoutStopSec=90",
            "KillMode=mixed",
            "OOMPolicy=continue",
            "RuntimeDirectoryPreserve=yes",
            "ExecReload=/bin/kill -HUP $MAINPID",
            "UMask=0077",
        ):
            assert line in lines
        assert not any(line.startswith("MemoryDenyWriteExecute") or "~@resources" in line for line in lines)


def qd(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environ = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(folder)}
    command = [sys.executable, "-m", "quarterdeck.cli.main", "--home", str(folder / "home"), "service", "install"]
    return subprocess.run([*command, *words], env=environ, input=stdin, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "stdin", "code"),
    [(("--user", "--print"), "y\n", 0), (("--user",), "", 1), (("--user",), "n\n", 1), (("--user",), "what\n", 1)],
)
def test_the_units_are_printed_and_nothing_is_written_without_a_yes(
    tmp_path: Path, words: tuple[str, ...], stdin: str, code: int
) -> None:
    found = qd(tmp_path, *words, stdin=stdin)
    assert found.returncode == code, found.stderr
    assert "Type=notify" in found.stdout
    assert "quarterdeckd.serving.launcher" in found.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("words", "stdin"), [(("--user", "--yes"), ""), (("--user",), "yes\n")])
def test_after_a_yes_exactly_what_was_printed_is_written(tmp_path: Path, words: tuple[str, ...], stdin: str) -> None:
    found = qd(tmp_path, *words, stdin=stdin)
    assert found.returncode == 0, found.stderr
    folder = tmp_path / ".config/systemd/user"
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    printed = "".join(f"# {folder / name}\n{(folder / name).read_text()}\n" for name in NAMES)
    assert found.stdout == printed
    assert "daemon-reload" in found.stderr


def test_a_system_unit_for_a_home_it_could_not_see_is_refused_in_one_line(tmp_path: Path) -> None:
    found = qd(tmp_path, "--system", "--yes")
    assert found.returncode == 2
    assert found.stderr.startswith("error: home: got ")
    assert found.stderr.count("\n") == 1
    assert found.stdout == ""


@pytest.fixture
def manager() -> Iterator[tuple[socket.socket, str]]:
    """A service manager's end of the notify socket."""
    folder = tempfile.mkdtemp(prefix="qn", dir="/tmp")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"{folder}/n")
        listening.settimeout(30)
        yield listening, f"{folder}/n"
    shutil.rmtree(folder)


def test_every_state_is_told_in_the_words_of_sd_notify(manager: tuple[socket.socket, str]) -> None:
    listening, path = manager
    environ = {"NOTIFY_SOCKET": path}
    for tell, begins in (
        (notify.ready, b"READY=1\nSTATUS="),
        (notify.watchdog, b"WATCHDOG=1"),
        (notify.reloading, b"RELOADING=1\nMONOTONIC_USEC="),
        (notify.stopping, b"STOPPING=1"),
    ):
        tell(environ)
        assert listening.recv(4096).startswith(begins)


def test_an_abstract_address_is_told_too() -> None:
    """systemd hands out addresses that begin with @ where it runs in a container."""
    name = f"qd-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        listening.settimeout(30)
        notify.stopping({"NOTIFY_SOCKET": "@" + name})
        assert listening.recv(4096) == b"STOPPING=1"


def test_without_a_manager_nothing_is_told_and_nothing_is_watched() -> None:
    notify.ready({})
    assert notify.watchdog_interval({}) is None
    assert notify.watchdog_interval({"WATCHDOG_USEC": "30000000"}) == 15.0


def test_a_real_daemon_says_ready_alive_reloading_and_stopping(absent, manager: tuple[socket.socket, str]) -> None:  # type: ignore[no-untyped-def]
    import signal

    listening, path = manager
    absent.start(NOTIFY_SOCKET=path, WATCHDOG_USEC="200000")
    heard = b""

    def until(word: bytes) -> None:
        nonlocal heard
        while word not in heard:
            heard += listening.recv(4096) + b"\n"
        heard = heard.partition(word)[2]

    until(b"READY=1")
    until(b"WATCHDOG=1")
    absent.send(signal.SIGHUP)
    until(b"RELOADING=1")
    until(b"READY=1")
    absent.send(signal.SIGTERM)
    until(b"STOPPING=1")
    assert absent.process.wait(20) == 0
    absent.process = None  # it served nothing, so no serving side has to be stopped
