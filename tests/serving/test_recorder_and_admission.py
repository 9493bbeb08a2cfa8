"""What is kept of a prediction, and which files are let in."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from onnx import TensorProto, helper

from quarterdeckd.serving import admission, describe, session
from quarterdeckd.serving.recorder import Frame, Recorder, columns, kept, read_segment
from quarterstore.records.admission import AdmissionSpec, Golden
from quarterstore.records.deployments import RecordingRule, Slot
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


def test_a_torn_segment_gives_every_whole_frame_and_says_what_it_drops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path, 1)
    recorder.write(FRAME)
    recorder.write(FRAME)
    recorder.tend(close=True)
    (path,) = tmp_path.glob("*.done")
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert list(read_segment(path)) == [FRAME]
    assert f"the last {len(whole) // 2 - 3} bytes are no whole prediction" in caplog.text


def test_a_frame_of_another_make_does_not_stop_those_behind_it(tmp_path: Path) -> None:
    """One that could never be read would keep every later prediction from being folded."""
    odd = msgspec.msgpack.encode(["p0", "no time"])
    frames = [struct.pack("<II", len(data), zlib.crc32(data)) + data for data in (odd, msgspec.msgpack.encode(FRAME))]
    path = tmp_path / "1-1-1.done"
    path.write_bytes(b"".join(frames))
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


def test_a_feature_may_be_named_like_a_column_that_every_prediction_has() -> None:
    """`id` and `version` are ordinary names of features; dropped, drift would look at nothing."""
    frame = msgspec.structs.replace(FRAME, features={"id": [7.0, 8.0], "version": ["a", "b"], "feature.id": [1, 2]})
    found = columns([FRAME, frame])
    assert found["id"] == ["p1"] * 3 and found["version"] == ["m@1"] * 3
    assert found["feature.id"] == [None, 7.0, 8.0] and found["feature.version"] == [None, "a", "b"]
    assert found["feature.feature.id"] == [None, 1, 2] and found["a"] == [1.0, None, None]


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({}, {"y": [[1.0, 1.0]]}, "golden.inputs: got none, expected x"),
        ({"x": [[1.0] * 4], "z": [1]}, {"y": [[1.0, 1.0]]}, "golden.inputs: got x, z, expected x"),
        ({"x": [[1.0] * 5]}, {"y": [[1.0, 1.0]]}, r"golden.inputs.x.shape: got \[1, 5\]"),
        ({"x": [[1.0] * 4, [1.0]]}, {"y": [[1.0, 1.0]]}, "golden.inputs.x: got values that do not fit"),
        ({"x": [["a"] * 4]}, {"y": [[1.0, 1.0]]}, "golden.inputs.x: got values that do not fit"),
        ({"x": []}, {"y": []}, "golden.inputs.x.shape"),
        ({"x": [[1.0] * 4]}, {"y": [[1.0]]}, r"golden.outputs.y.shape: got \[1, 1\], .*\[1, 2\]"),
        ({"x": [[1.0] * 4]}, {"y": [["a", "b"]]}, "golden.outputs.y: got values"),
        ({"x": [[1.0] * 4]}, {"yy": [[1.0, 1.0]]}, "golden.outputs: got yy, .*nearest: y"),
        ({"x": [[1.0] * 4]}, {}, "golden.outputs: got none"),
    ],
)
def test_golden_rows_that_do_not_fit_the_model_are_named(
    slot: Callable[..., Slot], tmp_path: Path, inputs: dict[str, object], outputs: dict[str, object], words: str
) -> None:
    """A plain ValueError would reach the person who deploys as our own crash."""
    golden = tmp_path / "golden.json"
    golden.write_bytes(msgspec.json.encode(Golden(inputs=inputs, outputs=outputs)))
    with pytest.raises(Fault, match=words):
        admission.run(_spec(slot("m@1"), golden), None)


def test_golden_rows_that_are_no_json_are_refused(slot: Callable[..., Slot], tmp_path: Path) -> None:
    golden = tmp_path / "golden.json"
    golden.write_bytes(b"{")
    with pytest.raises(Fault, match="golden: got rows that are none"):
        admission.run(_spec(slot("m@1"), golden), None)


def _with_external_data(where: str, holder: str = "initializer") -> bytes:
    """x + w, with the four numbers of w outside the file; held as ONNX can hold them."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=where)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [weights] if holder == "initializer" else [],
    )
    if holder == "constant":
        graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=weights))
    elif holder == "sparse":
        places = helper.make_tensor("places", TensorProto.INT64, [4], [0, 1, 2, 3])
        graph.sparse_initializer.append(helper.make_sparse_tensor(weights, places, [4]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("holder", ["initializer", "constant", "sparse"])
@pytest.mark.parametrize("form", ["plain", "parent", "absolute", "hard link", "symbolic link", "linked parent"])
def test_a_model_that_reads_another_file_is_never_admitted(
    slot: Callable[..., Slot], tmp_path: Path, form: str, holder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """V11: external data reads files of this machine into a model; ONNX Runtime by itself follows a hard link."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    folder = tmp_path / "m"
    folder.mkdir()
    if form == "hard link":
        os.link(secret, folder / "w")
    elif form == "symbolic link":
        (folder / "w").symlink_to(secret)
    elif form == "linked parent":
        (folder / "there").symlink_to(tmp_path)
    else:
        (folder / "w").write_bytes(bytes(16))
    where = {"parent": "../secret", "absolute": str(secret), "linked parent": "there/secret"}.get(form, "w")
    path = folder / "evil.onnx"
    data = _with_external_data(where, holder)
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    evil = msgspec.structs.replace(slot("m@1"), path=str(path), digest=digest)
    with pytest.raises(Fault, match="external data in w"):
        admission.run(_spec(evil, None), None)
    assert describe.main(["describe", str(path), digest]) == 1
    assert "external data in w" in capsys.readouterr().out


def test_a_model_with_somebodys_own_operator_is_never_admitted(slot: Callable[..., Slot], tmp_path: Path) -> None:
    """V12: such an operator is native code of a library nobody looked at."""
    graph = helper.make_graph(
        [helper.make_node("Run", ["x"], ["y"], domain="com.evil")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
    )
    sets = [helper.make_opsetid("", 20), helper.make_opsetid("com.evil", 1)]
    data = helper.make_model(graph, opset_imports=sets, ir_version=10).SerializeToString()
    path = tmp_path / "evil.onnx"
    path.write_bytes(data)
    evil = msgspec.structs.replace(slot("m@1"), path=str(path), digest=hashlib.sha256(data).hexdigest())
    with pytest.raises(Fault, match=r"com\.evil\.Run"):
        admission.run(_spec(evil, None), None)


def test_a_large_file_is_loaded_by_its_name_and_checked_all_the_same(
    slot: Callable[..., Slot], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As bytes it holds the interpreter, and so every request of the host, for as long as it is read."""
    monkeypatch.setattr(session, "BY_NAME", 0)
    good = slot("m@1")
    assert admission.run(_spec(good, None), None).p50 > 0
    Path(good.path).write_bytes(Path(good.path).read_bytes() + b"\0")
    with pytest.raises(Corrupt):
        admission.run(_spec(good, None), None)
