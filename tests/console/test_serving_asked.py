"""`qd serving` beside a launcher that is on its way out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import zmq

from quarterdeck.cli.serving import NOTHING, ask_launcher
from quarterstore.records.faults import Unreachable
from quarterstore.records.places import Home


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
    assert ready.wait(5)
    assert ask_launcher(home, "stop", 5.0) == NOTHING
    launcher.join(5)
    assert asked == [b"ask"]


def test_a_launcher_that_runs_and_is_silent_is_said_to_be_so(home: Home) -> None:
    context: zmq.Context[Any] = zmq.Context()
    with context.socket(zmq.ROUTER) as router:
        router.bind(home.serving_address)
        with pytest.raises(Unreachable, match="does not answer"):
            ask_launcher(home, "state", 0.5)
    context.term()
