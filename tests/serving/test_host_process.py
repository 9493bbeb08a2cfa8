"""A host as its launcher sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from quarterdeckd.serving.process import FORMER, HostProcess


def test_the_slots_that_a_host_had_are_forgotten_but_for_the_last_and_those_it_has(tmp_path: Path) -> None:
    """A bandit gives its arms new slots every few seconds: for as long as a host lives that is a great many."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        host = HostProcess(process, tmp_path / "status")
        for number in range(1, 2 * FORMER, 2):
            host.has({number: "e\nm@1", number + 1: "e\nm@2"})
        host.has({1: "e\nm@1", 2 * FORMER + 1: "e\nm@3"})
        assert len(host.slots) == FORMER + 2
        assert [host.slots[number] for number in (1, 2 * FORMER, 2 * FORMER + 1)] == ["e\nm@1", "e\nm@2", "e\nm@3"]
        process.kill()
