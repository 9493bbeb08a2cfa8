"""Streams as the daemon looks at them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from quarterdeckd.bus import Bus
from quarterdeckd.serving.stream_counts import Counts
from quarterdeckd.work import streams as work
from quarterstore.ledger.state import State
from quarterstore.records.jobs import Job
from quarterstore.records.places import Home
from quarterstore.records.streams import Stream, StreamCounts

STREAM = Stream(
    id="stream-1",
    model="m",
    input="bind:ipc://in",
    output="bind:ipc://out",
    waiting=10,
    window=1000,
    state="RUNNING",
    job="job-1",
    created=0.0,
    actor="ana",
)


@pytest.fixture
def place(tmp_path: Path) -> tuple[Home, State, Path]:
    """A home with a stream that runs, its keys and its counts."""
    home, view = Home(tmp_path), State()
    (home.serving / "predictions").mkdir(parents=True)
    folder = home.streams / STREAM.id
    folder.mkdir(parents=True)
    Counts(folder / "counts")
    (folder / "keys").write_bytes(bytes(16))
    (folder / "keys.before").write_bytes(bytes(16))
    view.streams.put(STREAM)
    view.jobs.put(Job(id="job-1", kind="stream", subject="m", state="RUNNING", created=0.0, actor="ana", spec={}))
    return home, view, folder


async def looked(home: Home, view: State, monkeypatch: pytest.MonkeyPatch, times: int = 3) -> None:
    """So many looks, without the seconds between them."""
    seen = 0

    async def passed(seconds: float) -> None:
        nonlocal seen
        seen += 1
        if seen > times:
            raise asyncio.CancelledError

    with monkeypatch.context() as patch, pytest.raises(asyncio.CancelledError):
        patch.setattr(work.asyncio, "sleep", passed)
        await work.Streams(home, view, Bus()).run()


async def test_the_keys_of_a_stream_go_when_it_is_over_and_its_counts_stay(
    place: tuple[Home, State, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, view, folder = place
    await looked(home, view, monkeypatch)
    assert sorted(path.name for path in folder.iterdir()) == ["counts", "keys", "keys.before"]
    view.streams.put(replace(STREAM, state="STOPPED"))
    await looked(home, view, monkeypatch)
    assert [path.name for path in folder.iterdir()] == ["counts"]


async def test_a_disk_that_cannot_be_read_does_not_end_the_looking(
    place: tuple[Home, State, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs beside what the daemon lives by, and its end would be the daemon's."""
    home, view, _ = place

    def bad(path: Path) -> StreamCounts:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(work, "read", bad)
    await looked(home, view, monkeypatch, times=3)
    assert caplog.text.count("Input/output error") == 3
