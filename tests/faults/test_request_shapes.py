"""V8, V9: requests made to weigh (deep, wide, long) are refused quickly and leave no weight behind; the words of a
refusal tell nothing of the machine."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import psutil
import pytest

from quarterstore.records import governance, packages, runs, search
from quarterstore.records.base import tag_of
from quarterstore.records.faults import Fault
from quarterstore.records.messages import ASKABLE
from tests.faults.test_numbers import filled, message

pytestmark = pytest.mark.fault
WITHIN = 2.0
"""Seconds of the daemon's processor time for one refusal; what is quadratic takes minutes."""
GROWTH = 50 * 1024 * 1024
WIDE = 200_000

SHAPES: list[tuple[str, Any]] = [
    ("deep brackets", search.SearchRuns(where="(" * 99_000)),
    ("deep brackets that close", search.SearchRuns(where="(" * 40_000 + "acc > 1" + ")" * 40_000)),
    ("many nots", search.SearchRuns(where="not " * 24_000 + "acc > 1")),
    ("many ands", search.SearchRuns(where=" and ".join(["acc > 1"] * 8_000))),
    ("a long text", search.SearchRuns(where="acc = '" + "x" * 10_000_000 + "'")),
    ("many orders", search.SearchRuns(order=("acc",) * WIDE)),
    ("many experiments", search.SearchRuns(experiments=("x",) * WIDE)),
    ("a long key of a page", search.SearchRuns(after="A" * 10_000_000)),
    ("a search kept with much", search.SaveSearch(name="x", where="acc > 1 or " * 9_000 + "acc > 1")),
    ("many runs in a tree", search.RunTree(runs=("run-none",) * WIDE)),
    ("many runs compared", runs.CompareRuns(runs=("run-none",) * WIDE)),
    ("many parameters", runs.StartRun(experiment="x", params={str(each): 1 for each in range(WIDE)})),
    ("a long parameter", runs.StartRun(experiment="x", params={"x" * 10_000_000: 1})),
    ("many tags of a run", runs.StartRun(experiment="x", tags={str(each): "" for each in range(WIDE)})),
    ("a long name", runs.StartRun(experiment="x" * 10_000_000)),
    ("a long patch", runs.StartRun(experiment="x", source=runs.Source(patch="x" * 10_000_000))),
    ("a long command", runs.StartRun(experiment="x", source=runs.Source(command="x" * 10_000_000))),
    ("many datasets", runs.StartRun(experiment="x", datasets=("a" * 64,) * WIDE)),
    ("many packages", packages.KeepPackages(packages=tuple(f"p{each}==1" for each in range(WIDE)))),
    ("a deep path", runs.LogArtefact(run="x", path="a/" * 100_000 + "b", digest="0" * 64, size=1)),
]


def used(process: psutil.Process) -> float:
    """Seconds of processor time so far, of all its threads."""
    times = process.cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize(("name", "shape"), SHAPES, ids=[name for name, _ in SHAPES])
def test_a_request_that_is_made_to_weigh_is_refused_quickly_and_leaves_nothing(
    daemon: Any, report: Any, name: str, shape: Any
) -> None:
    process = psutil.Process(daemon.process.pid)
    with daemon.client(timeout=30) as client:
        client.ask(search.ListSearches())
        before, began = process.memory_info().rss, used(process)
        try:
            client.ask(shape)
            answered = "answered"
        except Fault as fault:
            answered = fault.line()
        took = used(process) - began
        assert client.ask(search.ListSearches()) == []
        growth = process.memory_info().rss - before
    report("V8", 1, int(took > WITHIN), took=f"{took:.3f}", growth=growth // 2**20, words=answered[:60])
    assert answered != "answered", name
    assert "own" not in answered or "daemon" not in answered, answered
    assert len(answered) < 2000 and "\n" not in answered
    assert took < WITHIN
    assert growth < GROWTH + 3 * 16 * 1024 * 1024  # the message itself, as it came and as it was decoded


def test_a_long_list_in_an_expression_is_searched_in_time(daemon: Any) -> None:
    process = psutil.Process(daemon.process.pid)
    with daemon.client() as client:
        began = used(process)
        assert (
            client.ask(search.SearchRuns(where=f"name in ({', '.join([chr(39) + 'a' + chr(39)] * 19_000)})")).runs == []
        )
        assert used(process) - began < WITHIN


TELLS = re.compile(r"Traceback|\.py\b|BEGIN|secret|\bshm|0x[0-9a-f]{6}|(?<![\w.])/(?:tmp|home|root|usr|var|etc|proc)/")


def test_no_refusal_tells_a_path_a_line_of_code_or_a_secret(daemon: Any, report: Any) -> None:
    """Every message with texts, numbers and names that are wrong; the details are in the log, under an id."""
    told: list[str] = []
    count = 0
    with daemon.client(timeout=20) as client:
        for kind in ASKABLE:
            if tag_of(kind) in ("store.backup", "deployments.stop_serving", "transfer.export"):
                continue
            for number in (1, -1, 2**63, 0.5):
                try:
                    client.ask(msgspec.convert(message(kind, number), kind))
                except msgspec.ValidationError:
                    continue
                except Fault as fault:
                    count += 1
                    if TELLS.search(fault.line()) or str(daemon.home.root) in fault.line():
                        told.append(f"{tag_of(kind)}: {fault.line()[:300]}")
        assert client.ask(governance.VerifyAudit()).ok
    report("V9", count, len(told))
    assert told == [], "\n".join(told)
    assert count > 200


def test_the_fillers_fill(daemon: Any) -> None:
    """A filler that fills nothing would make every test above pass."""
    assert message(runs.EndRun, 0.5)["ended"] == 0.5
    assert filled(msgspec.inspect.type_info(list[int]), 2**63) == [2**63]
