"""A pipeline whose gate says no: its version is registered, its command says so and exits 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quarterstore.records.pipelines import ListPipelineRuns
from quarterstore.records.registry import ShowVersion

DEFINITION = """
name = "flowers"
model = "flowers"
[data]
builtin = "iris"
target = "target"
[gate]
limits = { accuracy = LIMIT }
set = SET
"""


def test_limits_that_are_missed_end_the_command_with_1_and_keep_the_version(daemon: Any, tmp_path: Path) -> None:
    """Limits hold for the run itself; only `set` makes them the gate of the model."""
    file = tmp_path / "flowers.toml"
    for limit, kept in (("0.1", "false"), ("0.999", "false"), ("0.999", "true")):
        file.write_text(DEFINITION.replace("LIMIT", limit).replace("SET", kept))
        done = daemon.qd("pipeline", "run", str(file), "--json")
        version = "flowers@1"  # what is asked of it changed, not what it is
        answer = json.loads(done.stdout)
        gate = next(step for step in answer["steps"] if step["name"] == "gate")
        assert (answer["state"], answer["version"]) == ("SUCCEEDED", version)
        if limit == "0.1":
            assert (done.returncode, gate["state"]) == (0, "DONE"), done.stderr
            assert "meets >= 0.1" in gate["words"]
        else:
            assert (done.returncode, gate["state"]) == (1, "FAILED")
            (said,) = done.stderr.splitlines()
            assert said.startswith(f"error: gate: {version} is registered, gate failed: accuracy: ")
            assert "misses >= 0.999" in said
        with daemon.client() as client:
            assert client.ask(ShowVersion(version=version)).stage == "None"
    with daemon.client() as client:
        assert len(client.ask(ListPipelineRuns())) == 3
