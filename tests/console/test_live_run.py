"""Runs as training code holds them, against a real daemon that comes, goes and stands still."""

from __future__ import annotations

import os
import platform
import shlex
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from quarterdeck import sending
from quarterdeck.client import Client
from quarterdeck.live_run import LiveRun
from quarterstore.records.faults import Invalid, NotFound
from quarterstore.records.governance import ListAudit
from quarterstore.records.packages import ShowPackages
from quarterstore.records.runs import MetricHistory, ShowRun
from quarterstore.records.search import RunTree

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


BAD = [
    (lambda run: run.log(acc=1.0, step="x"), "step: got x, expected an integer"),
    (lambda run: run.log(acc=1.0, step=2**63), f"step: got {2**63}, expected an integer of 64 bits"),
    (lambda run: run.log(acc=10**400), "acc: got 1000"),
    (lambda run: run.log(acc=[1, 2]), "acc: got [1, 2], expected a number"),
    (lambda run: run.log("", 7.0), "expected a name that is not blank (its value is 7.0)"),
    (lambda run: run.log("a\x1b[31m", 7.0), "got 'a\\x1b[31m', expected no control"),
    (lambda run: run.log(5, 7.0), "metric: got 5, expected a name (its value is 7.0)"),
    (lambda run: run.log_params(layers=[1, 2]), "params.layers: got [1, 2], expected a text, a number"),
    (lambda run: run.log_params(big=2**63), "expected an integer of 64 bits"),
    (lambda run: run.set_tags(team=5), "tags.team: got 5, expected a text"),
    (lambda run: run.log_image("x", b"GIF89a"), "image: got bytes that begin with b'GIF8'"),
    (lambda run: run.log_image("../x", b"\x89PNG\r\n\x1a\n"), "image: got ../x, expected a name without /"),
]


@pytest.mark.parametrize(("bad", "said"), BAD, ids=[said[:30] for _, said in BAD])
def test_what_cannot_be_kept_is_named_and_costs_nothing_else(
    client: Client, capfd: pytest.CaptureFixture[str], bad: Callable[[LiveRun], None], said: str
) -> None:
    """A step that was a text once ended the sending thread: every point after it was lost without a word."""
    with client.run("bad") as run:
        run.log(before=1.0)
        bad(run)
        run.log(after=2.0)
        run.log_params(depth=3)
    assert said in capfd.readouterr().err
    found = client.ask(ShowRun(run=run.id))
    assert (found.state, found.metrics, found.params) == ("FINISHED", {"before": 1.0, "after": 2.0}, {"depth": 3})


def test_a_parameter_that_cannot_be_kept_does_not_open_a_run(client: Client) -> None:
    with pytest.raises(Invalid, match=r"params.layers: got \[1\]"):
        client.run("bad", params={"layers": [1]})


def test_runs_are_nested_by_block_or_by_name_and_drawn_as_a_tree(daemon: Daemon, client: Client) -> None:
    with client.run("nest", name="top") as top:
        with (
            client.run("nest", nested=True, name="first") as first,
            client.run("nest", nested=True, name="inner") as inner,
        ):
            inner.log(acc=1.0)
        with client.run("nest", parent=top, name="second") as second:
            second.log(acc=2.0)
    with pytest.raises(Invalid, match="nested: got no run that this thread is in"):
        client.run("nest", nested=True)
    with pytest.raises(NotFound, match="parent: got run-none"):
        client.run("nest", parent="run-none")
    shape = [(each.depth, each.run.id) for each in client.ask(RunTree(runs=(top.id,), below=True))]
    assert shape == [(0, top.id), (1, first.id), (2, inner.id), (1, second.id)]
    listed = daemon.qd("runs", "--where", f"parent = '{first.id}'", "--tree").stdout.splitlines()
    assert [line.split("run-")[0] for line in listed[1:]] == ["", "└ ", "  └ "] and "(leads here)" in listed[1]
    shown = daemon.qd("run", "show", top.id).stdout
    assert all(each.id in shown for each in (top, first, inner, second))


def pixels(data: bytes) -> list[bytes]:
    """The lines of a PNG without filters, read as the standard says: every part's checksum, every line's length."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    parts, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(kind + body),)
        parts[kind], at = body, at + 12 + length
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert (list(parts), depth, rest) == ([b"IHDR", b"IDAT", b"IEND"], 8, [0, 0, 0])
    line = 1 + width * {0: 1, 2: 3, 6: 4}[colour]
    lines = zlib.decompress(parts[b"IDAT"])
    assert len(lines) == height * line and set(lines[::line]) == {0}
    return [lines[start + 1 : start + line] for start in range(0, len(lines), line)]


def test_images_are_kept_with_their_steps_and_read_back_by_another_reader(
    daemon: Daemon, client: Client, tmp_path: Path
) -> None:
    import numpy as np

    colours = np.random.default_rng(7).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    greys = np.array([[0.0, 0.5, 1.0]])
    with client.run("images") as run:
        run.log_image("samples", colours)
        run.log_image("samples", colours[:, ::-1])
        run.log_image("samples", greys, step=40)
        run.log_image("samples", np.array([[True, False]]))
        (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 as it is")
        run.log_image("photo", tmp_path / "a.jpg")
    kept = {each.path: each for each in client.ask(ShowRun(run=run.id)).artefacts}
    assert [each.step for each in kept.values()] == [0, 1, 40, 41, 0]

    def read(step: int) -> list[bytes]:
        client.get(kept[f"images/samples/{step:08d}.png"].digest, tmp_path / "back.png")
        return pixels((tmp_path / "back.png").read_bytes())

    assert read(0) == [row.tobytes() for row in colours]
    assert read(1) == [row.tobytes() for row in colours[:, ::-1]]
    assert (read(40), read(41)) == ([bytes([0, 128, 255])], [bytes([255, 0])])
    assert kept["images/photo/00000000.jpg"].size == 13
    assert "samples at step 0, 1, 40, 41" in daemon.qd("run", "show", run.id).stdout


@pytest.mark.alone
def test_where_a_run_came_from_is_taken_without_asking(
    client: Client, daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "train.py").write_text("x = 1\n")
    git("add", ".")
    git("commit", "-qm", "one")
    (tmp_path / "sub" / "train.py").write_text("x = 2\n")
    monkeypatch.chdir(tmp_path / "sub")
    took = []
    for _ in range(3):
        began = time.monotonic()
        with client.run("source", seed=7) as run:
            took.append(time.monotonic() - began)
    source = client.ask(ShowRun(run=run.id)).source
    assert (source.commit, source.inside, source.folder) == (git("rev-parse", "HEAD"), "sub", str(tmp_path / "sub"))
    assert source.patch is not None and source.patch.endswith("-x = 1\n+x = 2\n")
    assert (source.seed, source.host, source.interpreter) == (7, platform.node(), sys.executable)
    assert source.command == shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]])
    names = {each.partition("==")[0] for each in client.ask(ShowPackages(packages=run.id)).packages}
    assert {"msgspec", "pyzmq", "pytest"} <= names
    assert min(took) < 1.0


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


OPEN = "import quarterdeck, os, sys, time\nrun = quarterdeck.connect().run('open')\nrun.log(loss=0.5)\n" + (
    "print(run.id, flush=True)\n"
)
ENDINGS = [
    ("1 / 0", None, 1, "FAILED", "ZeroDivisionError"),
    ("time.sleep(60)", signal.SIGTERM, 143, "KILLED", "SIGTERM"),
    ("time.sleep(60)", signal.SIGINT, 130, "KILLED", "KeyboardInterrupt"),
    ("run.__enter__()\nwith run: sys.exit(1)", None, 1, "KILLED", "SystemExit 1"),
    ("with run: exit()", None, 0, "KILLED", "SystemExit"),
    ("run.end()", None, 0, "FINISHED", "None"),
]


@pytest.mark.parametrize(("code", "number", "exit_code", "state", "error"), ENDINGS)
def test_a_run_ends_as_its_process_did_with_and_without_a_block(
    daemon: Daemon, client: Client, code: str, number: int | None, exit_code: int, state: str, error: str
) -> None:
    process = daemon.python(OPEN + code)
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    if number is not None:
        process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode in (exit_code, -signal.SIGINT if number == signal.SIGINT else exit_code)
    found = client.ask(ShowRun(run=run))
    assert (found.state, found.metrics) == (state, {"loss": 0.5})
    assert error in str(found.error)


SILENT = [("time.sleep(60)", signal.SIGKILL), ("os._exit(0)", None), ("pass", None), ("exit()", None)]


@pytest.mark.parametrize(("code", "number"), SILENT, ids=[code for code, _ in SILENT])
def test_a_run_whose_process_said_nothing_at_its_end_is_lost_and_never_finished(
    absent: Daemon, code: str, number: int | None
) -> None:
    absent.start(QUARTERDECK_LOST_AFTER="2")
    process = absent.python(OPEN + code)
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    if number is not None:
        process.send_signal(number)
    process.communicate(timeout=20)
    with absent.client() as client:
        for _ in client.follow(0):
            found = client.ask(ShowRun(run=run))
            if found.state != "RUNNING":
                break
    assert found.state == "LOST" and found.ended is not None and "last heard of" in str(found.error)


def test_a_lost_run_that_speaks_is_running_again_and_both_are_journalled(absent: Daemon) -> None:
    """A laptop that slept, a debugger that held the process: the run was lost and is not."""
    absent.start(QUARTERDECK_LOST_AFTER="2")
    process = absent.python(OPEN + "time.sleep(60)")
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    process.send_signal(signal.SIGSTOP)
    with absent.client() as client:
        states = []
        for _ in client.follow(0):
            state = client.ask(ShowRun(run=run)).state
            if state != (states or [None])[-1]:
                states.append(state)
                process.send_signal(signal.SIGCONT if state == "LOST" else 0)
            if states[-2:] == ["LOST", "RUNNING"]:
                break
        acts = [each.act for each in client.ask(ListAudit(text="runs."))]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert client.ask(ShowRun(run=run)).state == "KILLED"
    assert acts[:3] == ["runs.find", "runs.lose", "runs.start"]


def test_runs_nested_while_no_daemon_answers_are_delivered_parent_first(absent: Daemon) -> None:
    script = """
import quarterdeck
deck = quarterdeck.connect()
with deck.run("away", name="top") as top:
    with deck.run("away", name="below", nested=True) as below:
        below.log(loss=1.0)
print(top.id, below.id)
"""
    process = absent.python(script)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    top, below = out.split()
    absent.start()
    with Client(absent.home) as client:
        found = client.ask(ShowRun(run=below))
        assert (found.parent, found.state, found.metrics) == (top, "FINISHED", {"loss": 1.0})


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


@pytest.mark.alone
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
    assert took < sending.PATIENCE, "as long as it would wait for an answer once"
    with Client(absent.home) as client:
        assert len(values(client, run.id, "loss")) == 10_000
