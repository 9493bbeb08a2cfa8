"""What the runs of one deck share: they go on while another uploads, forks, ends, or the deck is closed."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from quarterdeck import sending, source
from quarterdeck.client import Client
from quarterdeck.live_run import LiveRun
from quarterstore.records.faults import Unreachable
from quarterstore.records.runs import MetricHistory, ShowRun
from quarterstore.records.search import RunTree

if TYPE_CHECKING:
    from conftest import Daemon


def values(client: Client, run: str, key: str) -> list[float]:
    """Every value of one metric."""
    curves = client.ask(MetricHistory(run=run, keys=(key,), points=1_000_000))
    return curves[0].values if curves else []


def senders() -> list[threading.Thread]:
    """The sending threads of this process."""
    return [thread for thread in threading.enumerate() if thread.name == "quarterdeck owner"]


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_two_runs_of_one_deck_in_two_threads_keep_their_own_points_over_one_connection(client: Client) -> None:
    ids: dict[int, str] = {}
    both = threading.Barrier(2)

    def train(number: int) -> None:
        with client.run("both", name=f"run {number}") as run:
            ids[number] = run.id
            both.wait(60)
            for step in range(2000):
                run.log(loss=float(number * 10_000 + step))
            assert len(senders()) == 1
            both.wait(60)

    threads = [threading.Thread(target=train, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Client(client.home) as other:
        for number, run in ids.items():
            assert other.ask(ShowRun(run=run)).state == "FINISHED"
            assert values(other, run, "loss") == [float(number * 10_000 + step) for step in range(2000)]


def test_a_run_whose_deck_is_closed_first_goes_on_to_its_end(daemon: Daemon, client: Client) -> None:
    deck = daemon.client()
    with deck.run("closed") as run:
        run.log(loss=1.0)
        deck.close()
        run.log(loss=2.0)
        run.set_tags(after="yes")
    found = client.ask(ShowRun(run=run.id))
    assert (found.state, found.tags["after"]) == ("FINISHED", "yes")
    assert values(client, run.id, "loss") == [1.0, 2.0]
    until(lambda: not senders())


def test_thread_and_connection_go_when_no_run_is_open_for_a_while_and_come_back(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "LINGER", 0.1)
    with daemon.client() as deck:
        for _ in range(2):
            with deck.run("again") as run:
                run.log(loss=1.0)
                assert len(senders()) == 1
            until(lambda: not senders())
            assert deck.ask(ShowRun(run=run.id)).state == "FINISHED"


def test_a_daemon_killed_between_two_runs_of_one_deck_costs_neither(
    absent: Daemon, capfd: pytest.CaptureFixture[str]
) -> None:
    absent.start()
    with Client(absent.home) as deck:
        with deck.run("between") as first:
            first.log(loss=1.0)
        absent.stop(signal.SIGKILL)
        with deck.run("between") as second:
            second.log(loss=2.0)
        with deck.run("between") as third:
            third.log(loss=3.0)
        assert capfd.readouterr().err.count("daemon not reachable, spooling") == 1
        absent.start()
        with deck.run("between") as fourth:
            fourth.log(loss=4.0)
    with Client(absent.home) as client:
        for number, run in enumerate((first, second, third, fourth), 1):
            assert client.ask(ShowRun(run=run.id)).state == "FINISHED"
            assert values(client, run.id, "loss") == [float(number)]


def test_many_runs_that_end_while_the_daemon_stands_still_wait_for_it_once(absent: Daemon) -> None:
    absent.start()
    with Client(absent.home, timeout=30.0) as deck:
        runs = [deck.run("frozen", name=f"run {number}") for number in range(8)]
        absent.send(signal.SIGSTOP)
        threads = [threading.Thread(target=run.end) for run in runs]
        for number, run in enumerate(runs):
            run.log(loss=float(number))
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        absent.send(signal.SIGCONT)
    assert took < 4 * sending.PATIENCE  # one after the other they take eight times as long
    with Client(absent.home, timeout=30.0) as client:
        for number, run in enumerate(runs):
            assert client.ask(ShowRun(run=run.id)).state == "FINISHED"
            assert values(client, run.id, "loss") == [float(number)]


def test_a_long_upload_of_one_run_does_not_hold_up_another(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    with path.open("wb") as file:
        file.truncate(128 * 1024 * 1024)
    with client.run("heavy") as heavy:
        digest = heavy.log_artefact(path)
        until(lambda: heavy.at_it)
        with client.run("light") as light:
            light.log(loss=1.0)
        assert client.ask(ShowRun(run=light.id)).state == "FINISHED"
        assert client.ask(ShowRun(run=heavy.id)).artefacts == ()
    (kept,) = client.ask(ShowRun(run=heavy.id)).artefacts
    assert kept.digest == digest


def in_child(work: Callable[[], None]) -> None:
    """Do something in a forked child, and expect it to succeed."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_forked_child_adds_to_the_runs_of_the_parent_and_opens_one_of_its_own(daemon: Daemon, client: Client) -> None:
    with daemon.client() as deck:
        with deck.run("fork") as one, deck.run("fork") as two:
            one.log(parent=1.0)

            def work() -> None:
                one.log(child=2.0)
                two.log_params(depth=3)  # without a point before it
                with deck.run("fork", name="in the child", parent=one) as own:
                    own.log(own=4.0)
                one._stop()
                two._stop()
                assert len(senders()) == 1

            in_child(work)
            two.log(parent=5.0)
        below = [each for each in client.ask(RunTree(runs=(one.id,), below=True)) if each.depth == 1]
    assert [(each.run.name, each.run.state, each.run.metrics) for each in below] == [
        ("in the child", "FINISHED", {"own": 4.0})
    ]
    assert (values(client, one.id, "parent"), values(client, one.id, "child")) == ([1.0], [2.0])
    assert client.ask(ShowRun(run=two.id)).params == {"depth": 3}
    assert values(client, two.id, "parent") == [5.0]


def test_an_open_run_is_heard_of_while_another_one_sends_a_file(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterdeck.live_run.BEAT", 0.1)
    with client.run("beat") as run:
        first = run.spoke
        until(lambda: run.spoke > first + 0.2)
        path = tmp_path / "weights.bin"
        with path.open("wb") as file:
            file.truncate(96 * 1024 * 1024)
        run.log_artefact(path)
        until(lambda: run.at_it)
        during = run.spoke
        until(lambda: run.spoke > during)
        assert client.ask(ShowRun(run=run.id)).artefacts == ()


def test_an_error_of_its_own_ends_one_run_and_leaves_the_others(
    client: Client, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(last: bool, away: bool) -> None:
        raise ValueError("something nobody thought of")

    with client.run("fine") as fine:
        with client.run("broken") as run:
            monkeypatch.setattr(run, "_round", broken)
            run.log(loss=1.0)
        fine.log(loss=2.0)
    assert f"{run.id}: nothing more is kept: something nobody thought of" in capfd.readouterr().err
    assert values(client, fine.id, "loss") == [2.0]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one committed file, in which this process stands."""
    monkeypatch.chdir(tmp_path)
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "one")):
        if words[0] == "add":
            (tmp_path / "sub").mkdir()
            (tmp_path / "sub" / "lr.toml").write_text("lr = 0\n")
        git(*words)
    return tmp_path


def git(*words: str) -> str:
    """What git says."""
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def patch_of(run: LiveRun, client: Client) -> str | None:
    """The patch that a run was opened with."""
    return client.ask(ShowRun(run=run.id)).source.patch


def test_each_of_many_quick_runs_has_the_patch_of_its_own_moment(client: Client, project: Path) -> None:
    for number in range(1, 8):
        (project / "sub" / "lr.toml").write_text(f"lr = {number}\n")
        with client.run("sweep") as run:
            pass
        assert str(patch_of(run, client)).endswith(f"+lr = {number}\n")
    git("commit", "-qam", "two")
    with client.run("sweep") as run:
        pass
    found = client.ask(ShowRun(run=run.id)).source
    assert (found.commit, found.patch) == (git("rev-parse", "HEAD"), None)


def test_what_git_does_not_track_does_not_have_git_asked_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "FRESH", 60.0)
    before = source.found()
    monkeypatch.setattr(source, "_git", lambda *words: pytest.fail(f"git was asked: {words}"))
    (project / "sub" / "weights.bin").write_bytes(b"x")
    (project / "new.txt").write_text("x")
    assert source.found().patch is before.patch is None


def test_without_a_kernel_that_tells_a_patch_is_a_second_old_at_most(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise OSError("no watches left")

    monkeypatch.setattr(source, "Changes", cannot)
    monkeypatch.setattr(source, "FRESH", 0.2)
    began = time.monotonic()
    assert source.found().patch is None
    (project / "sub" / "lr.toml").write_text("lr = 1\n")
    until(lambda: source.found().patch is not None)
    assert time.monotonic() - began < 5


def test_a_deck_of_a_daemon_that_never_ran_says_so_when_it_is_asked_and_opens_runs_all_the_same(
    absent: Daemon,
) -> None:
    with Client(absent.home) as deck:
        with deck.run("away") as run:
            run.log(loss=1.0)
        with pytest.raises(Unreachable):
            deck.ask(ShowRun(run=run.id))
    assert list((absent.home.root / "spool").glob(f"*{run.id}*.spool"))
