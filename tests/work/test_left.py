"""What a job's folder holds is read as it is: no link leads elsewhere, and no line stops what comes behind it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quarterdeckd.work.left import AT_ONCE, LONGEST_LINE, read_lines, result_of, steps_told, written_since
from quarterstore.records.faults import Invalid
from quarterstore.shelf.artefacts import Artefacts
from quarterstore.shelf.files import open_inside, write_over

LINE = b'{"kind":"step","at":1.0,"name":"NAME","step":{}}\n'


def names(folder: Path) -> list[str]:
    """The steps that are heard of when the file is followed to its end."""
    found, offset = [], 0
    while whole := written_since(folder, offset):
        found += [line.name for line in read_lines("job", whole)]
        offset += len(whole)
    return found


@pytest.mark.parametrize(
    "size", [10, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, LONGEST_LINE, LONGEST_LINE + 5, 2 * LONGEST_LINE]
)
def test_what_comes_behind_a_line_that_is_none_is_read_however_long_that_is(tmp_path: Path, size: int) -> None:
    first, last = LINE.replace(b"NAME", b"first"), LINE.replace(b"NAME", b"last")
    (tmp_path / "progress.jsonl").write_bytes(first + b"x" * size + b"\n" + last)
    assert names(tmp_path) == ["first", "last"]
    assert [line.name for line in steps_told("job", tmp_path)] == ["first", "last"]


def test_a_line_of_a_step_may_be_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    long = LINE.replace(b"NAME", b"a" * (2 * AT_ONCE))
    (tmp_path / "progress.jsonl").write_bytes(long + LINE + b'{"half')
    assert [len(name) for name in names(tmp_path)] == [2 * AT_ONCE, 4]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_is_no_result_no_progress_and_no_output(tmp_path: Path, kind: str) -> None:
    folder, secret = tmp_path / "job", tmp_path / "secret"
    folder.mkdir()
    secret.write_bytes(b'{"ok":true,"result":{"secret":1}}')
    for name in ("result.json", "progress.jsonl"):
        if kind == "link":
            (folder / name).symlink_to(secret)
        elif kind == "pipe":
            os.mkfifo(folder / name)
        else:
            (folder / name).mkdir()
    result = result_of(folder)
    assert result is not None and not result.ok and "result.json: got what is no result" in str(result.error)
    assert written_since(folder, 0) == b"" and steps_told("job", folder) == []
    with pytest.raises(Invalid, match="a plain file with one name"):
        Artefacts(tmp_path / "store", tmp_path).adopt(folder / "result.json")


def test_a_folder_that_is_a_link_leads_nowhere_and_nothing_is_written_through_one(tmp_path: Path) -> None:
    folder, other = tmp_path / "job", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    (other / "log.txt").write_text("kept")
    (folder / "step").symlink_to(other)
    (folder / "offset").symlink_to(other / "log.txt")
    with pytest.raises(NotADirectoryError):
        open_inside(folder, "step", "log.txt")
    with pytest.raises(OSError, match="symbolic links"):
        write_over(folder / "offset", b"1")
    assert (other / "log.txt").read_text() == "kept"
    write_over(folder / "plain", b"longer")
    write_over(folder / "plain", b"12")
    assert (folder / "plain").read_bytes() == b"12" and result_of(folder) is None
