"""V10, V12: files that lie of their sizes, and whatever could name a library, at our readers and at a daemon."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import onnx
import pytest

from quarterdeckd.settings import Settings
from quarterstore.records import governance, registry
from quarterstore.records.faults import Fault
from quarterstore.records.messages import ASKABLE
from tests.formats.test_recognise import safetensors, tensor
from tests.small import onnx_file

pytestmark = pytest.mark.fault
FILES = 500
AT_THE_DAEMON = 40
SHAPE = registry.Signature((registry.Tensor("x", "FP32", (-1, 2)),), (registry.Tensor("y", "FP32", (-1, 1)),))
SEED = 10
MARKER = "a-secret-of-the-environment-7f3a"
LIES = (-1, -(2**40), 0, 1, 2**31, 2**40, 2**62)
READER = """
import hashlib, sys
from pathlib import Path
import numpy as np
from quarterdeckd.formats.recognise import recognised
from quarterdeckd.serving.admission import admitted
from quarterstore.records.faults import Fault
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        found = recognised(path)
        if found.format != "onnx":
            print("kept", path.name, found)
            continue
        loaded = admitted(path, hashlib.sha256(path.read_bytes()).hexdigest())
        print("answered", path.name, [each.tolist() for each in loaded.run({"x": np.ones((1, 2), np.float32)})])
    except Fault as fault:
        print("refused", path.name, fault.line())
    except Exception as error:
        print("raised", path.name, type(error).__name__, str(error)[:200])
"""


def lying_onnx(chance: random.Random) -> bytes:
    """A model one of whose figures is a lie, or a few of whose first bytes are others."""
    model = onnx.load_model_from_string(onnx_file("lies"))
    [weights] = model.graph.initializer
    what = chance.randrange(4)
    if what == 0:
        weights.dims[chance.randrange(2)] = chance.choice(LIES)
    elif what == 1:
        weights.raw_data = weights.raw_data[: chance.randrange(8)] + bytes(chance.randrange(64))
    elif what == 2:
        weights.data_type = chance.randrange(30)
    data = bytearray(model.SerializeToString())
    if what == 3:
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(min(200, len(data)))] = chance.randrange(256)
    return bytes(data)


def lying_safetensors(chance: random.Random) -> bytes:
    """A header one of whose figures is a lie."""
    entry = tensor(0, 400)
    what = chance.randrange(4)
    if what == 0:
        entry["shape"] = [chance.choice(LIES), chance.choice(LIES)]
    elif what == 1:
        entry["data_offsets"] = [chance.choice(LIES), chance.choice(LIES)]
    elif what == 2:
        entry["dtype"] = chance.choice(["F64", "F7", "", "I8"])
    return safetensors({"w": entry}, bytes(400), length=chance.choice(LIES[2:]) if what == 3 else None)


def lying(number: int) -> bytes:
    """File `number`, the same each time."""
    chance = random.Random(SEED * 1000 + number)
    return lying_onnx(chance) if number % 2 else lying_safetensors(chance)


def test_five_hundred_files_that_lie_are_refused_or_read_and_tell_nothing(tmp_path: Path, report: Any) -> None:
    """One process reads them all, so that one which crashed, or read beyond its file, would be seen."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:03}").write_bytes(lying(number))
    done = subprocess.run(
        [sys.executable, "-c", READER, str(folder)],
        env={**os.environ, "PLANTED": MARKER}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    what = [line.split()[0] for line in lines]
    report("V10", FILES, what.count("raised"), SEED, refused=what.count("refused"), answered=what.count("answered"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lines) == FILES and MARKER not in done.stdout + done.stderr
    assert [line for line in lines if line.startswith("raised")] == []
    assert what.count("refused") > FILES * 0.6


def test_files_that_lie_end_no_daemon(daemon: Any, report: Any) -> None:
    refused = 0
    with daemon.client(timeout=60) as client:
        for number in range(AT_THE_DAEMON):
            digest, size = client.put(lying(number))
            try:
                client.ask(registry.RegisterVersion("lies", digest, size, "auto", SHAPE))
            except Fault as fault:
                refused += 1
                assert "error of our own" not in fault.line() and len(fault.line()) < 1000, fault.line()
        assert client.ask(governance.VerifyAudit()).ok
    report("V10 at the daemon", AT_THE_DAEMON, 0, SEED, refused=refused)
    assert refused > AT_THE_DAEMON * 0.6 and daemon.process.poll() is None


NAMES = ("library", "libraries", "shared_object", "custom_op", "plugin", "provider", "preload", "dlopen")


def test_nothing_that_can_be_asked_or_set_names_a_library() -> None:
    """V12: every field of every message and setting is looked at, by its name."""
    kinds = [*ASKABLE, Settings]
    fields = [(kind.__name__, name) for kind in kinds for name in get_type_hints(kind)]
    assert len(fields) > 300, "they are looked at"
    assert [each for each in fields if any(word in each[1] for word in NAMES)] == []


def test_no_code_of_ours_loads_a_library_into_a_session() -> None:
    root = Path(__file__).parents[2]
    sources = [path for part in ("daemon", "storage", "console") for path in (root / part).rglob("*.py")]
    assert len(sources) > 200
    assert [path.name for path in sources if "register_custom_ops_library" in path.read_text()] == []


@pytest.mark.parametrize("name", ["evil.so", "model.onnx.so.1"])
def test_a_shared_library_is_no_model(daemon: Any, tmp_path: Path, name: str) -> None:
    library = tmp_path / name
    library.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(200))
    done = daemon.qd("register", str(library), "--name", "native")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    with daemon.client() as client:
        assert "native" not in {model.name for model in client.ask(registry.ListModels())}
