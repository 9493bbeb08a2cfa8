"""`qd serving` beside a launcher that is on its way out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import zmq

from quarterdeck.cli.context import Context
from quarterdeck.cli.serving import NOTHING, ask_launcher, show
from quarterstore.records.faults import Unreachable
from quarterstore.records.places import Home
from quarterstore.records.serving import HostState, ServingState


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path)
    found.serving_socket.parent.mkdir(parents=True)
    return found


def test_a_launcher_that_ends_instead_of_answering_is_one_that_does_not_run(home: Home) -> None:
    """The daemon stops it while `qd serving stop` asks for the same: that is success, not a failure to answer."""
    asked: list[bytes] = []

    def listen() -> None:
        context: zmq.Context[Any] = zmq.Context()
        with context.socket(zmq.ROUTER) as router:
            router.bind(home.serving_address)
            ready.set()
            asked.extend(router.recv_multipart()[1:2])
        context.term()

    ready = threading.Event()
    launcher = threading.Thread(target=listen)
    launcher.start()
    assert ready.wait(30)
    assert ask_launcher(home, "stop", 5.0) == NOTHING
    launcher.join(30)
    assert asked == [b"ask"]


def test_a_launcher_that_runs_and_is_silent_is_said_to_be_so(home: Home) -> None:
    context: zmq.Context[Any] = zmq.Context()
    with context.socket(zmq.ROUTER) as router:
        router.bind(home.serving_address)
        with pytest.raises(Unreachable, match="does not answer"):
            ask_launcher(home, "state", 0.5)
    context.term()


def test_hosts_are_a_row_each_within_80_columns_and_none_is_said_as_that(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it was one line of 118 columns, and a home where nothing runs looked like one with a host."""
    hosts = (
        HostState(pid=4_194_301, epoch=123_456, started=1.7e9, requests=12_345_678, ready=True, busy=0.25, waiting=64),
        HostState(pid=4_194_302, epoch=-1, started=1.7e9),
        HostState(pid=4_194_303, epoch=123_456, started=1.7e9, leaving=True, ready=True),
    )
    state = ServingState(launcher=7, address="http://127.0.0.1:80", epoch=123_456, hosts=hosts, most=3, wanted=2)
    context = Context()
    context.home = str(home.root)
    show(context, state)
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80, told
    assert "hosts     2 wanted, 1 to 3 by load" in told and " -1 " not in told
    assert [line.split()[1] for line in told.splitlines()[-3:]] == ["ready", "starting", "draining"]
    show(context, NOTHING)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(f"nothing is served at {home.root}; qd serving start")
