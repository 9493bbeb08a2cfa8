"""Secrets that the daemon needs towards others, and the key that signs what it sends."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from quarterdeckd.work import tokens
from quarterstore.records.faults import Invalid
from quarterstore.records.places import Home


def test_first_uses_at_the_same_time_make_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person is shown the key while a bundle is signed: a key that was shown and replaced is trusted for nothing."""
    home = Home(tmp_path)
    home.keys.mkdir(parents=True)
    both = threading.Barrier(2)
    made = tokens.new_secret

    def late() -> bytes:
        with contextlib.suppress(threading.BrokenBarrierError):  # nobody else makes one
            both.wait(0.3)
        return made()

    monkeypatch.setattr(tokens, "new_secret", late)
    with ThreadPoolExecutor(2) as pool:
        found = {each.result() for each in [pool.submit(tokens.sender_key, home) for _ in range(2)]}
    assert found == {home.sender_key.read_bytes().strip()}


@pytest.mark.parametrize("reads", [tokens.secret_in, tokens.certificates_in])
def test_a_pipe_is_no_file_and_nobody_waits_for_what_it_says(tmp_path: Path, reads: Any) -> None:
    """Opened as a file is, it would hold one of the daemon's few readers until somebody writes."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(Invalid, match="expected a regular file"):
        reads("field", str(tmp_path / "pipe"))
