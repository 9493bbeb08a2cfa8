"""The client against a real daemon: typed answers, faults as classes, files by hash, the feed without gaps."""

from __future__ import annotations

import asyncio
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from quarterdeck import async_client, feed, keys
from quarterdeck.async_client import AsyncClient
from quarterdeck.client import Client
from quarterstore.records.faults import Conflict, Forbidden, IdReused, Invalid, NotFound, Unreachable
from quarterstore.records.people import AddKey, WhoAmI
from quarterstore.records.registry import ListModels, MoveStage
from quarterstore.records.runs import EndRun, ShowRun, StartRun
from quarterstore.records.wire import CHUNK, Published

if TYPE_CHECKING:
    from conftest import Daemon


def test_an_absent_daemon_is_said_with_the_command_that_starts_one(absent: Daemon) -> None:
    with Client(absent.home) as client, pytest.raises(Unreachable, match="start one with: quarterdeckd --home"):
        client.status()


def test_an_answer_is_typed_and_a_fault_is_raised_as_its_class(client: Client) -> None:
    assert client.status().home == str(client.home.root)
    assert client.ask(WhoAmI()).person
    with pytest.raises(NotFound):
        client.ask(ShowRun(run="run-nobody"))
    with pytest.raises((NotFound, Invalid)):
        client.ask(MoveStage(version="none@1", stage="Staging"))


def test_a_request_sent_again_under_its_id_has_one_effect(client: Client) -> None:
    start = StartRun(experiment="once")
    first = client.ask(start, request="same-request")
    assert client.ask(start, request="same-request").id == first.id
    with pytest.raises(IdReused):
        client.ask(StartRun(experiment="other"), request="same-request")


def test_a_file_larger_than_a_chunk_comes_back_equal(client: Client, tmp_path: Path) -> None:
    data = bytes(range(256)) * (CHUNK // 128)
    for content in (data, b"x", b""):
        digest, size = client.put(content)
        assert client.get(digest, tmp_path / "back") == size == len(content)
        assert (tmp_path / "back").read_bytes() == content


def test_an_unknown_key_is_refused_in_words_and_a_known_one_passes(daemon: Daemon, client: Client) -> None:
    public = keys.make(daemon.home, "stranger")
    path = daemon.home.secret_key("stranger")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert zmq.curve_public(path.read_bytes()) == public.encode()
    with pytest.raises(Conflict):
        keys.make(daemon.home, "stranger")
    with Client(daemon.home, "stranger", 5.0) as stranger, pytest.raises(Forbidden, match="does not know this key"):
        stranger.status()
    client.ask(AddKey(public=public, person="stranger", roles=("viewer",)))
    with Client(daemon.home, "stranger", 5.0) as stranger:
        assert stranger.ask(ListModels()) == []
        with pytest.raises(Forbidden):
            stranger.ask(StartRun(experiment="no"))


def test_a_follower_gets_every_entry_in_order_also_those_before_it_came(client: Client) -> None:
    before = client.status().seq
    ended = [client.ask(EndRun(run=client.ask(StartRun(experiment="feed")).id)).id for _ in range(20)]
    seen = [item.seq for item in feed.follow(client, before, idle=0.3) if isinstance(item, Published)]
    assert len(ended) == 20 and seen[:40] == list(range(before + 1, before + 41))


async def test_many_questions_at_once_are_each_answered(daemon: Daemon) -> None:
    found = AsyncClient(daemon.home)
    try:
        answers = await asyncio.gather(*(found.ask(WhoAmI()) for _ in range(200)))
        assert len(answers) == 200 and len(set(map(str, answers))) == 1
    finally:
        await found.close()


class Still:
    """A socket after each word of which this process stands still for longer than an answer may take."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self.sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    async def send(self, frame: bytes) -> None:
        await self._socket.send(frame)
        self.sent += 1
        time.sleep(0.4)


async def test_who_stands_still_himself_calls_no_daemon_lost(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A console that draws for a second on a busy machine said that the daemon was gone."""
    monkeypatch.setattr(async_client, "BEAT", 0.1)
    found = AsyncClient(daemon.home)
    still = Still(found._socket)
    monkeypatch.setattr(found, "_socket", still)
    states: list[bool] = []
    found.on_state(states.append)
    try:
        await found.ask(WhoAmI())
        while still.sent < 4:
            await asyncio.sleep(0.01)
        assert states == [] and found.connected
    finally:
        await found.close()


@pytest.mark.alone
async def test_a_lost_daemon_is_noticed_within_two_seconds_and_found_again(absent: Daemon) -> None:
    absent.start()
    found = AsyncClient(absent.home)
    states: asyncio.Queue[bool] = asyncio.Queue()
    found.on_state(states.put_nowait)
    try:
        await found.ask(WhoAmI())
        following = found.follow()
        first = asyncio.ensure_future(anext(following))
        await asyncio.to_thread(absent.stop, signal.SIGKILL)
        assert await asyncio.wait_for(states.get(), 2.5) is False
        with pytest.raises(Unreachable):
            await found.ask(WhoAmI())
        await asyncio.to_thread(absent.start)
        assert await asyncio.wait_for(states.get(), 30) is True
        await found.ask(StartRun(experiment="after"))
        assert await asyncio.wait_for(first, 30)
    finally:
        await found.close()


FORGOTTEN = """
import asyncio, gc, sys
from pathlib import Path
from quarterdeck.async_client import AsyncClient
from quarterdeck.client import Client
from quarterstore.records.places import Home
from quarterstore.records.people import WhoAmI

home = Home(Path(sys.argv[1]))

async def forgotten():
    client = AsyncClient(home)
    await client.ask(WhoAmI())
    client.itself = client

asyncio.run(forgotten())
plain = Client(home, spooled=False)
plain.ask(WhoAmI())
plain.itself = plain
del plain
gc.collect()
print("on")
"""


def test_a_client_that_was_forgotten_unclosed_hangs_nobody(client: Client, daemon: Daemon) -> None:
    """Collected as a cycle, its context would wait for ever for the sockets that it no longer knows."""
    words = [sys.executable, "-c", FORGOTTEN, str(client.home.root)]
    done = subprocess.run(words, env=daemon.environ, capture_output=True, text=True, timeout=30)
    assert done.stdout == "on\n", done.stderr
