"""Starting and stopping as a person does it: in the background, under a profile, with serving stopped and begun
again."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from quarterdeck.client import Client
from quarterstore.records.faults import Unreachable
from quarterstore.records.governance import ListAudit

if TYPE_CHECKING:
    from conftest import Daemon


def in_background(deck: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quarterdeckd", "--home", str(deck.home.root), "--background", *words]
    return subprocess.run(command, env=deck.environ, capture_output=True, text=True, timeout=60)


def test_a_daemon_in_the_background_answers_when_its_command_returns(absent: Daemon) -> None:
    """A script's next line finds it, with no waiting of its own; a second one says who is there."""
    done = in_background(absent, "--http", "127.0.0.1:0")
    assert done.returncode == 0, done.stderr
    pid = int(re.search(r"process (\d+)", done.stdout).group(1))  # type: ignore[union-attr]
    try:
        with absent.client() as client:
            assert client.status().pid == pid
        second = in_background(absent)
        assert second.returncode == 5
        assert (
            second.stderr == f"error: home: got {absent.home.root}, held by process {pid}; expected no other daemon\n"
        )
        assert "answering at" in absent.home.log.read_text()
    finally:
        os.kill(pid, signal.SIGTERM)
        _ended(pid)
    assert absent.home.log.read_text().rstrip().endswith("quarterdeckd: stopped")


def _ended(pid: int) -> None:
    """Wait for a process that is not our child."""
    descriptor = os.pidfd_open(pid)
    try:
        assert select.select([descriptor], [], [], 20)[0]
    finally:
        os.close(descriptor)


def test_one_that_cannot_start_in_the_background_says_why(absent: Daemon) -> None:
    absent.home.root.mkdir(mode=0o700)
    absent.home.settings.write_text('profil = "team"\n')
    done = in_background(absent)
    assert done.returncode in (2, 4)
    assert done.stderr.startswith("error: settings: got profil")


WRONG = [
    (("--log-level", "loud"), "error: log_level: got loud, expected debug or info or warning or error or critical"),
    (("--http", "127.0.0.1:\u00b2"), "error: http: got 127.0.0.1:\u00b2, expected HOST:PORT"),
    (("--lost-after", "nan"), "error: lost_after: got nan, expected 0.05 to 3600 seconds"),
    (("--lost-after", "-1"), "error: lost_after: got -1.0, expected 0.05 to 3600 seconds"),
    (
        ("--http", "127.0.0.1:80", "--grpc", "127.0.0.1:80"),
        "error: grpc: got 127.0.0.1:80, which http has too, expected an address of its own",
    ),
]


@pytest.mark.parametrize(("words", "complaint"), WRONG)
def test_a_wrong_setting_is_said_in_one_line_before_anything_is_made(
    absent: Daemon, words: tuple[str, ...], complaint: str
) -> None:
    command = [sys.executable, "-m", "quarterdeckd", "--home", str(absent.home.root), *words]
    done = subprocess.run(command, env=absent.environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, f"{complaint}\n")
    assert not absent.home.root.exists()


def test_a_caller_never_meets_half_of_the_first_start(absent: Daemon) -> None:
    """The server's key is there a moment before the owner's: that is no daemon yet, not an unknown name."""
    absent.home.keys.mkdir(mode=0o700, parents=True)
    absent.home.server_public.write_bytes(b"x" * 40)
    with Client(absent.home, spooled=False) as client, pytest.raises(Unreachable):
        client.status()


def test_four_eyes_are_not_lost_by_a_restart_that_names_no_profile(team: Daemon) -> None:
    """A killed daemon that somebody starts again by hand keeps to its profile; another one has to be named."""
    team.stop(signal.SIGKILL)
    team.start()
    with team.client() as owner:
        assert owner.status().profile == "team"
    team.stop()
    team.start("--profile", "solo")
    with team.client() as owner:
        assert owner.status().profile == "solo"
        words = [entry.words for entry in owner.ask(ListAudit(text="store.set_profile"))]
    assert words == [
        "the store is kept under profile solo from here on, before under team",
        "the store is kept under profile team from here on, before under none",
    ]
    team.stop()
    team.start()
    with team.client() as owner:
        assert owner.status().profile == "solo"


def test_a_door_that_cannot_be_opened_ends_the_start_in_one_line_each_time(absent: Daemon) -> None:
    """The threads that write and post end before the ledger is closed under them."""
    command = [sys.executable, "-m", "quarterdeckd", "--home", str(absent.home.root), "--remote", "0.0.0.0:0"]
    for _ in range(5):
        done = subprocess.run(command, env=absent.environ, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: remote: got 0.0.0.0 without a certificate")
        assert done.stderr.count("\n") == 1
