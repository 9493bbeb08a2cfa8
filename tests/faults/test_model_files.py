"""V10, V12: files that lie of their sizes, and whatever could name a library, at our readers and at a daemon."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import numpy as np
import onnx
import pytest

from quarterdeckd.settings import Settings
from quarterstore.records import compression, deployments, governance, jobs, registry
from quarterstore.records.faults import Fault
from quarterstore.records.messages import ASKABLE
from tests.decks import until
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

QUANTISER = """
import sys
from pathlib import Path
from quarterdeckd.compression import quantise
from quarterstore.records.compression import OptimiseSpec
from quarterstore.records.faults import Fault
from quarterstore.records.registry import Signature, Tensor

class Told:
    def progress(self, *words): pass

shape = Signature((Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "FP32", (-1, 1)),), task="regression")
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        made = quantise.run(OptimiseSpec("lies@1", "int8", str(path), sys.argv[2], shape), Told())
        print("made", path.name, made.words)
    except Fault as fault:
        print("refused", path.name, fault.line())
    except Exception as error:
        print("raised", path.name, type(error).__name__, str(error)[:200])
"""
THAT_LOAD = (49, 83, 189, 215, 401)
"""Files whose lie is none to ONNX Runtime: a byte of a name, of a weight."""


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


def told_of_all(folder: Path, script: str, *words: str) -> list[str]:
    """What one process says of every file, a line each. It is one process, so that a file which ends it, or makes it
    read beyond its end, is seen."""
    files = folder / "files"
    files.mkdir()
    for number in range(FILES):
        (files / f"{number:03}").write_bytes(lying(number))
    done = subprocess.run(
        [sys.executable, "-c", script, str(files), *words],
        cwd=folder, env={**os.environ, "PLANTED": MARKER}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lines) == FILES and MARKER not in done.stdout + done.stderr
    return lines


def test_five_hundred_files_that_lie_are_refused_or_read_and_tell_nothing(tmp_path: Path, report: Any) -> None:
    lines = told_of_all(tmp_path, READER)
    what = [line.split()[0] for line in lines]
    report("V10", FILES, what.count("raised"), SEED, refused=what.count("refused"), answered=what.count("answered"))
    assert [line for line in lines if line.startswith("raised")] == []
    assert what.count("refused") > FILES * 0.6


def test_five_hundred_files_that_lie_are_refused_by_the_quantiser_or_made_smaller(tmp_path: Path, report: Any) -> None:
    """What came past the door all the same: the job looks for itself."""
    rows = tmp_path / "rows.json"
    rows.write_bytes(golden_rows())
    lines = told_of_all(tmp_path, QUANTISER, str(rows))
    what = [line.split()[0] for line in lines]
    report("V10 quantised", FILES, what.count("raised"), SEED, refused=what.count("refused"), made=what.count("made"))
    assert [line for line in lines if line.startswith("raised")] == []
    assert what.count("refused") > FILES * 0.6 and what.count("made") >= len(THAT_LOAD)


ROWS = 64
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "LOST")
FOR_THE_FILE = re.compile(r"(file|model: the file could not be loaded|[0-9a-f]{64}|size)\b")
"""How a refusal begins that is for the file, and not for its name, signature or rows."""


def golden_rows() -> bytes:
    """Rows of the honest model: y is half the sum of x."""
    x = np.random.default_rng(SEED).normal(size=(ROWS, 2)).astype(np.float32)
    y = x.sum(axis=1, keepdims=True) * np.float32(0.5)
    golden = {"inputs": {"x": x.tolist()}, "outputs": {"y": y.tolist()}, "labels": y[:, 0].tolist()}
    return json.dumps(golden).encode()


def registered(client: Any, data: bytes, name: str, golden: str) -> registry.Version | Fault:
    """The first version of a model of its own, or its refusal. The signature is the file's own where it has one, a
    sound one where it has none: there is nothing but the file to be refused."""
    digest, size = client.put(data)
    shape = SHAPE if data[8:9] == b"{" else registry.Signature((), ())
    try:
        return client.ask(registry.RegisterVersion(name, digest, size, "auto", shape, golden=golden))  # type: ignore[no-any-return]
    except Fault as fault:
        return fault


def quantised(client: Any, version: str) -> jobs.Job:
    """The job that was to make an int8 child of it, at its end."""
    asked = client.ask(compression.Optimise(version))
    return until(lambda: (job := client.ask(jobs.ShowJob(asked.id))).state in ENDED and job, 120)  # type: ignore[no-any-return]


def served(client: Any, version: str) -> str:
    """The answer of a version that was deployed, or why it has no traffic."""
    try:
        client.ask(registry.MoveStage(version=version, stage="Staging"))
        client.ask(registry.MoveStage(version=version, stage="Production", reason="a test"))
        client.ask(deployments.Deploy(version=version))
    except Fault as fault:
        return str(fault.line())
    endpoint = version.partition("@")[0]
    question = deployments.ShowDeployment(endpoint=endpoint)
    found = until(lambda: (each := client.ask(question)).state != "ADMITTING" and each, 60)
    if found.live != version:
        return str(found.why)
    until(lambda: (serving := client.ask(deployments.ShowServing())).hosts and serving.epoch >= found.epoch)
    address = client.ask(deployments.ShowServing()).address
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
    return httpx.post(f"{address}/v2/models/{endpoint}/infer", json=body, timeout=30).text


def test_files_that_lie_are_refused_for_that_or_quantised_and_served_and_end_no_daemon(
    absent: Any, report: Any
) -> None:
    numbers = (*range(AT_THE_DAEMON), *THAT_LOAD)
    absent.start(PLANTED=MARKER)
    with absent.client(timeout=60) as client:
        golden = client.put(golden_rows())[0]
        honest = registered(client, onnx_file("lies"), "honest", golden)
        assert isinstance(honest, registry.Version), honest
        assert quantised(client, honest.id).state == "SUCCEEDED" and "1.5" in served(client, honest.id)
        sound = registered(client, safetensors({"w": tensor(0, 400)}, bytes(400)), "sound", golden)
        assert isinstance(sound, registry.Version), sound
        found = [registered(client, lying(number), f"lies-{number}", golden) for number in numbers]
        refused = [each.line() for each in found if isinstance(each, Fault)]
        kept = [each.id for each in found if isinstance(each, registry.Version) and each.format == "onnx"]
        ends = [quantised(client, version) for version in kept]
        answers = [served(client, version) for version in kept]
        assert client.ask(governance.VerifyAudit()).ok
    said = [*refused, *answers, *[f"{job.state}: {job.error}" for job in ends]]
    failed = sum(job.state == "FAILED" for job in ends)
    report(
        "V10 at the daemon", len(numbers), 0, SEED, refused=len(refused), quantised=len(ends) - failed, failed=failed
    )
    assert [line for line in refused if not FOR_THE_FILE.match(line)] == []
    assert [line for line in said if MARKER in line or "error of our own" in line or len(line) > 1000] == []
    assert {job.state for job in ends} <= {"SUCCEEDED", "FAILED"}
    assert len(refused) > AT_THE_DAEMON * 0.6 and len(kept) >= len(THAT_LOAD) and absent.process.poll() is None
    assert MARKER not in absent.log()


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
