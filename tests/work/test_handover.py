"""What a job left is taken over only where it is what its kind answers: a person's code may have written it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from quarterdeckd.work.handover import Handover
from quarterstore.ledger.state import State
from quarterstore.records import jobs
from quarterstore.records.faults import Fault
from quarterstore.records.places import Home
from quarterstore.shelf.artefacts import Artefacts


@pytest.mark.parametrize("lie", [5, None, "../../etc/passwd", ["a"], {"b": 1}])
@pytest.mark.parametrize("field", ["model", "reference", "golden"])
def test_a_result_that_lies_of_its_files_is_refused(tmp_path: Path, field: str, lie: Any) -> None:
    """`None` is for golden rows alone: of a model that nobody here can ask there are none."""
    artefacts = Artefacts(tmp_path / "artefacts", tmp_path)
    (tmp_path / "file").write_bytes(b"whole")
    digest, _ = artefacts.adopt(tmp_path / "file")
    made: dict[str, Any] = {
        "model": digest,
        "reference": digest,
        "golden": digest,
        "format": "onnx",
        "metrics": [],
        "params": {},
        "signature": {"inputs": [], "outputs": []},
        "dataset": "x",
        "rows": 1,
        "parity": 0.0,
        "device": "cpu",
        "framework": "x",
        "size": 5,
    }
    handover = Handover(Home(tmp_path), State(), artefacts)
    job = jobs.Job(id="job-1", kind="pipeline", subject="pipe-1", state="RUNNING", created=0.0, actor="me")
    assert handover.taken_over(job, tmp_path, {"result": made})["result"] == made
    if (field, lie) == ("golden", None):
        assert handover.taken_over(job, tmp_path, {"result": made | {field: lie}})
        return
    with pytest.raises((Fault, msgspec.ValidationError)):
        handover.taken_over(job, tmp_path, {"result": made | {field: lie}})
