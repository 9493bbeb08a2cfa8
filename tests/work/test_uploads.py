"""What the daemon finds out of an uploaded file before it is registered."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import TensorProto, helper

from quarterdeckd.work.uploads import Uploads
from quarterstore.records.faults import Corrupt, Invalid, NotFound, Refused
from quarterstore.records.registry import RegisterVersion, Signature, Tensor
from quarterstore.shelf.artefacts import Artefacts
from tests.small import onnx_file

NOTHING = Signature(inputs=(), outputs=())


def kept(folder: Path, data: bytes) -> tuple[Uploads, RegisterVersion]:
    """A store with one file, and the act that registers it."""
    digest = hashlib.sha256(data).hexdigest()
    (folder / digest[:2]).mkdir()
    (folder / digest[:2] / digest).write_bytes(data)
    return Uploads(Artefacts(folder, folder)), RegisterVersion("m", digest, 0, "auto", NOTHING)


def test_format_size_and_signature_are_those_of_the_file_whatever_was_given(tmp_path: Path) -> None:
    data = onnx_file()
    uploads, act = kept(tmp_path, data)
    found = uploads.described(replace(act, code=("said.by.the.asker",), size=7))
    assert (found.format, found.size, found.code) == ("onnx", len(data), ())
    assert found.signature.inputs == (Tensor("x", "FP32", (-1, 2)),)


def test_weights_that_lie_beside_a_model_are_kept_in_it_and_nothing_else_changes(tmp_path: Path) -> None:
    whole = onnx.load_from_string(onnx_file())
    data = np.array([9, 0.5, 0.5], np.float32).tobytes()
    apart = onnx.load_from_string(onnx_file())
    onnx.external_data_helper.set_external_data(apart.graph.initializer[0], "weights", offset=4, length=8)
    apart.graph.initializer[0].ClearField("raw_data")
    uploads, act = kept(tmp_path, apart.SerializeToString())
    _, beside = kept(tmp_path, data)
    with pytest.raises(Invalid, match="weights in 'weights', expected weights in a file of the same folder"):
        uploads.described(replace(act, beside={"other": beside.digest}))
    found = uploads.described(replace(act, beside={"weights": beside.digest, "MLmodel": beside.digest}))
    kept_file = onnx.load_from_string((tmp_path / found.digest[:2] / found.digest).read_bytes())
    assert kept_file == whole and found.beside == {} and found.size == len(whole.SerializeToString())
    again = uploads.described(replace(found, beside={"weights": beside.digest}))
    assert again.digest == found.digest, "what is whole stays as it is"
    with pytest.raises(NotFound, match=r"beside\.weights"):
        uploads.described(replace(act, beside={"weights": "0" * 64}))


def test_a_size_that_the_file_leaves_open_may_be_declared(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "open",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    uploads, act = kept(tmp_path, model.SerializeToString())
    declared = Signature(inputs=(Tensor("x", "FP32", (-1, 3)),), outputs=(Tensor("y", "FP32", (-1, 3)),))
    assert uploads.described(replace(act, signature=declared)).signature == declared
    wrong = replace(declared, inputs=(Tensor("x", "FP32", (-1, 3, 1)),))
    with pytest.raises(Invalid, match=r"signature\.inputs"):
        uploads.described(replace(act, signature=wrong))


def test_a_file_that_was_looked_at_is_still_checked_each_time(tmp_path: Path) -> None:
    uploads, act = kept(tmp_path, onnx_file())
    uploads.described(act)
    path = tmp_path / act.digest[:2] / act.digest
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(Corrupt, match=f"expected {act.digest}"):
        uploads.described(act)
    path.unlink()
    with pytest.raises(NotFound):
        uploads.described(act)


def test_golden_rows_that_are_none_are_refused_before_anything_is_registered(tmp_path: Path) -> None:
    uploads, act = kept(tmp_path, np.float32([1.0]).tobytes())
    with pytest.raises(NotFound, match="golden"):
        uploads.described(replace(act, golden="0" * 64))
    with pytest.raises(Invalid, match="begins with"):
        uploads.described(act)


def test_an_operator_of_somebodys_library_is_refused(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(onnx_file())
    model.graph.node[0].domain = "somebody.else"
    model.opset_import.append(helper.make_opsetid("somebody.else", 1))
    uploads, act = kept(tmp_path, model.SerializeToString())
    with pytest.raises(Refused, match=r"somebody\.else\.MatMul"):
        uploads.described(act)


def test_the_process_that_reads_a_file_may_write_nothing_and_hold_no_more_than_its_share() -> None:
    code = (
        "import resource, sys; from pathlib import Path; from quarterdeckd.serving.describe import set_limits\n"
        "set_limits(Path(sys.argv[1]))\n"
        "names = ('RLIMIT_FSIZE', 'RLIMIT_CORE', 'RLIMIT_CPU', 'RLIMIT_AS')\n"
        "print(*(resource.getrlimit(getattr(resource, name))[1] for name in names))"
    )
    done = subprocess.run([sys.executable, "-c", code, __file__], capture_output=True, text=True, check=True)
    written, core, seconds, room = map(int, done.stdout.split())
    assert (written, core, seconds) == (0, 0, 60) and 6 * 1024**3 <= room < 7 * 1024**3
