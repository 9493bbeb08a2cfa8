"""The journal alone: what is appended is read, and whatever does not fit is found with its number."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quarterstore.ledger import journal
from quarterstore.ledger.journal import GENESIS, Entry, Head, Journal
from quarterstore.records.faults import Corrupt
from quarterstore.records.wire import encode


def entry(seq: int, words: str = "did", size: int = 10) -> Entry:
    """An entry like any other."""
    parts = (msgspec.Raw(encode({"x": "y" * size})), msgspec.Raw(encode([])), msgspec.Raw(encode(None)))
    return Entry(seq, float(seq), "ana", "key", f"r{seq}", bytes(16), "runs.start", words, *parts)


def written(folder: Path, groups: list[int], size: int = 10) -> Journal:
    """A journal of so many groups of so many entries."""
    found = Journal(folder)
    for count in groups:
        start = found.head.seq
        found.append([entry(start + number + 1, f"words {start + number}", size) for number in range(count)])
    return found


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(st.integers(1, 7), min_size=1, max_size=8), after=st.integers(0, 60))
def test_what_was_appended_is_read_again_from_any_place(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], after: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    one = written(folder, groups)
    head = one.head
    one.close()
    found = list(journal.read(folder, after))
    assert [each.entry.seq for each in found] == list(range(after + 1, sum(groups) + 1))
    assert [each.entry.words for each in found] == [f"words {number}" for number in range(after, sum(groups))]
    assert journal.verify(folder, head).first_bad is None
    again = Journal(folder, head)
    assert again.head == head and again.recovered == ""
    again.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_of_a_kept_entry_is_found(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    """Whatever it hits: length, hash or payload of an entry that something comes after."""
    folder = tmp_path_factory.mktemp("journal")
    one = written(folder, [5, 5])
    head, end = one.head, one._end
    one.close()
    (path,) = folder.glob("*.journal")
    data = bytearray(path.read_bytes())
    offset = 64 + int(place * (end - 64))
    data[offset] ^= 1 << bit
    path.write_bytes(bytes(data))
    verdict = journal.verify(folder, head)
    assert verdict.first_bad is not None and verdict.first_bad <= head.seq + 1
    with pytest.raises(Corrupt):
        Journal(folder, head)


def test_an_unfinished_last_entry_is_cut_off_kept_aside_and_said(tmp_path: Path) -> None:
    """A crash in the middle of a write: nobody was answered, so nothing is lost."""
    one = written(tmp_path / "j", [3])
    known, end = one.head, one._end
    one.append([entry(4)])
    whole = one._end
    one.close()
    (path,) = (tmp_path / "j").glob("*.journal")
    data = bytearray(path.read_bytes())
    data[end + 40 : whole] = bytes(whole - end - 40)
    path.write_bytes(bytes(data))
    again = Journal(tmp_path / "j", known)
    assert again.head == known and again.recovered
    again.append([entry(4, "another")])
    assert [found.entry.words for found in journal.read(tmp_path / "j")][-1] == "another"
    again.close()


@pytest.mark.parametrize("rolled", [False, True])
def test_half_an_entry_behind_the_certain_one_is_not_looked_at(tmp_path: Path, rolled: bool) -> None:
    """Who reads while the daemon writes may see the beginning of what it writes."""
    one = written(tmp_path, [3])
    if rolled:
        one.roll()
    head, end = one.head, one._end
    one.append([entry(4, size=5000)])
    whole = one._end
    one.close()
    path = sorted(tmp_path.glob("*.journal"))[-1]
    data = bytearray(path.read_bytes())
    for torn in (bytes(whole - end - 40), None):  # only the pages from its first on, or only those behind it
        half = bytearray(data)
        if torn is None:
            half[end : end + 36] = bytes(36)
        else:
            half[end + 40 : whole] = torn
        path.write_bytes(bytes(half))
        assert [each.entry.seq for each in journal.read(tmp_path, 1, 3)] == [2, 3]
        assert journal.verify(tmp_path, head, 3) == journal.Verdict(3, head, None, "")
        assert journal.verify(tmp_path, head).first_bad == 4
    assert list(journal.read(tmp_path, 0, 0)) == []


def test_a_segment_that_is_missing_is_found(tmp_path: Path) -> None:
    one = written(tmp_path, [2])
    for start in (3, 4):
        one.roll()
        one.append([entry(start)])
    head = one.head
    one.close()
    paths = sorted(tmp_path.glob("*.journal"))
    assert len(paths) == 3 and journal.verify(tmp_path, head).first_bad is None
    paths[1].unlink()
    with pytest.raises(Corrupt, match="missing"):
        list(journal.read(tmp_path))


def test_segments_that_belong_to_another_journal_do_not_continue_it(tmp_path: Path) -> None:
    ours, theirs = written(tmp_path / "a", [2]), written(tmp_path / "b", [2], size=11)
    for each in (ours, theirs):
        each.roll()
        each.append([entry(3)])
        each.close()
    first, second = (sorted((tmp_path / name).glob("*.journal"))[1] for name in ("a", "b"))
    first.write_bytes(second.read_bytes())
    with pytest.raises(Corrupt, match="continue"):
        list(journal.read(tmp_path / "a"))


def test_a_journal_that_ends_before_what_was_known_is_refused_and_untouched(tmp_path: Path) -> None:
    """Two acknowledged changes are missing: it is said, not passed over."""
    one = written(tmp_path, [3])
    one.close()
    before = next(tmp_path.glob("*.journal")).read_bytes()
    with pytest.raises(Corrupt, match="2 acknowledged changes missing"):
        Journal(tmp_path, Head(5, GENESIS))
    assert next(tmp_path.glob("*.journal")).read_bytes() == before


def test_an_entry_is_read_by_its_place_and_checked(tmp_path: Path) -> None:
    one = written(tmp_path, [4])
    one.close()
    found = list(journal.read(tmp_path))
    assert journal.read_at(tmp_path, found[2].position, found[1].hash).seq == 3
    with pytest.raises(Corrupt):
        journal.read_at(tmp_path, found[2].position, found[0].hash)
