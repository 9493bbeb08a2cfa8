"""A stream on the screen of jobs: how full it is and what holds it up, at any width."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from quarterdeck.tui.widgets.stream_lines import stream_lines
from quarterstore.records.streams import ShowStream, StartStream, StopStream, Stream, StreamCounts
from tests.streaming import Sender, rows


@pytest.fixture(scope="module")
def full(quiet: Any) -> Iterator[Any]:
    """A home with a stream whose consumer is not there."""
    with quiet.client() as client:
        asked = StartStream(model="churn@1", input="ipc://orders", output="ipc://answers", waiting=40)
        stream = client.ask(asked)
        with Sender(f"ipc://{quiet.home.streams}/orders.sock", rows(500)):
            deadline = time.monotonic() + 30
            while client.ask(ShowStream(stream=stream.id)).counts.note.partition(":")[0] != "full":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield quiet
        client.ask(StopStream(stream=stream.id))


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_the_screen_of_jobs_shows_what_waits_and_why(
    full: Any, made: Any, console: Any, size: tuple[int, int]
) -> None:
    app = console(full.home)
    async with app.run_test(size=size) as pilot:
        await made.gone_to(pilot, "5", "pipelines")
        for words in (
            "stream churn@1",
            "40 wait",
            "40 of 40",
            "40 in, 0 out, lag",
            "full: the consumer is slower",
            "qd streams show",
        ):
            await made.shown(pilot, words)


def test_a_card_is_never_wider_than_its_room() -> None:
    counts = StreamCounts(
        9_999_999, 9_999_000, 999, 7, 8, 9, 1, 86_400.0, "full: " + "x" * 90, "rows[0].age: got é" * 9
    )
    stream = Stream(
        id="stream-1", model="m", input="bind:tcp://127.0.0.1:5601", output="connect:tcp://a:1", waiting=1000,
        window=131_072, state="RUNNING", job="job-1", created=1.0, actor="ana", restarts=(1.0,), why="killed " * 9,
        counts=counts,
    )  # fmt: skip
    for width in (40, 78, 158):
        lines = stream_lines(stream, width).split("\n")
        assert max(line.cell_len for line in lines) <= width
        assert "999 of 1,000" in lines[0].plain
