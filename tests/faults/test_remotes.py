"""F26: a remote that dies, is silent, drips or hangs up is given up in time, and what is served here goes on."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from quarterdeck.client import Client
from quarterdeckd.work.patience import FAILURES
from quarterstore.records import deployments, remotes
from quarterstore.records.faults import Fault, Unreachable
from tests.conftest import Daemon
from tests.decks import Pair, Way, answered, produced, until

WITHIN = 2.0

pytestmark = pytest.mark.fault


@pytest.fixture
def between() -> Iterator[tuple[Pair, Way]]:
    """Two decks, and the way from one to the other."""
    pair = Pair()
    way = Way(pair.port)
    pair.meet(way.port, WITHIN)
    yield pair, way
    way.close()
    pair.end()


@pytest.mark.alone
@pytest.mark.parametrize("manner", ["silent", "reset", pytest.param("drip", marks=pytest.mark.slow)])
def test_a_remote_that_does_not_answer_is_unreachable_in_time_and_nothing_changes(
    between: tuple[Pair, Way], manner: str
) -> None:
    pair, way = between
    with pair.ours.client() as ours, pair.theirs.client() as theirs:
        first = produced(ours, "one")
        assert pair.ours.qd("deploy", first, "--to", "prod").returncode == 0
        ours.ask(deployments.Deploy(version=first))
        until(lambda: ours.ask(deployments.ShowServing()).hosts)
        until(lambda: ours.ask(deployments.ShowDeployment(endpoint="m")).live == first)
        second = produced(ours, "two")
        before = (ours.ask(remotes.ListChanges()), theirs.ask(deployments.ListDeployments()))
        local: list[object] = []
        over = threading.Event()

        def callers() -> None:
            while not over.wait(0.02):  # fifty a second notice a gap; as many as can be take a core
                try:
                    local.append(answered(pair.ours))
                except OSError as error:
                    local.append(error)

        calling = threading.Thread(target=callers)
        calling.start()
        way.be(manner)
        began = time.monotonic()
        with pytest.raises(Unreachable):
            ours.ask(remotes.SendVersion(version=second, remote="prod"), timeout=30)
        took = time.monotonic() - began
        status = until(lambda: (found := ours.ask(remotes.ListReached())[0]).failures >= FAILURES and found)
        asked = time.monotonic()
        refused = pair.ours.qd("deploy", second, "--to", "prod")
        over.set()
        calling.join(10)
        assert refused.returncode == 3 and "asked again in" in refused.stderr, refused.stderr
        assert took <= 5 * WITHIN and time.monotonic() - asked < 20, "it says nothing for ever"
        assert status.state == "UNREACHABLE" and status.failures == FAILURES
        assert [(each.state, each.live, each.requests) for each in status.endpoints] == [("UNREACHABLE", "m@1", None)]
        assert local and all(each == [1.0] for each in local)
        assert (ours.ask(remotes.ListChanges()), theirs.ask(deployments.ListDeployments())) == before


@pytest.mark.alone
def test_a_stall_in_the_middle_of_a_file_ends_in_time_and_the_next_attempt_goes_on_there(
    between: tuple[Pair, Way],
) -> None:
    pair, way = between
    size = 64 * 1024 * 1024
    with pair.ours.client() as ours, pair.theirs.client() as theirs:
        version = produced(ours, "large", size=size)
        way.stop_at(4 * 1024 * 1024)
        asked = ours.ask(remotes.SendVersion(version=version, remote="prod"), timeout=30)
        way.until_passed(4 * 1024 * 1024)
        began = time.monotonic()
        question = remotes.ShowChange(change=asked.id)
        over = until(lambda: (found := ours.ask(question)).state != "WAITING" and found)
        assert (over.state, over.fault) == ("FAILED", "Unreachable")
        assert time.monotonic() - began <= 2 * WITHIN + 1.0
        way.be("pass")
        passed = way.passed
        again = pair.ours.qd("deploy", version, "--to", "prod")
        assert again.returncode == 0, again.stderr
        assert way.passed - passed < size - 2 * 1024 * 1024, "what was there is not sent again"
        assert theirs.ask(deployments.ShowDeployment(endpoint="m")).live == "m@1"


def test_nothing_listens_there_and_it_is_said(between: tuple[Pair, Way]) -> None:
    pair, way = between
    way.close()
    with pair.ours.client() as ours:
        version = produced(ours, "one")
    for words in (
        ("deploy", version, "--to", "prod"),
        ("remote", "status", "prod"),
        ("remote", "rollback", "prod", "m"),
    ):
        done = pair.ours.qd(*words)
        assert done.returncode == 3 and "does not answer" in done.stderr, done.stderr
    assert "UNREACHABLE" in pair.ours.qd("remote", "status", "prod").stdout
    assert "remotes" in pair.ours.qd("doctor").stdout


def test_a_daemon_that_is_told_to_end_does_not_wait_for_a_silent_remote(absent: Daemon) -> None:
    """The thread of the question waits for the loop, and the end of the daemon for the thread: it once never came."""
    absent.start()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = ("remote", "add", "prod", f"http://127.0.0.1:{silent.getsockname()[1]}", "--allow-private")
        added = absent.qd(*words, "--within", "300", stdin="a-token-of-nobody-at-all")
        assert added.returncode == 0, added.stderr
        with absent.client() as client:
            asking = threading.Thread(target=lambda: suppressed(client))
            asking.start()
            connection, _ = silent.accept()
            absent.stop()  # within twenty seconds; the remote has three hundred
            connection.close()
            asking.join(30)


def suppressed(client: Client) -> None:
    """Ask how the remote is; nobody answers."""
    with contextlib.suppress(Fault):
        client.ask(remotes.ShowRemote(remote="prod"), timeout=5)
