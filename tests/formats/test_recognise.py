"""What a file is, told by its bytes: names lie, headers lie, and nothing is run to find out."""

from __future__ import annotations

import json
import lzma
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from quarterdeckd.formats.recognise import recognised
from quarterstore.records.faults import Fault, Invalid, Refused, TooLarge
from tests.small import onnx_file

CANARY = "/tmp/a-canary-that-is-never-made"


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        import os

        return (os.system, (f"touch {CANARY}",))


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header, which may lie."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


def tensor(start: int, end: int, shape: list[Any] | None = None, dtype: str = "F32") -> dict[str, Any]:
    """One entry of a header."""
    return {"dtype": dtype, "shape": [(end - start) // 4] if shape is None else shape, "data_offsets": [start, end]}


def classifier() -> LogisticRegression:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(60, 3))
    return LogisticRegression().fit(x, x[:, 0] > 0)


def zipped(folder: Path, *names: str) -> Path:
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path


def test_an_onnx_file_is_one_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(onnx_file())
    assert recognised(path).format == "onnx"


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_every_protocol_is_one_and_is_not_run(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(pickle.dumps(Evil(), protocol=protocol))
    found = recognised(path)
    assert found.format == "pickle"
    assert found.code in (("posix.system",), ("os.system",))
    assert not Path(CANARY).exists()


def test_a_name_that_a_pickle_remembers_is_read_through_its_memo(tmp_path: Path) -> None:
    import collections

    path = tmp_path / "p"
    path.write_bytes(pickle.dumps([collections.OrderedDict(), collections.Counter(), collections.OrderedDict()], 4))
    assert set(recognised(path).code) == {"collections.OrderedDict", "collections.Counter"}


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_joblib_is_told_packed_and_not(tmp_path: Path, compress: Any) -> None:
    path = tmp_path / "model.onnx"
    joblib.dump({"weights": np.arange(100.0), "model": classifier()}, path, compress=compress)
    found = recognised(path)
    assert found.format == "joblib"
    assert any(name.startswith("joblib.") for name in found.code)


def sparse(path: Path, start: bytes, end: bytes = b"", size: int = 20 * 1024**3) -> None:
    """A file of 20 GB that takes no room on the disk."""
    with path.open("wb") as file:
        file.write(start)
        file.seek(size)
        file.write(end or b"\0")


ENDLESS = {
    "a line without an end": (b"S'", b""),
    "one value of 20 GB": (b"\x80\x04\x8e" + (20 * 1024**3 - 11).to_bytes(8, "little"), b"."),
    "a value beyond the end": (b"\x80\x04\x8e" + (2**62).to_bytes(8, "little"), b"."),
    "a packed stream": (b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b""),
    "zeros": (b"\0", b""),
    "texts without an end": (b"\x80\x04" + (b"X" + (900_000).to_bytes(4, "little") + b"a" * 900_000) * 400, b"."),
    "a message without an end": (b"\x08\x0a\x3a" + b"\xff" * 9, b""),
    "an archive without a directory": (b"PK\x03\x04", b""),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_file_of_any_size_is_told_in_little_memory(tmp_path: Path, name: str) -> None:
    """In a process that may hold 200 MB more than the modules take."""
    path = tmp_path / "large"
    sparse(path, *ENDLESS[name])
    code = (
        "import resource, sys; from pathlib import Path; from quarterdeckd.formats.recognise import recognised\n"
        "from quarterstore.records.faults import Fault\n"
        "room = int(Path('/proc/self/statm').read_text().split()[0]) * 4096 + 200 * 1024**2\n"
        "resource.setrlimit(resource.RLIMIT_AS, (room, room))\n"
        "try:\n    print(recognised(Path(sys.argv[1])).format)\nexcept Fault as fault:\n    print(fault.line())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-500:]
    assert "expected" in done.stdout or done.stdout == "pickle\n"


def test_what_torch_saves_is_a_pickle_in_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save(torch.nn.Linear(2, 1).state_dict(), path)
    found = recognised(path)
    assert found.format == "pickle" and "torch.save" in found.words
    assert "torch._utils._rebuild_tensor_v2" in found.code
    torch.save({"w": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    assert recognised(path).format == "pickle"


def test_torchscript_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 1), torch.zeros(1, 2)), str(path))  # type: ignore[no-untyped-call]
    with pytest.raises(Refused, match="TorchScript") as refused:
        recognised(path)
    assert refused.value.next is not None and "torch.onnx.export" in refused.value.next


def test_skops_is_one_and_what_nobody_vouches_for_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    skops.io.dump(classifier(), path)
    assert recognised(path) == ("skops", "skops", ())
    skops.io.dump(FunctionTransformer(np.frombuffer), path)
    found = recognised(path)
    assert found.format == "skops" and "numpy.frombuffer" in found.code


def test_safetensors_are_checked_and_told(tmp_path: Path) -> None:
    path = tmp_path / "w"
    head = {"__metadata__": {"format": "pt"}, "b": tensor(8, 24, [2, 2]), "a": tensor(0, 8)}
    path.write_bytes(safetensors(head, bytes(24)))
    assert recognised(path).format == "safetensors"


LIES: list[tuple[str, bytes, type[Fault], str]] = [
    ("a header beyond the file", safetensors({"a": tensor(0, 8)}, bytes(8), length=10_000), Invalid, "header"),
    ("a header of 100 MB", safetensors({"a": tensor(0, 8)}, bytes(8), length=100_000_000), TooLarge, "100,000,000"),
    ("a header beyond all memory", safetensors({"a": tensor(0, 8)}, length=2**63), TooLarge, "bytes"),
    ("an end beyond the file", safetensors({"a": tensor(0, 80)}, bytes(8)), Invalid, "ends"),
    ("an overlap", safetensors({"a": tensor(0, 8), "b": tensor(4, 12)}, bytes(12)), Invalid, "overlaps"),
    ("a gap", safetensors({"a": tensor(0, 8), "b": tensor(12, 16)}, bytes(16)), Invalid, "gap"),
    ("bytes behind the last", safetensors({"a": tensor(0, 8)}, bytes(12)), Invalid, "behind the last"),
    ("a shape of another size", safetensors({"a": tensor(0, 8, [3])}, bytes(8)), Invalid, "shape"),
    ("a negative size", safetensors({"a": tensor(0, 8, [-1, -2])}, bytes(8)), Invalid, "whole numbers"),
    ("a boolean size", safetensors({"a": tensor(0, 4, [True])}, bytes(4)), Invalid, "whole numbers"),
    ("a product beyond 64 bits", safetensors({"a": tensor(0, 8, [2**40, 2**40])}, bytes(8)), Invalid, "shape"),
    ("an offset that is a text", safetensors({"a": {**tensor(0, 8), "data_offsets": ["0", "8"]}}), Invalid, "number"),
    ("no offsets", safetensors({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), Invalid, "data_offsets"),
    ("an unknown type", safetensors({"a": tensor(0, 8, dtype="OBJ")}, bytes(8)), Invalid, "OBJ"),
    ("one name twice", safetensors(b'{"a":1,"a":2}'), Invalid, "twice"),
    ("no JSON", safetensors(b"{not json"), Invalid, "JSON"),
    ("JSON that is endlessly deep", safetensors(b'{"a":' * 200_000), Invalid, "JSON"),
    ("no tensor", safetensors({"__metadata__": {"a": "b"}}), Invalid, "no tensor"),
    ("metadata that is no text", safetensors({"__metadata__": {"a": 1}, "a": tensor(0, 4)}, bytes(4)), Invalid, "meta"),
    ("a name that steers", safetensors({"\x1b[2Ja": tensor(0, 80)}, bytes(8)), Invalid, "ends"),
]


@pytest.mark.parametrize(("data", "kind", "said"), [case[1:] for case in LIES], ids=[case[0] for case in LIES])
def test_a_header_that_lies_is_refused_and_says_how(tmp_path: Path, data: bytes, kind: Any, said: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(kind) as refused:
        recognised(path)
    assert said in refused.value.line() and "\x1b" not in refused.value.line()


def written(path: Path, kind: str) -> None:
    """A sound file of a format."""
    if kind == "skops":
        skops.io.dump(classifier(), path)
    elif kind == "joblib":
        joblib.dump(classifier(), path, compress=3)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(classifier()))
    elif kind == "torch":
        torch.save(torch.nn.Linear(2, 1).state_dict(), path)
    elif kind == "safetensors":
        path.write_bytes(safetensors({"a": tensor(0, 400)}, bytes(400)))
    else:
        path.write_bytes(onnx_file())


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "skops", "pickle", "torch"])
def test_a_file_that_is_cut_off_is_none_of_its_format(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model"
    written(path, kind)
    whole = path.read_bytes()
    for part in (len(whole) // 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:part])
        with pytest.raises(Invalid):
            recognised(path)


def test_an_empty_file_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.touch()
    with pytest.raises(Invalid, match="an empty file"):
        recognised(path)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 300_000_000)


def many(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(100_001):
            archive.writestr(str(number), b"")


@pytest.mark.parametrize("made", [bomb, many], ids=["one large member", "many members"])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, made: Callable[[Path], None]) -> None:
    path = tmp_path / "model.skops"
    made(path)
    with pytest.raises(TooLarge):
        recognised(path)


def test_a_packed_bomb_is_unpacked_no_further_than_its_head(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    for pack in (zlib.compress, lzma.compress):
        path.write_bytes(pack(bytes(200_000_000)))
        with pytest.raises(Refused, match="not packed"):
            recognised(path)


OTHERS = {
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(20),
    "GGUF": b"GGUF" + bytes(20),
    "Parquet": b"PAR1" + bytes(20),
    "TFLite": b"\x1c\0\0\0TFL3" + bytes(20),
    "a text": b"just words\n",
    "zeros": bytes(1000),
    "a program": b"\x7fELF" + bytes(100),
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_what_is_none_of_ours_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises((Refused, Invalid), match="expected"):
        recognised(path)


@pytest.mark.parametrize("name", ["../schema.json", "/schema.json", "a/../../b"])
def test_an_archive_that_names_places_outside_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="inside it"):
        recognised(zipped(tmp_path, name, "schema.json"))


def test_an_archive_of_anything_else_says_what_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"notes\.txt"):
        recognised(zipped(tmp_path, "notes.txt"))
    with pytest.raises(Invalid, match="skops"):
        recognised(zipped(tmp_path, "schema.json"))


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400), start=st.sampled_from([b"", b"\x08\x0a", b"\x80\x04", b"PK\x03\x04", b"x\x9c"]))
def test_any_bytes_are_a_format_or_a_fault(tmp_path_factory: Any, data: bytes, start: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(start + data)
    try:
        assert recognised(path).format in ("onnx", "pickle", "joblib", "safetensors", "skops")
    except Fault as fault:
        assert fault.line().isprintable()


@settings(max_examples=150, deadline=None)
@given(place=st.integers(min_value=0, max_value=10_000), value=st.integers(min_value=0, max_value=255))
@pytest.mark.parametrize("kind", ["onnx", "safetensors", "pickle"])
def test_one_byte_of_a_sound_file_may_be_any_other(tmp_path_factory: Any, kind: str, place: int, value: int) -> None:
    path = tmp_path_factory.getbasetemp() / "changed"
    written(path, kind)
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(bytes(data))
    try:
        recognised(path)
    except Fault as fault:
        assert fault.line().isprintable()
