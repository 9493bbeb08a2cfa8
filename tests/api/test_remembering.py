"""Request ids of before are read some at a time, all of them, the newest where there are too many."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeckd.api import remembering
from quarterdeckd.api.remembering import Remembered
from quarterstore.ledger.opening import Ledger, open_ledger
from quarterstore.records.faults import IdReused
from quarterstore.records.places import Home

COUNT = 25


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A projection with 25 requests of the last day and one that is older."""
    found = open_ledger(Home(tmp_path / "home"))
    now = time.time()
    for seq in range(COUNT + 1):
        at = now - seq if seq else now - 2 * remembering.LONGEST
        found.database._connection.execute(
            'INSERT INTO entries (seq, "at", key, request, body) VALUES (?, ?, ?, ?, ?)',
            [seq + 1, at, "owner", f"id-{seq}", b"body".hex()],
        )
    yield found
    found.close()


def known(remembered: Remembered) -> list[int]:
    """Which of the requests it remembers."""
    return [seq for seq in range(COUNT + 1) if remembered.find(f"owner:id-{seq}", b"body")]


@pytest.mark.parametrize("at_once", [1, 7, COUNT, 1000])
def test_every_request_of_the_last_day_is_read_however_many_at_a_time(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(remembering, "AT_ONCE", at_once)
    remembered = Remembered(ledger.database, lambda seq: b"answer")
    remembered.fill()
    assert known(remembered) == list(range(1, COUNT + 1))
    with pytest.raises(IdReused):
        remembered.find("owner:id-3", b"another")


def test_of_too_many_requests_the_newest_are_read(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembering, "MOST", 10)
    monkeypatch.setattr(remembering, "AT_ONCE", 4)
    remembered = Remembered(ledger.database, lambda seq: b"answer")
    remembered.fill()
    assert known(remembered) == list(range(COUNT - 9, COUNT + 1))
