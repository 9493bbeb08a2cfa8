"""What is kept of a prediction, and which files are let in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from quarterdeckd.serving import admission
from quarterdeckd.serving.recorder import Frame, Recorder, kept, read_segment
from quarterstore.records.deployments import AdmissionSpec, Golden, RecordingRule, Slot
from quarterstore.records.faults import Corrupt, Fault

FRAME = Frame("p1", 1.0, "e", "m@1", "live", 1, 200, 0.5, {"a": [1.0]}, [], [0.5])


def test_a_field_is_kept_hashed_or_dropped_as_the_rule_says() -> None:
    found = kept(RecordingRule(fields={"b": "hash", "c": "drop"}, salt="s"), {"a": [1], "b": ["Ada"], "c": [3]})
    assert found["a"] == [1] and "c" not in found
    assert found["b"] == [hashlib.sha256(b"s'Ada'").hexdigest()[:32]]


def test_a_full_spool_counts_what_it_drops(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 1, bound=100)
    while recorder.write(FRAME):
        pass
    assert recorder.dropped == 1 and "bound" in recorder.why


def test_a_torn_segment_gives_every_whole_frame(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 1)
    recorder.write(FRAME)
    recorder.write(FRAME)
    recorder.tend(close=True)
    (path,) = tmp_path.glob("*.done")
    path.write_bytes(path.read_bytes()[:-3])
    assert list(read_segment(path)) == [FRAME]


def _spec(slot: Slot, golden: Path | None) -> AdmissionSpec:
    return AdmissionSpec(
        endpoint="e",
        version=slot.version,
        model=slot.path,
        digest=slot.digest,
        golden=str(golden) if golden else None,
        signature=slot.signature,
    )


def test_a_version_that_gives_its_golden_answers_is_admitted(slot: Callable[..., Slot], tmp_path: Path) -> None:
    golden = tmp_path / "golden.json"
    golden.write_bytes(msgspec.json.encode(Golden(inputs={"x": [[1.0] * 4] * 2}, outputs={"y": [[1.0, 1.0]] * 2})))
    found = admission.run(_spec(slot("m@1"), golden), None)
    assert found.rows == 2 and found.largest_difference < 1e-6 and found.p50 > 0


def test_a_version_that_answers_otherwise_is_refused_with_the_worst_row(
    slot: Callable[..., Slot], tmp_path: Path
) -> None:
    golden = tmp_path / "golden.json"
    golden.write_bytes(
        msgspec.json.encode(Golden(inputs={"x": [[1.0] * 4] * 2}, outputs={"y": [[1.0, 1.0], [1.5, 1.0]]}))
    )
    with pytest.raises(Fault, match="row 1 of y"):
        admission.run(_spec(slot("m@1"), golden), None)


def test_changed_bytes_and_foreign_files_are_refused(slot: Callable[..., Slot], tmp_path: Path) -> None:
    good = slot("m@1")
    Path(good.path).write_bytes(Path(good.path).read_bytes() + b"\0")
    with pytest.raises(Corrupt):
        admission.run(_spec(good, None), None)
    for data in (b"\x80\x04K\x01.", b"PK\x03\x04", b"not a model"):
        path = tmp_path / "evil"
        path.write_bytes(data)
        evil = msgspec.structs.replace(good, path=str(path), digest=hashlib.sha256(data).hexdigest())
        with pytest.raises(Fault):
            admission.run(_spec(evil, None), None)
