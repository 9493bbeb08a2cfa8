"""What is asked again of the same rows is remembered, a fault is not; rows that are added are counted if they can
be."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from quarterdeckd.work import rows
from quarterstore.ledger.state import State
from quarterstore.records.datasets import AddDataset
from quarterstore.records.faults import Invalid, TimedOut
from quarterstore.records.pipelines import CheckPipeline, Definition, Step
from quarterstore.shelf.artefacts import Artefacts
from quarterstore.shelf.files import digest_of

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


def added(tmp_path: Path, **how: Any) -> tuple[rows.RowFiles, AddDataset]:
    artefacts = Artefacts(tmp_path, tmp_path)
    path = tmp_path / "rows.csv"
    path.write_bytes(b"x,y\n1,2\n")
    digest = digest_of(path)
    kept = artefacts.path(digest)
    kept.parent.mkdir(parents=True, exist_ok=True)
    path.rename(kept)
    return rows.RowFiles(State(), artefacts), AddDataset(digest=digest, name="d", format="csv", **how)


def test_rows_are_counted_unless_they_are_given_or_need_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children(monkeypatch, 0, 7)
    files, act = added(tmp_path)
    assert files.counted(act).rows == 7
    assert files.counted(replace(act, rows=3)).rows == 3
    assert files.counted(replace(act, count=False)).rows == 0
    assert children.count == 1


def test_rows_that_are_not_counted_in_time_are_kept_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*words: Any) -> Any:
        raise TimedOut("the rows were not read within 120 s", field="dataset")

    monkeypatch.setattr(rows, "_child", late)
    files, act = added(tmp_path)
    assert files.counted(act) == act
