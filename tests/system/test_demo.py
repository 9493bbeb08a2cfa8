"""The README's first command: one model's whole life, every step as it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = 16


@pytest.mark.alone
def test_the_demo_does_every_step_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Told as JSON in its last line; on an empty home of its own, with no network asked for."""
    environ = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "no_proxy": "*"}
    environ.pop("XDG_RUNTIME_DIR", None)
    command = [sys.executable, str(ROOT / "scripts" / "demo_life.py"), "--json"]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert [step["ok"] for step in told["steps"]] == [True] * STEPS
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue  # it ended meanwhile
        assert str(tmp_path).encode() not in words, words
