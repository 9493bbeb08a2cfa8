"""What is asked again of the same rows is remembered, a fault is not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quarterdeckd.work import rows
from quarterstore.ledger.state import State
from quarterstore.records.faults import Invalid
from quarterstore.records.pipelines import CheckPipeline, Definition, Step
from quarterstore.shelf.artefacts import Artefacts

NOBODY: Any = None
FOUND = [Step("validate", "DONE")]


class Children:
    """What was started, in place of it: the same answer each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int, said: Any) -> None:
        self.count, self._code, self._said = 0, code, msgspec.json.encode(said)
        monkeypatch.setattr(rows, "_child", self._child)

    def _child(self, module: str, words: list[str], given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        self.count += 1
        return subprocess.CompletedProcess([], self._code, self._said, b"")


def asked(name: str = "p") -> CheckPipeline:
    return CheckPipeline(definition=Definition(name=name))


def test_the_same_rows_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children(monkeypatch, 0, FOUND)
    files = rows.RowFiles(State(), Artefacts(tmp_path, tmp_path))
    assert files.check(asked(), NOBODY, 0) == files.check(asked(), NOBODY, 0) == FOUND
    assert children.count == 1
    assert files.check(asked("q"), NOBODY, 0) == FOUND and children.count == 2


def test_what_is_wrong_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children(monkeypatch, 1, Invalid("no", field="y").record())
    files = rows.RowFiles(State(), Artefacts(tmp_path, tmp_path))
    for _ in range(2):
        with pytest.raises(Invalid, match="y: no"):
            files.check(asked(), NOBODY, 0)
    assert children.count == 2
