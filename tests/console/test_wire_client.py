"""The wire is what docs/wire.md says: a client of 60 lines without a line of ours talks to a real daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Daemon

WIRE_CLIENT = Path(__file__).parents[1] / "contract" / "wire_client.py"


def test_a_client_that_imports_nothing_of_ours_gets_its_answer(daemon: Daemon) -> None:
    text = WIRE_CLIENT.read_text()
    assert "quarter" not in "".join(line for line in text.splitlines() if "import" in line)
    assert len(text.splitlines()) <= 60
    command = [sys.executable, str(WIRE_CLIENT), str(daemon.home.root), "store.status"]
    done = subprocess.run(command, env=daemon.environ, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["home"] == str(daemon.home.root)
