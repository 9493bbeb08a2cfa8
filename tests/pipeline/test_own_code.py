"""Training code in an environment of its own: a real venv without our packages, a real child, what comes back."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quarterdeckd.pipeline import own_process
from quarterstore.records.faults import Fault, Invalid, TooLarge
from quarterstore.records.pipelines import DataSection, StepSection, TrainSection
from quarterstore.records.snapshots import IGNORE, MOST_BYTES, files_in
from quarterstore.records.training import check_train
from tests.pipeline import stepping
from tests.pipeline.stepping import Ran
from tests.pipeline.test_run import definition, rows


def environment(folder: Path, *, with_ours: bool = False) -> Path:
    """The Python of a venv that has no package, or those of third parties that lie beside ours (a path alone: what is
    installed for editing, as ours is, is not followed)."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    if with_ours:
        inside = next((folder / "lib").glob("python*/site-packages"))
        (inside / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def classifier() -> bytes:
    """size, age, job -> label and score: yes where size + 0.5 age is above 0; made without learning."""
    nodes = [
        helper.make_node("Concat", ["size", "age"], ["raw"], axis=1),
        helper.make_node("IsNaN", ["raw"], ["blank"]),
        helper.make_node("Where", ["blank", "zero", "raw"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["score"], axis=1),
        helper.make_node("ArgMax", ["score"], ["place"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "place"], ["label"]),
    ]
    graph = helper.make_graph(
        nodes,
        "own",
        [
            helper.make_tensor_value_info("size", TensorProto.FLOAT, ["n", 1]),
            helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n", 1]),
            helper.make_tensor_value_info("job", TensorProto.STRING, ["n", 1]),
        ],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, ["n"]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 2]),
        ],
        [
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(np.array([[-1, 1], [-0.5, 0.5]], np.float32), "w"),
            numpy_helper.from_array(np.array(["no", "yes"], dtype=object), "names"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job's own folder, in whose environment there is a key of ours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUARTERDECK_AS", "a-key-of-ours")
    return tmp_path


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python without any package."""
    return environment(tmp_path_factory.mktemp("venv") / "bare")


def ran(folder: Path, section: TrainSection, files: dict[str, str | bytes]) -> Ran:
    """Run a pipeline of it over mixed rows, with the user's own files."""
    code = folder / "code"
    for name, data in files.items():
        path = code / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        path.chmod(0o700)
    return stepping.ran(folder, definition(train=section), rows(folder / "rows.csv"), code)


def points(folder: Path) -> list[tuple[int, str, Any]]:
    """What was told of the live curves."""
    lines = map(json.loads, (folder / "progress.jsonl").read_text().splitlines())
    return [(each["number"], each["name"], each["value"]) for each in lines if each["kind"] == "point"]


STDLIB = """
import os, sys

def train(given, log):
    try:
        import quarterdeck
        raise SystemExit("our packages are here")
    except ImportError:
        pass
    assert not [name for name in os.environ if name.startswith("QUARTERDECK")], os.environ
    columns = given.columns()
    held_out = given.columns(held_out=True)
    assert given.target in columns and given.target not in held_out
    assert any(value != value for value in columns["size"]) and "" in columns["job"]
    right = 0
    for step, (size, age, y) in enumerate(zip(columns["size"], columns["age"], columns[given.target]), 1):
        right += ((size if size == size else 0) + 0.5 * age > 0) == (y == "yes")
        if step % 100 == 0:
            log(step=step, accuracy=right / step)
    log(nothing=float("nan"))
    assert sorted(os.listdir(given.checkpoint)) == []
    print("said by the code", given.params["rate"], given.seed, flush=True)
    with open("model.bin", "rb") as file:
        return file.read()
"""


def test_code_in_a_bare_environment_gives_a_model_that_is_scored_and_its_curves(
    folder: Path, bare: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    section = TrainSection(run="train.py:train", interpreter=str(bare), code="source", params={"rate": 0.5})
    found = ran(folder, section, {"source/train.py": STDLIB, "source/model.bin": classifier()}).result
    assert found.format == "onnx" and found.golden is not None
    accuracy = next(each for each in found.metrics if each.name == "accuracy")
    assert accuracy.value > 0.8 and accuracy.low is not None
    assert found.params == {"learner": "train.py:train", "seed": 7, "rate": 0.5}
    assert (found.python, found.packages) == (sys.version.partition(" ")[0], ())
    told = points(folder)
    assert next(each for each in told if each[1] == "accuracy")[0] == 100
    assert told[-1][1:] == ("nothing", "nan")
    assert "said by the code 0.5 7" in capfd.readouterr().out


SKLEARN = """
import csv, io, os
import numpy as np
from sklearn.linear_model import LogisticRegression

def train(given, log):
    columns = given.columns()
    x = np.array([columns[each["name"]] for each in given.features], dtype=np.float32).T
    model = LogisticRegression().fit(x, columns[given.target])
    log(score=model.score(x, columns[given.target]))
    if given.params["as"] == "onnx":
        from skl2onnx import to_onnx
        made = to_onnx(model, x[:1], options={"zipmap": False}, target_opset=18)
        return renamed(made, given)
    import skops.io
    skops.io.dump(model, os.path.join(given.output, "model.skops"))

def renamed(made, given):
    from onnx import compose
    names = {made.graph.input[0].name: given.inputs[0]}
    names.update(zip([each.name for each in made.graph.output], given.outputs))
    for node in made.graph.node:
        node.input[:] = [names.get(each, each) for each in node.input]
        node.output[:] = [names.get(each, each) for each in node.output]
    for each in (*made.graph.input, *made.graph.output):
        each.name = names[each.name]
    return made.SerializeToString()
"""


@pytest.mark.parametrize("kind", ["skops", "onnx"])
def test_a_model_of_scikit_learn_comes_back_as_onnx_with_the_packages_it_was_made_with(folder: Path, kind: str) -> None:
    python = environment(folder / "venv", with_ours=True)
    data = rows(folder / "rows.csv", blank=False)
    (folder / "code").mkdir()
    (folder / "code" / "train.py").write_text(SKLEARN)
    section = TrainSection(run="train.py:train", interpreter=str(python), params={"as": kind})
    about = DataSection(target="y", file="rows.csv", ignore=("day", "house", "job"))
    found = stepping.ran(folder, definition(train=section, data=about), data, folder / "code").result
    assert found.format == "onnx" and found.parity < 1e-4
    assert next(each for each in found.metrics if each.name == "accuracy").value > 0.7
    assert any(each.startswith(("scikit_learn==", "scikit-learn==")) for each in found.packages)


SAFETENSORS = """
import json, struct, os

def train(given, log):
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    data = struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1.0, 0.5)
    columns = given.columns(held_out=True)
    if given.params.get("predict"):
        with open(os.path.join(given.output, "predictions.csv"), "w") as file:
            file.write("no,yes\\n")
            for size, age in zip(columns["size"], columns["age"]):
                yes = (size if size == size else 0) + 0.5 * age > 0
                file.write("0.1,0.9\\n" if yes else "0.9,0.1\\n")
    return data
"""


def test_safetensors_are_kept_as_they_are_and_scored_by_what_the_code_predicts(folder: Path, bare: Path) -> None:
    section = TrainSection(run="train.py:train", interpreter=str(bare), params={"predict": True})
    whole = ran(folder, section, {"train.py": SAFETENSORS})
    found, data = whole.result, whole.files["train/model.safetensors"].read_bytes()
    assert (found.format, found.golden) == ("safetensors", None)
    assert next(each for each in found.metrics if each.name == "accuracy").value > 0.7
    assert "w" in json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])


def test_safetensors_without_predictions_say_what_is_missing(folder: Path, bare: Path) -> None:
    with pytest.raises(Invalid, match=r"no predictions\.csv, expected the columns no, yes for 100 held-out rows"):
        ran(folder, TrainSection(run="train.py:train", interpreter=str(bare)), {"train.py": SAFETENSORS})


def test_a_command_is_words_with_places_in_them_and_logs_by_lines(folder: Path) -> None:
    script = (
        '#!/bin/sh\nset -e\ntest "$1" = "--rows"\ntest -f "$2"\ntest "$3" = \'$(touch canary); `touch canary`\'\n'
        'echo \'{"loss": 0.5}\' >> "$QD_METRICS"\necho \'{"step": 9, "loss": 0.25}\' >> "$QD_METRICS"\n'
        'echo \'no line\' >> "$QD_METRICS"\ncp model.bin "$QD_OUTPUT/model.onnx"\n'
    )
    words = ("./train.sh", "--rows", "{rows_csv}", "$(touch canary); `touch canary`")
    found = ran(folder, TrainSection(command=words), {"train.sh": script, "model.bin": classifier()}).result
    assert found.format == "onnx" and found.python is None
    assert points(folder) == [(1, "loss", 0.5), (9, "loss", 0.25)]
    assert not list(folder.rglob("canary"))


WRONG = {
    "raises": ("def train(given, log):\n    return 1 / 0\n", "train.py line 2: ZeroDivisionError: division by zero"),
    "no python": ("def train(:\n", "train.py line 1: SyntaxError"),
    "no function": ("def other(given, log): pass\n", "got no function train, expected one of other"),
    "leaves": ("def train(given, log):\n    raise SystemExit(3)\n", "train.py line 2: SystemExit: called sys.exit(3)"),
    "a dict": ("def train(given, log):\n    return {}\n", "got builtins.dict, expected the bytes of a model"),
    "nothing": ("def train(given, log):\n    pass\n", "got 0 files in the output folder (nothing)"),
    "two": (
        "def train(given, log):\n    for n in 'ab':\n        open(given.output + '/' + n, 'w').close()\n",
        "got 2 files in the output folder (a, b), expected one model file",
    ),
    "a link": (
        "import os\ndef train(given, log):\n    os.symlink('/etc/passwd', given.output + '/model')\n",
        "got model, expected a plain file",
    ),
    "rubbish": ("def train(given, log):\n    return b'rubbish'\n", "expected ONNX, safetensors or skops"),
    "a pickle": ("import pickle\ndef train(given, log):\n    return pickle.dumps(print)\n", "got a pickle"),
    "killed": ("import os\ndef train(given, log):\n    os.kill(os.getpid(), 9)\n", "was ended by SIGKILL"),
    "no word": ("import os\ndef train(given, log):\n    os._exit(5)\n", "ended with 5, expected 0"),
    "escapes": (
        "def train(given, log):\n    raise ValueError('\\x1b]0;title\\x07 plain')\n",
        "ValueError: \ufffd]0;title\ufffd plain",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_code_that_fails_is_one_line_that_says_where(folder: Path, bare: Path, kind: str) -> None:
    code, words = WRONG[kind]
    with pytest.raises(Fault) as failed:
        ran(folder, TrainSection(run="train.py:train", interpreter=str(bare)), {"train.py": code})
    assert words in failed.value.line() and "\n" not in failed.value.line()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("/nowhere/python", "got /nowhere/python, expected a program that is there"),
        ("/etc/passwd", "expected a program that may be executed"),
        ("/bin/false", "which ended with 1, expected a Python"),
        ("/bin/echo", "expected a Python, 3.7 or later"),
    ],
)
def test_an_interpreter_that_is_none_is_said_before_anything_runs(folder: Path, program: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        ran(folder, TrainSection(run="train.py:train", interpreter=program), {"train.py": STDLIB})
    assert words in refused.value.line() and "train.interpreter" in refused.value.line()


STEP = """
def clean(given, log):
    log(rows=3)
    with open(given.out + "/clean.csv", "w") as file:
        file.write("a")
    return {"rows": 3, "params": given.params["keep"], "inputs": sorted(given.inputs)}
"""


def test_a_step_of_its_own_is_called_by_another_python(folder: Path, bare: Path) -> None:
    (folder / "steps.py").write_text(STEP)
    steps = (StepSection(name="clean", run="steps.py:clean", interpreter=str(bare), params={"keep": "all"}),)
    asked = definition(steps=(*steps, *whole_flow("clean")))
    found = stepping.ran(folder, asked, rows(folder / "rows.csv"), folder)
    assert found.steps["clean"].figures == {"rows": 3, "params": "all", "inputs": []}
    assert found.files["clean/clean.csv"].read_text() == "a"


def whole_flow(after: str) -> tuple[StepSection, ...]:
    """The steps that make a model, behind another."""
    names = ("validate", "split", "train", "evaluate", "register")
    befores = (after, *names)
    return tuple(StepSection(name=each, uses=each, after=(befores[place],)) for place, each in enumerate(names))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (TrainSection(run="train.py:train"), "train.interpreter: got nothing"),
        (TrainSection(run="train.py:train", python="a.py:b", interpreter="/p"), "got python and run"),
        (TrainSection(run="../train.py:train", interpreter="/p"), "without . or .."),
        (TrainSection(run="train:train", interpreter="/p"), "FILE.py:FUNCTION"),
        (TrainSection(run="train.py:train", interpreter="venv/bin/python"), "an absolute path"),
        (TrainSection(interpreter="/p"), "none without run or command"),
        (TrainSection(python="a.py:b", code="."), "none without run or command"),
        (TrainSection(run="a.py:b", interpreter="/p", code="../x"), "without . or .."),
        (TrainSection(command=("-rf", "{rows}")), "expected a program"),
        (TrainSection(command=("",)), "expected a program"),
        (TrainSection(command=("a", "{target}")), "got {target}, expected {rows}"),
        (TrainSection(command=("a", "{interpreter}")), "got {interpreter}, expected {rows}"),
        (TrainSection(command=("a\0b",)), "words of at most"),
        (TrainSection(command=("a",) * 201), "got 201 words"),
    ],
)
def test_a_section_that_cannot_be_meant_is_refused(section: TrainSection, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_train(section)
    assert words in refused.value.line()


def test_what_is_taken_along_of_a_folder_is_the_code_alone(tmp_path: Path) -> None:
    left_out = ("__pycache__/train.pyc", ".git/config", "env/pyvenv.cfg", "rows.csv", "big.bin")
    for name in ("train.py", "part/deep.py", *left_out):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / IGNORE).write_text("# too large\n*.bin\n")
    assert files_in(tmp_path, (tmp_path / "rows.csv",)) == ["part/deep.py", "train.py"]


def test_a_folder_with_a_link_or_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="no plain file"):
        files_in(tmp_path)
    (tmp_path / "link").unlink()
    with pytest.raises(Invalid, match="no file in"):
        files_in(tmp_path)
    with (tmp_path / "rows").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(TooLarge, match=IGNORE):
        files_in(tmp_path)


def test_lines_that_are_none_are_said_a_few_times_and_harm_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    lines = own_process.Lines(lambda step, values: told.append((step, values)))
    bad = (b"[]", b"{", b'{"a": "b"}', b'{"a": true}', b'{"step": 1.5, "a": 1}', b'{"step": 3}', b'{"\\u001b": 1}')
    for line in (*bad, b"[" * 100_000):
        lines.take(line + b"\n")
    lines.take(b'{"a"')
    lines.take(b': 1}\n{"b": NaN, "step": 4}\n')
    assert [(step, list(values)) for step, values in told] == [(9, ["a"]), (4, ["b"])]
    assert capsys.readouterr().out.count("metrics: got") == own_process.MOST_COMPLAINTS
