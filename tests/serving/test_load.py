"""What is turned away, and that whoever is not waits for two turns of the loop at most."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop

from quarterdeckd.serving.load import AFTER_MOST, QUEUE, SLOW, Load, Queue, Single


@pytest.mark.parametrize("run", [0.001, 0.004])
def test_one_turn_answers_a_queue_or_a_tenth_of_a_second_of_requests(run: float) -> None:
    """As the host's loop does it: 300 connections are readable at once, each of which is one callback of one turn."""

    async def turn() -> tuple[Load, list[float], int]:
        load, waited, refused = Load(), [], 0
        began = time.perf_counter()
        done = asyncio.Event()

        def one(number: int) -> None:
            nonlocal refused
            now = time.perf_counter()
            if load.room(now):
                waited.append(now - began)
                while time.perf_counter() - now < run:
                    pass
            else:
                refused += 1
            if number == 299:
                done.set()

        for number in range(300):
            asyncio.get_running_loop().call_soon(one, number)
        await done.wait()
        assert load.room(time.perf_counter()), "the next turn has room again"
        return load, waited, refused

    load, waited, refused = uvloop.run(turn())
    assert refused == 300 - len(waited)
    assert len(waited) >= QUEUE, "a queue of that many is always taken"
    assert max(waited[QUEUE:], default=0.0) <= SLOW + 0.02
    assert refused > 100
    measured = load.measured()
    assert (measured.waiting, measured.requests) == (300, 301)


def test_a_machine_that_stands_still_for_a_moment_turns_nobody_away() -> None:
    """However long a turn takes, as few requests as a queue holds are taken."""

    async def turn() -> list[bool]:
        load = Load()
        began = time.perf_counter()
        return [load.room(began + number) for number in range(QUEUE)]

    assert asyncio.run(turn()) == [True] * QUEUE


def test_who_is_turned_away_is_asked_to_wait_as_long_as_the_queue_takes() -> None:
    load = Load()
    said = [load.turn_away(run).after for run in (0.0, 0.01, 0.05, 1.0, float("inf"))]
    assert said == [1, 1, 4, AFTER_MOST, AFTER_MOST] and load.shed == 5


def test_a_queue_is_as_long_as_what_stands_in_it_also_where_that_fails() -> None:
    load, queue = Load(), Queue()
    with pytest.raises(ZeroDivisionError), load.waits(queue), load.waits(queue):
        assert queue.waiting == 2
        raise ZeroDivisionError
    assert queue.waiting == 0 and load.measured().waiting == 2 and load.measured().waiting == 0


def test_a_stream_asks_without_a_loop_and_there_is_always_room() -> None:
    load = Single()
    assert all(load.room(time.perf_counter()) for _ in range(3 * QUEUE))
    assert load.requests == 3 * QUEUE
