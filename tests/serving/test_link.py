"""The daemon's link: each answer to its own question, a dead launcher said at once, another one adopted by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq
import zmq.asyncio

from quarterdeckd.work import serving_link
from quarterstore.records.deployments import Slot
from quarterstore.records.faults import Unreachable
from quarterstore.records.hosts import HostNews
from quarterstore.records.places import Home


async def test_a_question_beside_a_push_gets_its_own_answer(link: Any, slot: Callable[..., Slot], made: Any) -> None:
    """The push waits for a host that stands still; taken for its answer, the state would acknowledge nothing."""
    state = await link.push(made.table(1, slot("m@1")))
    os.kill(state.hosts[0].pid, signal.SIGSTOP)
    pushing = asyncio.create_task(link.push(made.table(2, slot("m@2", 7.0))))
    states = await asyncio.gather(*[link.state() for _ in range(5)])
    assert not pushing.done() and {each.epoch for each in states} == {1}
    pushed = await asyncio.wait_for(pushing, 60)
    assert pushed.epoch == 2 and pushed.hosts[0].pid != state.hosts[0].pid


async def test_a_late_answer_is_not_taken_for_the_next_one(
    link: Any, slot: Callable[..., Slot], made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push that was given up is answered after all; by then something else was asked."""
    state = await link.push(made.table(1, slot("m@1")))
    os.kill(state.launcher, signal.SIGSTOP)
    with monkeypatch.context() as patch, pytest.raises(Unreachable, match="did not answer within"):
        patch.setattr(serving_link, "ACKNOWLEDGED_WITHIN", 0.05)
        await link.push(made.table(2, slot("m@2", 7.0)))
    third = asyncio.create_task(link.push(made.table(3, slot("m@1"))))
    os.kill(state.launcher, signal.SIGCONT)
    assert (await third).epoch == 3


async def test_a_push_to_a_launcher_that_dies_fails_at_once(link: Any, slot: Callable[..., Slot], made: Any) -> None:
    """It used to wait forty seconds, and a rollback with it."""
    state = await link.push(made.table(1, slot("m@1")))
    os.kill(state.launcher, signal.SIGSTOP)
    pushing = asyncio.create_task(link.push(made.table(2, slot("m@2", 7.0))))
    began = time.monotonic()
    os.kill(state.launcher, signal.SIGKILL)
    with pytest.raises(Unreachable, match="ended before it answered"):
        await pushing
    assert time.monotonic() - began < 20.0
    with pytest.raises(Unreachable):
        await link.push(made.table(3, slot("m@1")))
    with pytest.raises(Unreachable):
        await link.state()


async def test_a_launcher_that_somebody_else_started_is_adopted_unasked(
    link: Any, home: Home, slot: Callable[..., Slot], made: Any
) -> None:
    """A unit restarts it: the news has to go on without anybody asking, or a canary is blind."""
    state = await link.push(made.table(1, slot("m@1")))
    os.kill(state.launcher, signal.SIGKILL)
    await made.until(lambda: not link.alive())
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "quarterdeckd.serving.launcher", "--home", str(home.root)
    )
    await made.until(lambda: link.states[-1].launcher == other.pid and link.states[-1].epoch == 1)
    before = len(link.news)
    await made.until(lambda: any(each.kind == "latency" for each in link.news[before:]))
    assert (await link.push(made.table(2, slot("m@2", 7.0)))).launcher == other.pid
    other.terminate()
    assert await asyncio.wait_for(other.wait(), 20) == 0


async def test_news_that_nobody_can_take_deafens_nobody(
    link: Any, slot: Callable[..., Slot], made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """One figure that could not be drawn, and no crash, no canary and no overload was heard of any more."""
    heard = link._on_news

    def once(news: HostNews) -> None:
        link._on_news = heard
        raise ValueError("a figure below zero")

    await link.push(made.table(1, slot("m@1")))
    link._on_news = once
    before = len(link.news)
    await made.until(lambda: any(each.kind == "latency" for each in link.news[before:]))
    assert "what the launcher said could not be taken" in caplog.text and "a figure below zero" in caplog.text


async def test_a_launcher_of_somebody_else_is_given_time_to_come_back(
    link: Any, home: Home, slot: Callable[..., Slot], made: Any
) -> None:
    """Ours would take its place, live in the daemon's own unit and end with it."""
    state = await link.push(made.table(1, slot("m@1")))
    other = made.Told(home)
    await other.start()
    assert other.launcher() == state.launcher
    os.kill(state.launcher, signal.SIGKILL)
    await made.until(lambda: not other.alive())
    with pytest.raises(Unreachable, match="whoever started it"):
        await other.start()
    await link.start()
    assert link.alive() and link.launcher() != state.launcher
    other.close()


async def test_news_of_the_hosts_comes_when_they_change(link: Any, slot: Callable[..., Slot], made: Any) -> None:
    """What `qd serving` shows must not be the hosts of the last push."""
    state = await link.push(made.table(1, slot("m@1")))
    os.kill(state.hosts[0].pid, signal.SIGKILL)

    def replaced() -> bool:
        hosts = link.states[-1].hosts
        return bool(hosts) and hosts[0].ready and hosts[0].pid != state.hosts[0].pid

    await made.until(replaced)


async def test_a_launcher_that_cannot_read_its_last_routes_takes_those_of_the_daemon(
    link: Any, home: Home, slot: Callable[..., Slot], made: Any
) -> None:
    """A file that somebody damaged must not keep serving from starting."""
    state = await link.push(made.table(1, slot("m@1")))
    os.kill(state.launcher, signal.SIGKILL)
    await made.until(lambda: not link.alive())
    (home.serving / "routes.json").write_bytes(b"{")
    await link.start()
    assert (await link.push(made.table(2, slot("m@1")))).epoch == 2
    assert "the last routes could not be read" in (home.serving / "launcher.log").read_text()


@pytest.mark.parametrize("frames", [[b"ack", b"x"], [b"push", b"{"], [b"ask"], [b"hello", b"none"]])
async def test_a_launcher_goes_on_listening_after_what_it_cannot_do(
    link: Any, home: Home, slot: Callable[..., Slot], made: Any, frames: list[bytes]
) -> None:
    """One that listened no more would keep its hosts and answer no push: a rollback would reach nobody."""
    context = zmq.asyncio.Context()
    with context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 1000)
        stranger.connect(home.serving_address)
        await stranger.send_multipart(frames)
        await made.until(lambda: "could not be done" in (home.serving / "launcher.log").read_text())
        assert (await asyncio.wait_for(link.push(made.table(1, slot("m@1"))), 20)).epoch == 1
    context.term()


async def test_news_that_cannot_be_taken_do_not_make_the_link_deaf(
    link: Any, slot: Callable[..., Slot], made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A canary whose news are heard no more is neither advanced nor rolled back."""

    def wrong(state: Any) -> None:
        raise ZeroDivisionError

    link.on_state = wrong
    await link.push(made.table(1, slot("m@1")))
    await made.until(lambda: "could not be taken" in caplog.text)
    link.on_state = link.states.append
    assert (await link.push(made.table(2, slot("m@1")))).epoch == 2
    assert link.states[-1].epoch == 2


@pytest.mark.parametrize("then", ["stop", "start"])
async def test_a_launcher_that_was_just_started_is_known_before_it_holds_the_lock(
    home: Home, made: Any, then: str
) -> None:
    """Its start was cancelled. Stopped then, it came up afterwards and served on; started, there were two."""
    link = made.Told(home)
    first = asyncio.create_task(link.start())
    await asyncio.sleep(0)
    pid = link._pid
    os.kill(pid, signal.SIGSTOP)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert link.beginning() and not link.alive()
    asked = asyncio.create_task(link.stop() if then == "stop" else link.start())
    os.kill(pid, signal.SIGCONT)
    await asked
    assert link.launcher() == (0 if then == "stop" else pid) and not link.beginning()
    await asyncio.wait_for(link.stop(), 60)
    link.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
