"""Runs as training code holds them, against a real daemon that comes, goes and stands still."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from quarterdeck.client import Client
from quarterstore.records.runs import MetricHistory, ShowRun

if TYPE_CHECKING:
    from conftest import Daemon


def values(client: Client, run: str, key: str) -> list[float]:
    """Every value of one metric."""
    curves = client.ask(MetricHistory(run=run, keys=(key,), points=1_000_000))
    return curves[0].values if curves else []


def test_a_run_keeps_every_point_in_order_and_ends_as_finished(client: Client) -> None:
    with client.run("order", params={"lr": 0.1}, tags={"team": "x"}) as run:
        for step in range(5000):
            run.log(loss=1.0 / (step + 1), step=step)
    found = client.ask(ShowRun(run=run.id))
    assert (found.state, found.params, found.tags) == ("FINISHED", {"lr": 0.1}, {"team": "x"})
    assert values(client, run.id, "loss") == [1.0 / (step + 1) for step in range(5000)]


def test_a_value_that_is_no_number_is_named_and_the_run_continues(
    client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    with client.run("bad") as run:
        run.log("acc", "abc")
        run.log("acc", float("nan"))
        run.log("acc", 1)
    assert "acc: got abc, expected a number" in capfd.readouterr().err
    found = values(client, run.id, "acc")
    assert len(found) == 2 and found[0] != found[0] and found[1] == 1.0


def test_an_exception_ends_a_run_as_failed_with_its_traceback(client: Client) -> None:
    with pytest.raises(ZeroDivisionError), client.run("crash") as run:
        run.log(loss=1 / 0)
    found = client.ask(ShowRun(run=run.id))
    assert found.state == "FAILED" and "ZeroDivisionError" in str(found.error)


def test_an_early_exit_is_never_called_finished(client: Client) -> None:
    with pytest.raises(SystemExit), client.run("exit") as run:
        raise SystemExit(0)
    assert client.ask(ShowRun(run=run.id)).state == "KILLED"


def test_an_artefact_is_kept_as_it_was_when_it_was_logged(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"before")
    with client.run("artefact") as run:
        digest = run.log_artifact(path)
        path.write_bytes(b"after")
    (artefact,) = client.ask(ShowRun(run=run.id)).artefacts
    assert (artefact.path, artefact.digest, artefact.size) == ("weights.bin", digest, 6)
    client.get(digest, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"before"


def test_sigterm_ends_a_run_as_killed(daemon: Daemon, client: Client) -> None:
    process = daemon.python(
        "import quarterdeck, time\nwith quarterdeck.connect().run('kill') as run:\n"
        "    run.log(loss=0.5)\n    print(run.id)\n    time.sleep(60)"
    )
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    found = client.ask(ShowRun(run=run))
    assert (found.state, found.metrics) == ("KILLED", {"loss": 0.5})


def test_a_forked_child_logs_to_the_same_run_and_nothing_twice(client: Client) -> None:
    with client.run("fork") as run:
        run.log(parent=1.0)
        child = os.fork()
        if child == 0:
            run.log(child=2.0)
            run._stop()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert values(client, run.id, "parent") == [1.0]
    assert values(client, run.id, "child") == [2.0]


SCRIPT = """
import quarterdeck
with quarterdeck.connect().run("away", params={"lr": 0.1}) as run:
    print(run.id)
    for step in range(2000):
        run.log(loss=float(step), step=step)
    run.log_artefact("note.txt")
"""


def test_without_a_daemon_a_script_succeeds_and_the_next_command_delivers_all_of_it(
    absent: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note.txt").write_text("kept")
    process = absent.python(SCRIPT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and err.count("daemon not reachable, spooling") == 1
    absent.start()
    shown = absent.qd("--json", "run", "show", out.strip())
    assert shown.returncode == 0 and '"state":"FINISHED"' in shown.stdout
    with Client(absent.home) as client:
        found = client.ask(ShowRun(run=out.strip()))
        assert (found.state, found.params, found.artefacts[0].path) == ("FINISHED", {"lr": 0.1}, "note.txt")
        assert values(client, out.strip(), "loss") == [float(step) for step in range(2000)]
    assert not list((absent.home.root / "spool").glob("*.spool"))


def test_a_daemon_that_is_killed_and_started_again_loses_no_point_and_counts_none_twice(absent: Daemon) -> None:
    absent.start()
    with Client(absent.home) as client:
        with client.run("restart") as run:
            run.log(loss=0.0)
            absent.stop(signal.SIGKILL)
            for step in range(1, 500):
                run.log(loss=float(step))
            deadline = time.monotonic() + 10
            while run._spool.empty and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not run._spool.empty
            absent.start()
            run.log(loss=500.0)
        assert client.ask(ShowRun(run=run.id)).state == "FINISHED"
        assert values(client, run.id, "loss") == [float(step) for step in range(501)]


def test_a_daemon_that_stands_still_does_not_slow_the_loop(absent: Daemon) -> None:
    """A stopped process holds its socket open: only the deadline tells it from a busy one."""
    absent.start()
    with Client(absent.home) as client, client.run("frozen") as run:
        absent.send(signal.SIGSTOP)
        began = time.monotonic()
        for step in range(10_000):
            run.log(loss=float(step))
        took = time.monotonic() - began
        absent.send(signal.SIGCONT)
    assert took < 1.0
    with Client(absent.home) as client:
        assert len(values(client, run.id, "loss")) == 10_000
