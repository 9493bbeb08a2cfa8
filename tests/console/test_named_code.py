"""A function that a definition names: known or refused without a line of its file being run."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck.cli.named_code import check_names
from quarterstore.records.faults import Fault, Invalid

HAS = (
    "def train(frame): ...",
    "async def train(frame): ...",
    "class train: ...",
    "train = lambda frame: frame",
    "train: object = print",
    "from elsewhere import fit as train",
    "import train",
    "from elsewhere import *",
    "if True:\n    def train(frame): ...\nelse:\n    train = None",
    "try:\n    from fast import train\nexcept ImportError:\n    from slow import train",
    "with open('x') as train: ...",
    "for train in (print,): ...",
    "def made():\n    global train\n    train = print\nmade()",
    "globals()['tr' + 'ain'] = print",
    "def __getattr__(name): ...",
    "# -*- coding: latin-1 -*-\ndef train(frame): return '\xe9'",
)
HAS_NOT = (
    "def trian(frame): ...",
    "class A:\n    def train(self): ...",
    "def f():\n    train = 1",
    "print(train)",
    "",
    "'''def train(frame): ...'''",
)


def checked(folder: Path, text: str, named: str = "code.py:train") -> None:
    """The check of a file of this text."""
    (folder / "code.py").write_bytes(text.encode("latin-1"))
    check_names([("train.python", named)], folder)


@pytest.mark.parametrize("text", HAS)
def test_a_name_that_a_file_has_or_may_come_to_have_is_taken(tmp_path: Path, text: str) -> None:
    checked(tmp_path, text)


@pytest.mark.parametrize("text", HAS_NOT)
def test_a_name_that_a_file_has_not_is_refused_by_the_field_that_names_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid) as refused:
        checked(tmp_path, text)
    assert refused.value.field == "train.python" and "got train, expected" in refused.value.line()


def test_the_functions_that_are_there_are_said_and_the_nearest_first(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        checked(tmp_path, "import os\ndef helper(): ...\ndef trian(frame): ...\nlimit = 3\n")
    assert refused.value.message == "got train, expected one of helper, trian" and refused.value.nearest[0] == "trian"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def train(:\n", "line 1: "),
        ("x = 1\n  y = 2\n", "line 2: unexpected indent"),
        ("x = '\0'", "expected Python that parses"),
        ("x = " + "(" * 5000, "expected Python that parses"),
        ("x = " + "-" * 200_000 + "1", "expected Python that parses"),
    ],
)
def test_a_file_that_does_not_parse_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        checked(tmp_path, text)
    assert refused.value.field == "code.py" and words in refused.value.line()


def test_nothing_of_the_file_is_run(tmp_path: Path) -> None:
    checked(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\ndef train(frame): ...\n")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("named", ["code.py", "code.py:", "code.py:a b", "gone.py:train"])
def test_what_names_no_function_or_no_file_is_refused(tmp_path: Path, named: str) -> None:
    with pytest.raises(Fault) as refused:
        checked(tmp_path, "def train(frame): ...", named)
    assert "FILE.py:FUNCTION" in refused.value.line()
