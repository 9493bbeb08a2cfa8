"""What the doctor says of the room on the disk."""

from __future__ import annotations

from pathlib import Path

from quarterdeckd.work.health import room


def test_where_there_is_room_nothing_is_measured(tmp_path: Path) -> None:
    (tmp_path / "artefacts").mkdir()
    found = room(tmp_path, 0)
    assert found.ok and not found.next
    assert found.words.endswith(" GB free")


def test_where_there_is_little_room_the_three_largest_folders_are_named_the_largest_first(tmp_path: Path) -> None:
    for name, size in (("artefacts", 300), ("jobs", 100), ("journal", 900), ("samples", 200)):
        (tmp_path / name / "below").mkdir(parents=True)
        with (tmp_path / name / "below" / "file").open("wb") as file:
            file.truncate(size * 1_000_000)
    found = room(tmp_path, 1 << 62)
    assert not found.ok and found.next == "free some room"
    assert found.words.partition("; ")[2] == "journal 0.9 GB, artefacts 0.3 GB, samples 0.2 GB"


def test_what_goes_while_it_is_measured_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "gone").symlink_to(tmp_path / "nowhere")
    with (tmp_path / "jobs" / "there").open("wb") as file:
        file.truncate(200_000_000)
    assert room(tmp_path, 1 << 62).words.endswith("; jobs 0.2 GB")
