"""What is said of the room on the disk: by the doctor, and by what a store takes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quarterdeckd.work.disk import Disk, room, used


def test_where_there_is_room_nothing_is_measured(tmp_path: Path) -> None:
    (tmp_path / "artefacts").mkdir()
    enough, words = room(tmp_path, 0)
    assert enough and words.endswith(" GB free")


def test_where_there_is_little_room_the_three_largest_folders_are_named_the_largest_first(tmp_path: Path) -> None:
    for name, size in (("artefacts", 300), ("jobs", 100), ("journal", 900), ("samples", 200)):
        (tmp_path / name / "below").mkdir(parents=True)
        with (tmp_path / name / "below" / "file").open("wb") as file:
            file.truncate(size * 1_000_000)
    enough, words = room(tmp_path, 1 << 62)
    assert not enough and words.partition("; ")[2] == "journal 0.9 GB, artefacts 0.3 GB, samples 0.2 GB"


def test_what_goes_while_it_is_measured_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "gone").symlink_to(tmp_path / "nowhere")
    with (tmp_path / "jobs" / "there").open("wb") as file:
        file.truncate(200_000_000)
    assert room(tmp_path, 1 << 62)[1].endswith("; jobs 0.2 GB")


async def test_what_a_store_takes_is_known_by_file_and_folder_the_largest_first(tmp_path: Path) -> None:
    for name, size in (("jobs", 10), ("journal", 3000), ("samples", 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * size)
    (tmp_path / "projection.duckdb").write_bytes(b"x" * 500)
    disk = Disk(tmp_path)
    assert disk.used == {}
    looking = asyncio.create_task(disk.run())
    async with asyncio.timeout(30):
        while not disk.used:
            await asyncio.sleep(0.01)
    looking.cancel()
    assert list(disk.used.items()) == [("journal", 3000), ("projection.duckdb", 500), ("jobs", 10), ("samples", 0)]
    assert disk.used == used(tmp_path)


async def test_a_store_that_cannot_be_read_for_once_ends_no_daemon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(tmp_path / "gone")
    looking = asyncio.create_task(disk.run())
    async with asyncio.timeout(30):
        while "could not be measured" not in caplog.text:
            await asyncio.sleep(0.01)
    assert not looking.done() and disk.used == {}
    looking.cancel()
